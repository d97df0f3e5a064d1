"""Knocks, refusals and invites that need another server.

Spec: server-server-api#knocking-rooms, server-server-api#inviting-to-a-room,
server-server-api#leaving-rooms-rejecting-invites
"""

import secrets
from collections.abc import Sequence
from typing import Final

import structlog

from federation import signatures
from federation.bodies import Invite
from federation.canonical_json import JsonObject
from federation.errors import BadSignature, Malformed, ProtocolError
from federation.ids import (
    RoomId,
    ServerName,
    UserId,
    parse_server_name,
    parse_user_id,
    server_of,
)
from federation.pdu import Pdu, parse_pdu, reference_pairs
from federation.room_versions import ROOM_VERSIONS, EventIdFormat
from federation.wire import calls_rooms
from federation.wire.client import Limits
from federation.wire.errors import WireError
from homeserver import errors
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.live.room import Room
from homeserver.rooms.accept import Outcome, accept
from homeserver.rooms.aside import set_membership
from homeserver.rooms.build import Draft
from homeserver.rooms.create import insert_room
from homeserver.rooms.handshake import complete, refusal, through_any
from homeserver.rooms.judging import Incoming
from homeserver.rooms.stripped import (
    read_stripped_events,
    read_stripped_state,
    strip_pdu,
    stripped_events,
)
from homeserver.server_keys.verify import is_signed_by

_PENDING: Final = frozenset({"invite", "knock"})

log = structlog.get_logger(__name__)


# ── Knocking ─────────────────────────────────────────────────────────────────────────


async def remote_knock(
    ctx: Context,
    user_id: UserId,
    room_id: RoomId,
    via: Sequence[ServerName],
    content: JsonObject,
) -> None:
    """Ask to be let into a room, with the help of one of these servers.

    Raises: M_FORBIDDEN and what else those servers say, one error for all of them.
    """

    async def knock(server: ServerName, limits: Limits) -> bool:
        template = await calls_rooms.make_knock(
            ctx.wire, server, room_id, user_id, ROOM_VERSIONS, limits=limits
        )
        completed = complete(ctx, template, user_id, "knock", content)
        pdu, version = completed.pdu, completed.version
        told = await calls_rooms.send_knock(
            ctx.wire, server, room_id, pdu.event_id, pdu.json
        )
        room = await insert_room(ctx, room_id, version)
        if room.version != version:
            raise Malformed(f"the room was known to have version {room.version}")
        _, stripped = await read_stripped_events(ctx, room_id, version, told)
        await set_membership(ctx, room, pdu, [*stripped, strip_pdu(pdu)])
        return True

    async with ctx.turns.take(("join", room_id)):
        await through_any(ctx, "knock on", room_id, via, knock)


# ── Refusing an invite, taking a knock back ──────────────────────────────────────────


async def remote_leave(ctx: Context, user_id: UserId, room_id: RoomId) -> None:
    """Refuse an invite to, or take back a knock on, a room that we are not in.

    When no server helps, the user is rid of it all the same, and only the room does
    not learn of it.

    Raises: M_FORBIDDEN when there is nothing to refuse.
    """
    async with ctx.turns.take(("join", room_id)):
        room = await ctx.live.room(room_id)
        member = None if room is None else await ctx.live.membership(user_id, room.nid)
        if room is None or member is None or member.membership not in _PENDING:
            raise errors.forbidden("You are not in this room.")
        pending = await ctx.live.events.by_nid(member.event_nid)
        if pending is None:
            raise errors.forbidden("You are not in this room.")
        servers = await _servers_behind(ctx, room, user_id, pending.pdu)
        try:
            leave = await through_any(
                ctx,
                "leave",
                room_id,
                servers,
                lambda server, limits: _leave_through(
                    ctx, server, limits, room_id, user_id
                ),
                insists=False,
            )
        except MatrixError as error:
            log.info("left without telling", room_id=room_id, reason=str(error))
            leave = _leave_alone(ctx, room, user_id, pending.pdu)
        await set_membership(ctx, room, leave, None)


