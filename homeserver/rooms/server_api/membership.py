"""Joins, leaves and knocks of other servers' users through this server.

`make_*` gives a template, `send_*` takes the signed event: it becomes part of the room
and is passed on to the other servers in it.

Spec: server-server-api#joining-rooms
"""

from dataclasses import replace
from typing import Final

import structlog

from federation import auth_rules, signatures
from federation.canonical_json import JsonObject
from federation.errors import Malformed, Rejected
from federation.ids import UserId, parse_user_id, server_of
from federation.pdu import parse_pdu
from homeserver import errors
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer, Stream
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.live.room import Room
from homeserver.rooms import restricted
from homeserver.rooms.accept import Outcome, accept
from homeserver.rooms.build import Builder, Draft, NewEvent
from homeserver.rooms.judging import Incoming, LacksEvents
from homeserver.rooms.policy import NotRecommended, Unsigned, recommended
from homeserver.rooms.restricted import VOUCHER
from homeserver.rooms.server_api.admission import (
    admitted_room,
    member_event,
    with_valid_signature,
)
from homeserver.rooms.server_api.handover import (
    room_without_members,
    servers_in,
    whole_room,
)
from homeserver.rooms.stripped import stripped_events
from homeserver.server_keys.verify import Verified

_V1: Final = "/_matrix/federation/v1"
_V2: Final = "/_matrix/federation/v2"
_MEMBER: Final = "m.room.member"
# What a template leaves to the other server.
_ITS_OWN: Final = frozenset({"hashes", "signatures", "event_id"})

log = structlog.get_logger(__name__)


# ── Templates ────────────────────────────────────────────────────────────────────────


@route(
    "GET", f"{_V1}/make_join/{{roomId}}/{{userId}}", auth=by_server, limit=federation
)
async def make_join(ctx: Context, request: FederationRequest) -> Answer:
    """A join to complete and sign.

    Raises: M_FORBIDDEN, M_NOT_FOUND, M_INCOMPATIBLE_ROOM_VERSION,
    M_UNABLE_TO_AUTHORISE_JOIN, M_UNABLE_TO_GRANT_JOIN.

    Spec: server-server-api#get_matrixfederationv1make_joinroomiduserid
    """
    user_id = _user_of_origin(request)
    room = await admitted_room(ctx, request)
    _check_version(request, room, "1")
    content: JsonObject = {"membership": "join"}
    voucher = await _voucher_for(ctx, room, user_id)
    if voucher is not None:
        content[VOUCHER] = voucher
    return await _template(ctx, room, user_id, content)


@route(
    "GET", f"{_V1}/make_leave/{{roomId}}/{{userId}}", auth=by_server, limit=federation
)
async def make_leave(ctx: Context, request: FederationRequest) -> Answer:
    """A leave to complete and sign. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1make_leaveroomiduserid
    """
    user_id = _user_of_origin(request)
    room = await admitted_room(ctx, request)
    return await _template(ctx, room, user_id, {"membership": "leave"})


@route(
    "GET",
    f"{_V1}/make_knock/{{roomId}}/{{userId}}",
    auth=by_server,
    limit=federation,
    since="1.1",
)
async def make_knock(ctx: Context, request: FederationRequest) -> Answer:
    """A knock to complete and sign.

    Raises: M_FORBIDDEN, M_NOT_FOUND, M_INCOMPATIBLE_ROOM_VERSION.

    Spec: server-server-api#get_matrixfederationv1make_knockroomiduserid
    """
    user_id = _user_of_origin(request)
    room = await admitted_room(ctx, request)
    _check_version(request, room)
    return await _template(ctx, room, user_id, {"membership": "knock"})


def _user_of_origin(request: FederationRequest) -> UserId:
    user_id = request.path(UserId, "userId")
    if server_of(user_id) != request.origin:
        raise errors.forbidden(f"{user_id} is not a user of {request.origin}.")
    return user_id


def _check_version(request: FederationRequest, room: Room, *assumed: str) -> None:
    known = request.query_list("ver") or list(assumed)
    if room.version.identifier not in known:
        raise errors.incompatible_room_version(room.version.identifier)


async def _allowed_draft(ctx: Context, room: Room, new: NewEvent) -> Draft:
    """The event on top of the room. Raises: Rejected."""
    async with ctx.live.writers.hold(room) as writer:
        builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
        draft = await builder.draft(new)
    auth_rules.check(draft.pdu, draft.state, create=draft.create)
    return draft


async def _template(
    ctx: Context, room: Room, user_id: UserId, content: JsonObject
) -> Answer:
    """An event that the room would take now, without hashes and signatures."""
    new = NewEvent(_MEMBER, user_id, content, state_key=user_id)
    try:
        draft = await _allowed_draft(ctx, room, new)
    except Rejected:
        await ctx.live.follower.pull()  # another process may be a moment ahead
        room = await ctx.live.room(room.room_id) or room
        try:
            draft = await _allowed_draft(ctx, room, new)
        except Rejected as refused:
            raise errors.of_caller(refused) from None
    event = {name: v for name, v in draft.pdu.json.items() if name not in _ITS_OWN}
    event["origin"] = ctx.server_name
    return {"room_version": room.version.identifier, "event": event}


# ── Restricted rooms ─────────────────────────────────────────────────────────────────


