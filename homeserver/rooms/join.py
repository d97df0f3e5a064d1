"""Joining a room that this server is not in.

A server in the room hands over the state before the join. Every event of it is checked:
format, signatures, hash, and the rules by its own auth_events. All of it is stored
before one small step makes the room visible.

It may leave out the members. Then the room can be read and written to at once, and
`completing` fetches them.

Spec: server-server-api#joining-rooms, MSC3706, MSC3902
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from federation.bodies import MAX_PDUS, JoinedRoom, Transaction
from federation.canonical_json import JsonObject
from federation.errors import BadSignature, Malformed, ProtocolError, Rejected
from federation.ids import (
    EventId,
    RoomId,
    ServerName,
    UserId,
    parse_user_id,
    server_of,
)
from federation.pdu import Pdu, StateKey, parse_pdu
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.wire import calls, calls_rooms
from federation.wire.client import Limits
from homeserver.context import Context
from homeserver.live.room import Room
from homeserver.rooms.accept import Outcome, accept
from homeserver.rooms.build import NewEvent
from homeserver.rooms.checked import check_events
from homeserver.rooms.create import insert_room
from homeserver.rooms.handshake import VOUCHER, Completed, complete, through_any
from homeserver.rooms.judging import Incoming, LacksEvents
from homeserver.rooms.missing import Source, accept_with_what_it_needs
from homeserver.rooms.outliers import (
    places_of,
    root_of_state,
    store_outliers,
    stored_root,
)
from homeserver.rooms.send import send_event
from homeserver.server_keys.verify import Verified, verify

MAX_EVENTS: Final = 500_000
MAX_SERVERS: Final = 20_000
_FETCH_SECONDS: Final = 60.0
FEW_MEMBERS: Final = 500  # make a commit that is short enough
_GOODBYE: Final = "goodbye-"  # a transaction's ID

log = structlog.get_logger(__name__)


async def remote_join(
    ctx: Context,
    user_id: UserId,
    room_id: RoomId,
    via: Sequence[ServerName],
    content: JsonObject,
) -> None:
    """Make a user of ours a member of a room, with the help of one of these servers.

    Raises: M_FORBIDDEN and what else those servers say, one error for all of them.
    """
    async with ctx.turns.take(("join", room_id)):
        room = await ctx.live.room(room_id)
        if room is not None and room.is_joined(user_id):
            return
        # Somebody else of ours may have joined while this user waited.
        if await _join_here(ctx, room, user_id, content):
            return

        async def join(server: ServerName, limits: Limits) -> bool:
            await _join_through(ctx, server, limits, room_id, user_id, content)
            return True

        await through_any(ctx, "join", room_id, via, join)


async def _join_here(
    ctx: Context, room: Room | None, user_id: UserId, content: JsonObject
) -> bool:
    """Join without help, if we are in the room and its rules admit the user."""
    if room is None or not room.is_resident or room.is_partial:
        return False  # who knows whether this user is banned
    joins = {**content, "membership": "join"}
    try:
        await send_event(
            ctx, room, NewEvent("m.room.member", user_id, joins, state_key=user_id)
        )
    except Rejected:
        return False
    return True


async def _join_through(
    ctx: Context,
    server: ServerName,
    limits: Limits,
    room_id: RoomId,
    user_id: UserId,
    content: JsonObject,
) -> None:
    await _say_goodbye_first(ctx, server, limits, room_id)
    template = await calls_rooms.make_join(
        ctx.wire, server, room_id, user_id, ROOM_VERSIONS, limits=limits
    )
    completed = complete(ctx, template, user_id, "join", content)
    pdu = completed.pdu
    joined = await calls_rooms.send_join_v2(
        ctx.wire, server, room_id, pdu.event_id, pdu.json, omit_members=True
    )
    signed = await _as_signed(ctx, completed, joined)
    room = await ctx.live.room(room_id)
    if room is not None and room.is_resident:
        # We are in the room, and asked only for a signature.
        deadline = ctx.clock.monotonic() + _FETCH_SECONDS
        source = Source(ctx, room, (server,), deadline)
        outcome, event = await accept_with_what_it_needs(source, signed)
        _check_accepted(outcome, None if event is None else event.rejected)
        return
    lacks: tuple[ServerName, ...] = ()
    if joined.members_omitted:
        others = dict.fromkeys((server, *joined.servers_in_room))
        lacks = tuple(name for name in others if name != ctx.server_name)[:MAX_SERVERS]
    await _take_room(ctx, room_id, completed.version, signed, joined, lacks)


async def _say_goodbye_first(
    ctx: Context, server: ServerName, limits: Limits, room_id: RoomId
) -> None:
    """Tell the server what we said last in a room that we have left.

    A leave that is still on its way would arrive after the join and count against it.
    The room would be split: the others would leave us out, and tell us nothing of it.

    Raises: WireError, and then nobody is to join through that server.
    """
    room = await ctx.live.room(room_id)
    if room is None or room.is_resident:
        return
    heads = (await ctx.live.events.by_nids(room.head.extremities)).values()
    ours = [e.shown.json for e in heads if server_of(e.pdu.sender) == ctx.server_name]
    if not ours:
        return
    transaction = Transaction(ctx.server_name, ctx.clock.ms(), tuple(ours[:MAX_PDUS]))
    txn_id = f"{_GOODBYE}{secrets.token_urlsafe(12)}"
    await calls.send_transaction(ctx.wire, server, txn_id, transaction, limits=limits)


async def _as_signed(
    ctx: Context, completed: Completed, joined: JoinedRoom
) -> Verified:
    """Our join with the signatures that the resident server added.

    Raises: BadSignature when a server had to vouch for it and did not.
    """
    pdu = completed.pdu
    if joined.event is not None:
        try:
            given = parse_pdu(joined.event, completed.version)
            if given.event_id == pdu.event_id:
                pdu = (await verify(ctx, given)).pdu
        except ProtocolError as error:
            log.info("join comes back changed", reason=str(error))
    verified = await verify(ctx, pdu)
    if VOUCHER in pdu.content and not verified.vouched:
        raise BadSignature("the server that vouches for the join has not signed it")
    return verified


async def _take_room(
    ctx: Context,
    room_id: RoomId,
    version: RoomVersion,
    join: Verified,
    joined: JoinedRoom,
    lacks_members_of: tuple[ServerName, ...],
) -> None:
    """Check and store the room, then make it visible with our join.

    Raises: Malformed, Rejected when what was handed over is no such room.
    """
    if len(joined.state) + len(joined.auth_chain) > MAX_EVENTS:
        raise Malformed(f"the room's state has more than {MAX_EVENTS} events")
    state = await check_events(ctx, room_id, version, joined.state)
    chain = await check_events(ctx, room_id, version, joined.auth_chain, known=state)
    _check_create(version, state)
    _check_distinct(state)
    room = await insert_room(ctx, room_id, version)
    if room.version != version:
        raise Malformed(f"the room was known to have version {room.version}")
    await store_outliers(ctx, room, {**chain, **state})
    handed = await _handed_over(ctx, room, join.pdu, state, lacks_members_of)
    held = await ctx.live.events.by_ids(join.pdu.prev_events)
    missing = [
        event_id
        for event_id in join.pdu.prev_events
        if event_id not in held or held[event_id].state_after is None
    ]
    incoming = Incoming(
        join.pdu,
        join.vouched,
        state_before=handed.root,
        missing=tuple(missing),
        begins=True,
        lacks_members_of=handed.lacks_members_of,
        whole_root=handed.whole,
    )
    try:
        outcome, event = await accept(ctx.db, ctx.live, room, incoming)
    except LacksEvents as lacks:
        raise Malformed(f"the join's auth_events are missing: {lacks}") from None
    _check_accepted(outcome, None if event is None else event.rejected)


@dataclass(frozen=True, slots=True)
class _HandedOver:
    """The root of the state before our join, perhaps without most of the members.

    `whole` is the root with them, when they are stored.
    """

    root: int
    lacks_members_of: tuple[ServerName, ...]
    whole: int | None = None


async def _handed_over(
    ctx: Context,
    room: Room,
    join: Pdu,
    state: Mapping[EventId, Verified],
    lacks_members_of: tuple[ServerName, ...],
) -> _HandedOver:
    """What the stored events make of the state that we were given.

    Many members would make a long commit, for which everybody waits: then the room is
    begun without them, and they follow in small steps as if they had to be fetched.
    """
    members, servers = await asyncio.to_thread(_members_apart, ctx, join, state)
    if lacks_members_of or len(members) <= FEW_MEMBERS:
        root, count = await root_of_state(ctx, room, state)
        if count < len(state):
            log.info("state refused in part", refused=len(state) - count)
        return _HandedOver(root, lacks_members_of)
    wanted = await places_of(ctx, room, state.keys() - members)
    added = await places_of(ctx, room, members)
    base = room.head.state_root
    present = await ctx.live.states.nid_items(base)
    # Those who are in the room already, as we left it, are only brought up to date.
    wanted |= {key: nid for key, nid in added.items() if key in present}
    changes: dict[int, int | None] = {
        key: nid for key, nid in wanted.items() if present.get(key) != nid
    }
    changes.update((key, None) for key in present if key not in wanted)
    root = await stored_root(ctx, room, base, changes)
    whole = await stored_root(ctx, room, root, added)
    return _HandedOver(root, servers, whole)


def _members_apart(
    ctx: Context, join: Pdu, state: Mapping[EventId, Verified]
) -> tuple[set[EventId], tuple[ServerName, ...]]:
    """The members whom our join does not need, and the servers that are in the room."""
    members: set[EventId] = set()
    servers: dict[ServerName, None] = {}
    needed = set(join.auth_events)
    for event_id, verified in state.items():
        pdu = verified.pdu
        if pdu.type != "m.room.member":
            continue
        try:
            server = server_of(parse_user_id(pdu.state_key or ""))
        except Malformed:
            continue
        if event_id not in needed and server != ctx.server_name:
            members.add(event_id)
        if pdu.membership == "join" and server != ctx.server_name:
            servers[server] = None
    return members, tuple(servers)[:MAX_SERVERS]


def _check_create(version: RoomVersion, state: dict[EventId, Verified]) -> None:
    creates: list[Pdu] = [v.pdu for v in state.values() if v.pdu.is_create]
    if len(creates) != 1:
        raise Malformed("the room's state has not one create event")
    named = creates[0].content.get("room_version", "1")
    if named != version.identifier:
        raise Malformed(f"the create event is of room version {str(named)[:32]!r}")


def _check_distinct(state: Mapping[EventId, Verified]) -> None:
    seen: set[StateKey] = set()
    for verified in state.values():
        key = verified.pdu.key
        if key is None or key in seen:
            raise Malformed("the room's state has two events of one key, or a message")
        seen.add(key)


def _check_accepted(outcome: Outcome, rejected: str | None) -> None:
    if outcome in (Outcome.REJECTED, Outcome.SOFT_FAILED) or rejected is not None:
        raise Malformed(f"our join does not fit the room: {rejected or outcome.value}")
