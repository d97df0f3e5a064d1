"""The endpoints that send events and read a room's state."""

from collections.abc import Iterable
from typing import Final

from orjson import Fragment

from federation import auth_rules
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import EventId, RoomId, UserId, parse_event_id, server_of
from homeserver import errors
from homeserver.context import Context
from homeserver.events.client_format import Sight, Viewer, render
from homeserver.events.stored import StoredEvent
from homeserver.http import replies
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live import loading
from homeserver.live.room import Room
from homeserver.rooms import membership
from homeserver.rooms.access import access
from homeserver.rooms.aliases import check_canonical_alias
from homeserver.rooms.build import NewEvent
from homeserver.rooms.members import Members, members_at, read_members
from homeserver.rooms.restricted import CREATE, POWER_LEVELS, state_pdus
from homeserver.rooms.send import send_event
from homeserver.rooms.viewing import state_sights

ROOM: Final = "/_matrix/client/v3/rooms/{roomId}"
REDACTION: Final = "m.room.redaction"
_CANONICAL_ALIAS: Final = ("m.room.canonical_alias", "")
# It becomes part of an index.
_MAX_TXN_ID: Final = 255


class Shown:
    """Writes events for the user and device that ask."""

    def __init__(self, ctx: Context, request: ClientRequest) -> None:
        self._viewer = Viewer(request.user_id, request.device_id)
        self._now_ms = ctx.clock.ms()

    def one(self, sight: Sight) -> Fragment:
        """The event as JSON."""
        return render(sight, self._viewer, self._now_ms)

    def all(self, sights: Iterable[Sight]) -> list[Fragment]:
        """The events as JSON, in order."""
        return [self.one(sight) for sight in sights]


def spliced(value: object) -> Reply:
    """The answer to JSON with events in it that are written already."""
    return Reply(body=replies.encode(value))


# ── Sending ──────────────────────────────────────────────────────────────────────────


def _txn(request: ClientRequest) -> tuple[str, str]:
    txn_id = request.path(str, "txnId")
    if len(txn_id) > _MAX_TXN_ID:
        raise errors.invalid_param(
            f"txnId: at most {_MAX_TXN_ID} characters are taken."
        )
    return request.device_id or "", txn_id


@route(
    "PUT", f"{ROOM}/send/{{eventType}}/{{txnId}}", auth=by_access_token, limit=writes
)
async def send_message(ctx: Context, request: ClientRequest) -> Answer:
    """Send a message event. Raises: M_FORBIDDEN, M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#put_matrixclientv3roomsroomidsendeventtypetxnid
    """
    room_id = request.path(RoomId, "roomId")
    event_type = request.path(str, "eventType")
    txn = _txn(request)
    content = request.event_content()
    room = await ctx.live.require_joined(room_id, request.user_id)
    redacts = None
    if event_type == REDACTION:
        redacts = _redacted_id(content)
        content = {key: value for key, value in content.items() if key != "redacts"}
        await _check_may_redact(ctx, room, request, redacts)
    new = NewEvent(event_type, request.user_id, content, redacts=redacts, txn=txn)
    return {"event_id": await send_event(ctx, room, new)}


def _redacted_id(content: JsonObject) -> EventId:
    redacts = content.get("redacts")
    if not isinstance(redacts, str):
        raise errors.bad_json("redacts: the ID of the event to redact is needed.")
    try:
        return parse_event_id(redacts)
    except Malformed as error:
        raise errors.bad_json(f"redacts: {error}.") from None


@route(
    "PUT", f"{ROOM}/redact/{{eventId}}/{{txnId}}", auth=by_access_token, limit=writes
)
async def redact_event(ctx: Context, request: ClientRequest) -> Answer:
    """Strip an event of its content. Raises: M_FORBIDDEN, M_NOT_FOUND, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3roomsroomidredacteventidtxnid
    """
    room_id = request.path(RoomId, "roomId")
    redacts = request.path(EventId, "eventId")
    txn = _txn(request)
    content = request.event_content(empty_ok=True)
    if not isinstance(content.get("reason", ""), str):
        raise errors.bad_json("reason: a string is needed.")
    content = {key: value for key, value in content.items() if key != "redacts"}
    room = await ctx.live.require_joined(room_id, request.user_id)
    await _check_may_redact(ctx, room, request, redacts)
    new = NewEvent(REDACTION, request.user_id, content, redacts=redacts, txn=txn)
    return {"event_id": await send_event(ctx, room, new)}


async def _check_may_redact(
    ctx: Context, room: Room, request: ClientRequest, event_id: EventId
) -> None:
    """Whether the user may redact this event; other servers would not object.

    Between servers, a server may redact what any of its users sent; among its users it
    is the author, those with the power, and the administrator.
    """
    target = await ctx.live.events.by_id(event_id)
    if target is None or target.room_nid != room.nid:
        raise errors.not_found("There is no such event in this room.")
    author = target.pdu.sender
    is_ours = server_of(author) == ctx.server_name
    if author == request.user_id or (is_ours and request.who.is_admin):
        return
    levels = auth_rules.PowerLevels.of(
        await state_pdus(ctx.live, room, POWER_LEVELS, CREATE), room.version
    )
    if levels.user(request.user_id) < levels.redact:
        raise errors.forbidden("You have too little power to redact others' events.")