async def _voucher_for(ctx: Context, room: Room, user_id: UserId) -> UserId | None:
    """The user of ours who vouches for a join, None when the join needs nobody.

    Raises: M_FORBIDDEN when no condition is met, M_UNABLE_TO_AUTHORISE_JOIN when we
    cannot tell, M_UNABLE_TO_GRANT_JOIN when nobody of ours may.

    Spec: server-server-api#restricted-rooms
    """
    state = await restricted.state_pdus(ctx.live, room, restricted.JOIN_RULES)
    join_rules = state.get(restricted.JOIN_RULES)
    member = room.members.get(user_id)
    if member is not None and member.membership in ("join", "invite"):
        return None
    if join_rules is None or not restricted.is_restricted(room.version, join_rules):
        return None
    is_sure = True
    for room_id in restricted.allowed_rooms(join_rules.content):
        there = await ctx.live.room(room_id)
        if there is None or not there.is_resident:
            is_sure = False
        elif there.is_joined(user_id):
            voucher = await restricted.find_voucher(ctx.live, room)
            if voucher is None:
                raise errors.unable_to_grant_join(
                    "Nobody of this server can let the user in; ask another one."
                )
            return voucher
    if not is_sure:
        raise errors.unable_to_authorise_join(
            "This server is not in all rooms that the join rules name; ask another."
        )
    raise errors.forbidden("The user is in none of the rooms that the join rules name.")


async def _vouched(ctx: Context, room: Room, verified: Verified) -> Verified:
    """The join, signed by us as well when a user of ours is to vouch for it."""
    pdu = verified.pdu
    voucher = pdu.content.get(VOUCHER)
    if not room.version.restricted_joins or not isinstance(voucher, str):
        return verified
    try:
        is_ours = server_of(parse_user_id(voucher)) == ctx.server_name
    except Malformed:
        is_ours = False
    if not is_ours:
        return verified
    # Are the conditions met still? The rules see to it that the voucher may invite.
    await _voucher_for(ctx, room, pdu.sender)
    signed = signatures.sign_event(pdu.json, room.version, ctx.server_name, ctx.key)
    return Verified(parse_pdu(signed, room.version), vouched=True)


# ── Signed events ────────────────────────────────────────────────────────────────────


@route(
    "PUT", f"{_V2}/send_join/{{roomId}}/{{eventId}}", auth=by_server, limit=federation
)
async def send_join_v2(ctx: Context, request: FederationRequest) -> Answer:
    """Take a join; the answer is the room's state before it, in part when asked so.

    Raises: M_INVALID_PARAM, M_FORBIDDEN, M_NOT_FOUND, and what `make_join` does.

    Spec: server-server-api#put_matrixfederationv2send_joinroomideventid
    """
    room = await admitted_room(ctx, request)
    verified = await _signed_event(ctx, request, room, "join")
    verified = await _vouched(ctx, room, verified)
    servers = servers_in(room)
    event = await _accept(ctx, room, verified)
    if request.query_bool("omit_members"):
        return Stream(room_without_members(ctx, room, event, servers))
    return Stream(whole_room(ctx, room, event))


@route(
    "PUT", f"{_V2}/send_leave/{{roomId}}/{{eventId}}", auth=by_server, limit=federation
)
async def send_leave_v2(ctx: Context, request: FederationRequest) -> Answer:
    """Take a leave. Raises: M_INVALID_PARAM, M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#put_matrixfederationv2send_leaveroomideventid
    """
    room = await admitted_room(ctx, request)
    await _accept(ctx, room, await _signed_event(ctx, request, room, "leave"))
    return {}


@route(
    "PUT",
    f"{_V1}/send_knock/{{roomId}}/{{eventId}}",
    auth=by_server,
    limit=federation,
    since="1.1",
)
async def send_knock(ctx: Context, request: FederationRequest) -> Answer:
    """Take a knock; the answer describes the room.

    Raises: M_INVALID_PARAM, M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#put_matrixfederationv1send_knockroomideventid
    """
    room = await admitted_room(ctx, request)
    await _accept(ctx, room, await _signed_event(ctx, request, room, "knock"))
    return {"knock_room_state": list(await stripped_events(ctx.live, room))}


async def _signed_event(
    ctx: Context, request: FederationRequest, room: Room, membership: str
) -> Verified:
    """The member event in the body, with the checks that have to come first.

    Raises: M_INVALID_PARAM.
    """
    pdu = member_event(request, room.version, request.json_object(), membership)
    if pdu.state_key != pdu.sender:
        raise errors.invalid_param("state_key must be the sender.")
    return await with_valid_signature(ctx, pdu)


async def _accept(ctx: Context, room: Room, verified: Verified) -> StoredEvent:
    """Put the event into the room. Raises: M_FORBIDDEN when the room refuses it."""
    try:
        outcome, event = await _accept_or_ask(ctx, room, verified)
    except NotRecommended as error:
        raise error.answer from None
    except LacksEvents:
        raise errors.invalid_param(
            "The event rests on events that this server does not have."
        ) from None
    if event is None or event.rejected is not None or event.soft_failed:
        why = None if event is None else event.rejected
        raise errors.forbidden(
            f"The room does not allow this: {why or 'its state has changed'}."
        )
    log.info("accepted", event_id=event.event_id, outcome=outcome.value)
    return event


async def _accept_or_ask(
    ctx: Context, room: Room, verified: Verified
) -> tuple[Outcome, StoredEvent | None]:
    """Accept the event, and ask the room's policy server about it if need be.

    Raises: NotRecommended, LacksEvents.
    """
    incoming = Incoming(verified.pdu, verified.vouched, outgoing=True)
    try:
        return await accept(ctx.db, ctx.live, room, incoming)
    except Unsigned as unsigned:
        pdu = await recommended(ctx, unsigned.server, verified.pdu)
        incoming = replace(incoming, pdu=pdu, recommended=True)
        return await accept(ctx.db, ctx.live, room, incoming)
