"""The endpoints that send events and read a room's state."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import orjson
from orjson import Fragment

from federation.canonical_json import MAX_INTEGER, JsonObject
from federation.ids import EventId, RoomId, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.events.client_format import Sight, Viewer, render
from homeserver.events.sticky import MAX_STICKY_MS
from homeserver.events.stored import StoredEvent
from homeserver.http import replies
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer, Reply, Stream
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live import loading
from homeserver.rooms.access import access
from homeserver.rooms.members import Members, members_at, read_members
from homeserver.rooms.partial import joined_and_whole
from homeserver.rooms.posting import REDACTION, Author, Post, put_event, redact
from homeserver.rooms.redactions import redact_children
from homeserver.rooms.viewing import state_sights

ROOM: Final = "/_matrix/client/v3/rooms/{roomId}"
_DELAY: Final = "org.matrix.msc4140.delay"
_WITH_RELATIONS: Final = "org.matrix.msc3912.with_relations"
_NOT_OF_REDACTIONS: Final = frozenset(("redacts", "with_rel_types", _WITH_RELATIONS))
_KINDS: Final = 50
_MEMBERS: Final = 250  # written in one go
_STICKY: Final = "org.matrix.msc4354.sticky_duration_ms"
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


def _author(request: ClientRequest) -> Author:
    who = request.who
    return Author(who.user_id, who.is_admin, who.is_suspended)


def txn_of(request: ClientRequest) -> tuple[str, str]:
    """The device and the transaction ID in the path. Raises: M_INVALID_PARAM."""
    txn_id = request.path(str, "txnId")
    if len(txn_id) > _MAX_TXN_ID:
        raise errors.invalid_param(
            f"txnId: at most {_MAX_TXN_ID} characters are taken."
        )
    return request.device_id or "", txn_id


def _sticky_ms(request: ClientRequest) -> int | None:
    """How long the event is to be sticky. MSC4354."""
    if request.query_str(_STICKY) is None:
        return None
    duration_ms = request.query_int(_STICKY, 0)
    if duration_ms > MAX_STICKY_MS:
        raise errors.invalid_param(f"{_STICKY}: at most {MAX_STICKY_MS} is taken.")
    return duration_ms


def _timestamp(request: ClientRequest) -> int | None:
    """The time that an application service gives its event. Raises: M_INVALID_PARAM.

    Spec: application-service-api#timestamp-massaging
    """
    if request.who.service_id is None or request.query_str("ts") is None:
        return None
    ts = request.query_int("ts", 0)
    if ts > MAX_INTEGER:
        raise errors.invalid_param(f"ts: at most {MAX_INTEGER} is taken.")
    return ts


async def _put(ctx: Context, request: ClientRequest, post: Post) -> Answer:
    """Send it now, or schedule it when the client asks for that. MSC4140."""
    if request.query_str(_DELAY) is not None:
        delay_ms = request.query_int(_DELAY, 0, minimum=1)
        return {"delay_id": await ctx.put_off(ctx, request, post, delay_ms)}
    return {"event_id": await put_event(ctx, _author(request), post)}


@route(
    "PUT", f"{ROOM}/send/{{eventType}}/{{txnId}}", auth=by_access_token, limit=writes
)
async def send_message(ctx: Context, request: ClientRequest) -> Answer:
    """Send a message event. Raises: M_FORBIDDEN, M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#put_matrixclientv3roomsroomidsendeventtypetxnid
    """
    post = Post(
        room_id=request.path(RoomId, "roomId"),
        type=request.path(str, "eventType"),
        content=request.event_content(),
        txn=txn_of(request),
        origin_server_ts=_timestamp(request),
        sticky_ms=_sticky_ms(request),
    )
    return await _put(ctx, request, post)


@route(
    "PUT", f"{ROOM}/redact/{{eventId}}/{{txnId}}", auth=by_access_token, limit=writes
)
async def redact_event(ctx: Context, request: ClientRequest) -> Answer:
    """Strip an event of its content. Raises: M_FORBIDDEN, M_NOT_FOUND, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3roomsroomidredacteventidtxnid
    """
    room_id = request.path(RoomId, "roomId")
    redacts = request.path(EventId, "eventId")
    txn = txn_of(request)
    content = request.event_content(empty_ok=True)
    if not isinstance(content.get("reason", ""), str):
        raise errors.bad_json("reason: a string is needed.")
    rel_types = _rel_types(content)
    content = {k: v for k, v in content.items() if k not in _NOT_OF_REDACTIONS}
    author = _author(request)
    post = Post(room_id, REDACTION, content, txn=txn)
    event_id = await redact(ctx, author, post, redacts)
    room = await ctx.live.room(room_id) if rel_types else None
    if room is not None and room.is_joined(author.user_id):
        await redact_children(ctx, room, author, redacts, rel_types, content)
    return {"event_id": event_id}


def _rel_types(content: JsonObject) -> list[str]:
    """Which kinds of children are to be redacted as well. MSC3912."""
    given = content.get("with_rel_types", content.get(_WITH_RELATIONS, []))
    kinds = given if isinstance(given, list) else [None]
    strings = [each for each in kinds if isinstance(each, str)]
    if len(strings) < len(kinds) or len(kinds) > _KINDS:
        raise errors.bad_json(f"with_rel_types: at most {_KINDS} strings are needed.")
    return strings


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
    post = Post(
        room_id=request.path(RoomId, "roomId"),
        type=request.path(str, "eventType"),
        content=request.event_content(),
        state_key=request.path(str, "stateKey"),
        origin_server_ts=_timestamp(request),
        sticky_ms=_sticky_ms(request),
    )
    return await _put(ctx, request, post)


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
    room = await joined_and_whole(ctx.live, room_id, request.user_id)
    nids = [
        (user_id, member.event_nid)
        for user_id, member in room.members.items()
        if member.membership == "join"
    ]
    return Stream(_joined(ctx, nids))


async def _joined(
    ctx: Context, nids: Sequence[tuple[UserId, int]]
) -> AsyncIterator[bytes]:
    """The members with their names, some at a time: there may be 100,000 of them."""
    yield b'{"joined":{'
    comma = b""
    for start in range(0, len(nids), _MEMBERS):
        some = nids[start : start + _MEMBERS]
        events = await ctx.live.events.by_nids(nid for _, nid in some)
        names = {user_id: _names_in(events[nid]) for user_id, nid in some}
        yield comma + orjson.dumps(names)[1:-1]
        comma = b","
        await asyncio.sleep(0)  # others have their turn, also when all was at hand
    yield b"}}"


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