@route(
    "PUT",
    f"{ROOM}/state/{{eventType}}/{{stateKey}}",
    auth=by_access_token,
    limit=writes,
    aliases=(f"{ROOM}/state/{{eventType}}",),
)
async def set_room_state_with_key(ctx: Context, request: ClientRequest) -> Answer:
    """Send a state event. Raises: M_FORBIDDEN, M_BAD_ALIAS, M_INVALID_PARAM.

    Spec: client-server-api#put_matrixclientv3roomsroomidstateeventtypestatekey
    """
    room_id = request.path(RoomId, "roomId")
    event_type = request.path(str, "eventType")
    state_key = request.path(str, "stateKey")
    content = request.event_content()
    sender = request.user_id
    if event_type == membership.MEMBER:
        event_id = await membership.set_membership(
            ctx, sender, room_id, state_key, content
        )
        return {"event_id": event_id}
    room = await ctx.live.require_joined(room_id, sender)
    if (event_type, state_key) == _CANONICAL_ALIAS:
        before = (await state_pdus(ctx.live, room, _CANONICAL_ALIAS)).values()
        known: JsonObject = next((pdu.content for pdu in before), {})
        await check_canonical_alias(ctx, room_id, content, known)
    new = NewEvent(event_type, sender, content, state_key)
    return {"event_id": await send_event(ctx, room, new)}


# ── Reading state ────────────────────────────────────────────────────────────────────


@route(
    "GET",
    f"{ROOM}/state/{{eventType}}/{{stateKey}}",
    auth=by_access_token,
    aliases=(f"{ROOM}/state/{{eventType}}",),
)
async def get_room_state_with_key(ctx: Context, request: ClientRequest) -> Answer:
    """One state event, or its content. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3roomsroomidstateeventtypestatekey
    """
    room_id = request.path(RoomId, "roomId")
    key = (request.path(str, "eventType"), request.path(str, "stateKey"))
    wanted = request.query_choice("format", "content", "event")
    may = await access(ctx.live, room_id, request.user_id)
    nid = await may.state_nid(ctx.live, key)
    sights = await state_sights(ctx.live, () if nid is None else (nid,))
    if not sights:
        raise errors.not_found("The room has no such state.")
    if wanted == "event":
        return spliced(Shown(ctx, request).one(sights[0]))
    return sights[0].event.shown.content


@route("GET", f"{ROOM}/state", auth=by_access_token)
async def get_room_state(ctx: Context, request: ClientRequest) -> Answer:
    """All state events: the present ones, or as they were when the user left.

    Spec: client-server-api#get_matrixclientv3roomsroomidstate

    Raises: M_FORBIDDEN.
    """
    room_id = request.path(RoomId, "roomId")
    may = await access(ctx.live, room_id, request.user_id)
    state = await may.state(ctx.live)
    sights = await state_sights(ctx.live, state.values())
    return spliced(Shown(ctx, request).all(sights))


@route("GET", f"{ROOM}/members", auth=by_access_token)
async def get_members_by_room(ctx: Context, request: ClientRequest) -> Answer:
    """Member events. Raises: M_FORBIDDEN, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv3roomsroomidmembers
    """
    room_id = request.path(RoomId, "roomId")
    memberships = ("join", "invite", "knock", "leave", "ban")
    wanted = Members(
        request.query_choice("membership", *memberships),
        request.query_choice("not_membership", *memberships),
    )
    may = await access(ctx.live, room_id, request.user_id)
    state = await members_at(ctx, may, request.query_str("at"))
    sights = await read_members(ctx.live, state, wanted)
    return spliced({"chunk": Shown(ctx, request).all(sights)})


@route("GET", f"{ROOM}/joined_members", auth=by_access_token)
async def get_joined_members_by_room(ctx: Context, request: ClientRequest) -> Answer:
    """Who is joined, with name and avatar. Raises: M_FORBIDDEN.

    Spec: client-server-api#get_matrixclientv3roomsroomidjoined_members
    """
    room_id = request.path(RoomId, "roomId")
    room = await ctx.live.require_joined(room_id, request.user_id)
    nids = {
        user_id: member.event_nid
        for user_id, member in room.members.items()
        if member.membership == "join"
    }
    events = await ctx.live.events.by_nids(nids.values())
    joined: dict[str, JsonValue] = {
        user_id: _names_in(events[nid]) for user_id, nid in nids.items()
    }
    return {"joined": joined}


def _names_in(event: StoredEvent) -> JsonObject:
    content = event.shown.content
    names: JsonObject = {}
    for name, field in (("display_name", "displayname"), ("avatar_url", "avatar_url")):
        value = content.get(field)
        if isinstance(value, str):
            names[name] = value
    return names


@route("GET", "/_matrix/client/v3/joined_rooms", auth=by_access_token)
async def get_joined_rooms(ctx: Context, request: ClientRequest) -> Answer:
    """The rooms that the user is joined to.

    Spec: client-server-api#get_matrixclientv3joined_rooms
    """
    user = await ctx.live.user(UserId(request.user_id))
    nids = [nid for nid, member in user.rooms.items() if member.membership == "join"]
    if not nids:
        return {"joined_rooms": []}
    async with ctx.db.read() as tx:
        rows = await loading.read_room_rows(tx, nids)
    return {"joined_rooms": [row.room_id for row in rows]}
