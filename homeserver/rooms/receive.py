"""The receipt of PDUs that another server pushes.

Events of several rooms are handled side by side, those of one room in order. An event
that rests on what we lack makes nobody wait but its own sender.

Spec: server-server-api#pdus
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from federation.canonical_json import JsonObject
from federation.errors import BadSignature, ProtocolError
from federation.ids import EventId, RoomId, ServerName, server_of
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.db.errors import DatabaseUnavailable
from homeserver.errors import MatrixError
from homeserver.events.stored import StoredEvent
from homeserver.live.committer import Overloaded
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.rooms import acl, aside
from homeserver.rooms.accept import Outcome, accept_all
from homeserver.rooms.judging import Incoming, LacksEvents
from homeserver.rooms.missing import (
    Source,
    Unfetchable,
    accept_with_what_it_needs,
)
from homeserver.rooms.policy import Unsigned, judge_all
from homeserver.rooms.unverified import keep, lacking_key
from homeserver.server_keys.verify import Verified, verify_all

# Event ID → why it was not taken, None when it was.
Results = dict[str, str | None]

# The sender gives up after a minute, and repeats all of it.
RECEIVE_SECONDS: Final = 45.0
_JOIN_SECONDS: Final = 20.0

log = structlog.get_logger(__name__)


async def receive_pdus(
    ctx: Context, origin: ServerName, raws: Sequence[JsonObject]
) -> Results:
    """Take the PDUs of a transaction. One that is wrong spoils no other.

    Raises: DatabaseUnavailable, so that the origin tries again.
    """
    by_room: dict[RoomId, list[JsonObject]] = {}
    for raw in raws:
        room_id = raw.get("room_id")
        # A create event of version 12 has none; nobody needs to push us one.
        if isinstance(room_id, str):
            by_room.setdefault(RoomId(room_id), []).append(raw)
    deadline = ctx.clock.monotonic() + RECEIVE_SECONDS
    of_rooms = await asyncio.gather(
        *(
            _receive_in_room(ctx, origin, room_id, mine, deadline)
            for room_id, mine in by_room.items()
        )
    )
    return {event_id: why for results in of_rooms for event_id, why in results.items()}


async def _receive_in_room(
    ctx: Context,
    origin: ServerName,
    room_id: RoomId,
    raws: Sequence[JsonObject],
    deadline: float,
) -> Results:
    room = await _room(ctx, room_id)
    if room is None:
        return {}
    results: Results = {}
    pdus = _parse(raws, room.version, room_id)
    if not await acl.is_allowed(ctx.live, room, origin):
        return dict.fromkeys(pdus, "the room's ACL does not admit your server")
    verified: list[Verified] = []
    verdicts = await verify_all(ctx, list(pdus.values()))
    for event_id, verdict in zip(pdus, verdicts, strict=True):
        if isinstance(verdict, BadSignature):
            results[event_id] = str(verdict)
            await _keep(ctx, origin, room, pdus[event_id], (verdict,))
        else:
            verified.append(verdict)
    if not room.is_resident:
        verified = await _set_aside(ctx, origin, room, verified, results)
    rest = await _accept_what_is_complete(ctx, room, verified, results)
    judgements = await judge_all(ctx, room, (each.pdu for each in rest))
    for each in rest:
        servers = dict.fromkeys((origin, server_of(each.pdu.sender)))
        others = [server for server in servers if server != ctx.server_name]
        source = Source(ctx, room, others, deadline, judgements=judgements)
        if not room.is_resident:
            source.states_left = 0
        why = await _accept_incomplete(source, each)
        results[each.pdu.event_id] = why
        if why is not None and source.dropped:
            await _keep(ctx, origin, room, each.pdu, source.dropped.values())
    return results


async def _keep(
    ctx: Context,
    origin: ServerName,
    room: Room,
    pdu: Pdu,
    dropped: Iterable[BadSignature],
) -> None:
    """Keep an event that was not taken for want of a key only."""
    server = lacking_key(dropped)
    if (
        server is not None
        and room.is_resident
        and not await ctx.live.events.nids_of((pdu.event_id,))
    ):
        await keep(ctx, room, origin, pdu, server)


async def _set_aside(
    ctx: Context,
    origin: ServerName,
    room: Room,
    events: Sequence[Verified],
    results: Results,
) -> list[Verified]:
    """Take what there is to take in a room that we are not in; gives the rest.

    Who sends us events of a room that we have left believes that we are in it. That
    may be right: our user was sent away by somebody who, on another branch, had no
    power to. Such events are judged as ever, and may bring us back in; but of a room
    that we were never in we can judge nothing.
    """
    rest: list[Verified] = []
    for each in events:
        why = await aside.receive(ctx, origin, room, each)
        if why is not None and room.head.extremities:
            rest.append(each)
        else:
            results[each.pdu.event_id] = why
    return rest


async def _room(ctx: Context, room_id: RoomId) -> Room | None:
    """The room, or None when we know nothing of it.

    Who has just handed us a room pushes its next events while we store it.
    """
    room = await ctx.live.room(room_id)
    if (room is None or not room.is_resident) and ctx.turns.is_taken(("join", room_id)):
        try:
            async with (
                asyncio.timeout(_JOIN_SECONDS),
                ctx.turns.take(("join", room_id)),
            ):
                pass
        except (TimeoutError, MatrixError):
            return room
        room = await ctx.live.room(room_id)
    if room is not None and not room.is_resident:
        await ctx.live.follower.pull()  # another process may just have joined
    return room


def _parse(
    raws: Sequence[JsonObject], version: RoomVersion, room_id: RoomId
) -> Mapping[EventId, Pdu]:
    """Check 1: the events that have the right format, the shallowest first."""
    pdus = []
    for raw in raws:
        try:
            pdus.append(parse_pdu(raw, version))
        except ProtocolError as error:
            log.info("event dropped", room_id=room_id, reason=str(error))
    pdus.sort(key=lambda pdu: pdu.depth)
    return {pdu.event_id: pdu for pdu in pdus}


async def _accept_what_is_complete(
    ctx: Context, room: Room, events: Sequence[Verified], results: Results
) -> list[Verified]:
    """Accept events in their order; gives those that something is to be fetched for."""
    incomings = [Incoming(each.pdu, each.vouched) for each in events]
    try:
        outcomes = await accept_all(ctx.db, ctx.live, room, incomings)
    except Conflict as error:
        outcomes = [error for _ in events]
    rest: list[Verified] = []
    for each, outcome in zip(events, outcomes, strict=True):
        if isinstance(outcome, LacksEvents | Unsigned | Overloaded):
            rest.append(each)
        elif isinstance(outcome, Exception):
            results[each.pdu.event_id] = _failure(each.pdu, outcome)
        else:
            results[each.pdu.event_id] = _result(*outcome)
    return rest


async def _accept_incomplete(source: Source, event: Verified) -> str | None:
    try:
        return _result(*await accept_with_what_it_needs(source, event))
    except Exception as error:  # noqa: BLE001 - one bad PDU spoils no other
        return _failure(event.pdu, error)


def _result(outcome: Outcome, event: StoredEvent | None) -> str | None:
    if event is not None and event.rejected is not None:
        return event.rejected
    return "rejected" if outcome is Outcome.REJECTED else None


def _failure(pdu: Pdu, error: BaseException) -> str:
    """What to tell of an event that could not be judged."""
    match error:
        case DatabaseUnavailable() | asyncio.CancelledError():
            raise error
        case Unfetchable():
            log.info("event dropped", event_id=pdu.event_id, reason=str(error))
            return str(error)
        case Conflict():
            return "the room is busy"
        case _:
            log.error("event failed", event_id=pdu.event_id, exc_info=error)
            return "the event could not be processed"