async def _leave_through(
    ctx: Context, server: ServerName, limits: Limits, room_id: RoomId, user_id: UserId
) -> Pdu:
    template = await calls_rooms.make_leave(
        ctx.wire, server, room_id, user_id, limits=limits
    )
    pdu = complete(ctx, template, user_id, "leave", {}).pdu
    await calls_rooms.send_leave_v2(ctx.wire, server, room_id, pdu.event_id, pdu.json)
    return pdu


async def _servers_behind(
    ctx: Context, room: Room, user_id: UserId, pending: Pdu
) -> list[ServerName]:
    """Servers that are likely to be in the room: who invited, and whom we know of."""
    async with ctx.db.read() as tx:
        stripped = await read_stripped_state(tx, room.nid, user_id)
    servers = [server_of(pending.sender)]
    _, colon, domain = room.room_id.partition(":")
    if colon:
        servers.append(parse_server_name(domain))
    for event in stripped:
        sender = event.get("sender")
        if isinstance(sender, str):
            servers.append(server_of(parse_user_id(sender)))
    return [s for s in dict.fromkeys(servers) if s != ctx.server_name]


def _leave_alone(ctx: Context, room: Room, user_id: UserId, pending: Pdu) -> Pdu:
    """A leave that nobody else will see."""
    version = room.version
    before = reference_pairs((pending,), version)
    event: JsonObject = {
        "type": "m.room.member",
        "room_id": room.room_id,
        "sender": user_id,
        "state_key": user_id,
        "content": {"membership": "leave"},
        "depth": pending.depth + 1,
        "origin_server_ts": ctx.clock.ms(),
        "prev_events": before,
        "auth_events": before,
    }
    if version.event_id_format is EventIdFormat.FROM_SERVER:
        event["event_id"] = f"${secrets.token_urlsafe(18)}:{ctx.server_name}"
    signed = signatures.hash_and_sign_event(event, version, ctx.server_name, ctx.key)
    return parse_pdu(signed, version)


# ── Inviting ─────────────────────────────────────────────────────────────────────────


async def remote_invite(ctx: Context, room: Room, draft: Draft) -> None:
    """Have the invited user's server sign an invite, then put it into the room.

    Raises: what that server says, M_UNKNOWN with 502 when it does not answer;
    M_FORBIDDEN when the room has changed meanwhile.
    """
    pdu = draft.pdu
    server = server_of(parse_user_id(pdu.state_key or ""))
    invite = Invite(
        room_version=room.version.identifier,
        event=pdu.json,
        invite_room_state=await stripped_events(
            ctx.live, room, ("m.room.member", pdu.sender)
        ),
    )
    try:
        answer = await calls_rooms.send_invite_v2(
            ctx.wire, server, room.room_id, pdu.event_id, invite
        )
        signed = await _countersigned(ctx, pdu, server, answer)
    except (WireError, ProtocolError) as error:
        log.info("invite failed", room_id=room.room_id, to=server, reason=str(error))
        raise refusal("Cannot invite the user", [(server, error)]) from error
    incoming = Incoming(signed, recommended=True, outgoing=True)
    outcome, _ = await accept(ctx.db, ctx.live, room, incoming)
    if outcome in (Outcome.REJECTED, Outcome.SOFT_FAILED):
        raise errors.forbidden("The room does not allow this invite any more.")


async def _countersigned(
    ctx: Context, pdu: Pdu, server: ServerName, answer: JsonObject
) -> Pdu:
    """Our invite with the other server's signature; nothing else is taken over.

    Raises: BadSignature, Malformed.
    """
    given = answer.get("signatures")
    theirs = given.get(server) if isinstance(given, dict) else None
    ours = pdu.json["signatures"]
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        raise BadSignature(f"{server} has not signed the invite")
    signed = parse_pdu(
        {**pdu.json, "signatures": {**ours, server: theirs}}, pdu.version
    )
    if not await is_signed_by(ctx, signed, server):
        raise BadSignature(f"{server} has not signed the invite that it was sent")
    return signed
