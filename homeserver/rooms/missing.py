"""Getting what an event from another server rests on and what we lack.

Missing auth_events come by `event_auth`. Missing prev_events come by
`get_missing_events`; where the gap stays, the state before the event comes by
`state_ids` and the gap is noted, to be filled when a client reads that far back. All of
it is bounded in number and time, and no lock is held while another server answers.

Spec: server-server-api#backfilling-and-retrieving-missing-events
"""

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from federation.bodies import MissingEventsQuery
from federation.canonical_json import JsonObject
from federation.errors import BadSignature
from federation.ids import EventId, ServerName
from federation.pdu import Pdu
from federation.wire import calls
from federation.wire.client import DEFAULT_LIMITS, Limits
from federation.wire.errors import WireError
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.live.committer import Overloaded
from homeserver.live.room import Room
from homeserver.rooms.accept import Outcome, accept, accept_all
from homeserver.rooms.checked import check_events
from homeserver.rooms.judging import Incoming, LacksEvents
from homeserver.rooms.outliers import root_of_state, store_outliers
from homeserver.rooms.policy import Judgement, Unsigned, judge
from homeserver.server_keys.verify import KeyUnknown, Verified

T = TypeVar("T")

# Per request and gap: "the maximum number of events to retrieve", five times.
MISSING_LIMIT: Final = 20
_MISSING_REQUESTS: Final = 5
_EARLIEST: Final = 20
_TRIES: Final = 5
_STATES: Final = 10
# Fewer events than this are asked for one by one, more as a whole.
_ONE_BY_ONE: Final = 50
_AT_ONCE: Final = 8
_AUTH_ROUNDS: Final = 5
_MAX_AUTH_EVENTS: Final = 100
_BUSY_SECONDS: Final = 0.2
# Who signed an event and has not answered for so long holds up nobody any more.
_GONE_SECONDS: Final = 3600.0
_AUTH_LIMITS: Final = Limits(seconds=30.0, max_bytes=50 * 2**20)
_MISSING_LIMITS: Final = Limits(seconds=20.0, max_bytes=10 * 2**20)
_STATE_LIMITS: Final = Limits(seconds=60.0, max_bytes=200 * 2**20)

log = structlog.get_logger(__name__)


class Unfetchable(Exception):  # noqa: N818 - reads as what happened
    """What an event rests on is not to be had; the text says what."""


@dataclass(slots=True)
class Source:
    """Where to ask for what is missing in a room, and until when.

    `deadline` is by the context's monotonic clock.
    """

    ctx: Context
    room: Room
    servers: Sequence[ServerName]
    deadline: float
    states_left: int = field(default=_STATES)
    # Events whose signatures do not hold.
    dropped: dict[EventId, BadSignature] = field(default_factory=dict)
    # What the room's policy server has said already.
    judgements: dict[EventId, Judgement] = field(default_factory=dict)

    async def ask(
        self, call: Callable[[ServerName, Limits], Awaitable[T]], limits: Limits
    ) -> T:
        """The answer of the first server that gives one. Raises: Unfetchable."""
        why = "no server to ask"
        for server in self.servers:
            left = self.deadline - self.ctx.clock.monotonic()
            if left <= 0:
                raise Unfetchable("no time left to fetch what the event rests on")
            try:
                return await call(
                    server, replace(limits, seconds=min(limits.seconds, left))
                )
            except WireError as error:
                why = str(error)
        raise Unfetchable(why)

    async def check(self, raws: Sequence[JsonObject]) -> dict[EventId, Verified]:
        """Those events of the room that pass checks 1 to 3."""
        return await check_events(
            self.ctx,
            self.room.room_id,
            self.room.version,
            raws,
            dropped=self.dropped,
        )

    def is_gone(self, event_id: EventId) -> bool:
        """Whether an event of another server can be counted as one that never was."""
        match self.dropped.get(event_id):
            case None:
                return False
            case KeyUnknown() as unknown:
                since = self.ctx.wire.backoff.failing_since(unknown.server)
                now = self.ctx.clock.ms() / 1000
                return since is not None and now - since > _GONE_SECONDS
            case _:
                return True


async def accept_with_what_it_needs(
    source: Source,
    verified: Verified,
    *,
    asks_for_previous: bool = True,
    outgoing: bool = False,
) -> tuple[Outcome, StoredEvent | None]:
    """Judge and store an event, after fetching whatever that takes.

    Raises: Unfetchable; Conflict when other processes keep writing to the room.
    """
    ctx, room = source.ctx, source.room
    incoming = Incoming(verified.pdu, verified.vouched, outgoing=outgoing)
    for _ in range(_TRIES):
        try:
            return await accept(ctx.db, ctx.live, room, incoming)
        except LacksEvents as lacks:
            if lacks.auth_events:
                await _fetch_auth_events(source, verified.pdu, lacks.auth_events)
            elif asks_for_previous:
                asks_for_previous = False
                await _accept_previous(source, verified.pdu)
            else:
                root = await _fetch_state_before(source, verified.pdu)
                incoming = replace(
                    incoming, state_before=root, missing=lacks.prev_events
                )
        except Unsigned as unsigned:
            said = source.judgements.get(verified.pdu.event_id)
            said = said or await judge(ctx, unsigned.server, verified.pdu)
            incoming = replace(incoming, pdu=said.pdu, recommended=said.is_recommended)
        except Overloaded:
            await asyncio.sleep(_BUSY_SECONDS)
    raise Unfetchable("its auth_events or prev_events are not to be had")


# ── auth_events ──────────────────────────────────────────────────────────────────────


async def _fetch_auth_events(
    source: Source, pdu: Pdu, lacking: Sequence[EventId]
) -> None:
    """Store the event's auth chain, as far as others have it."""
    try:
        chain = await source.ask(
            lambda server, limits: calls.get_event_auth(
                source.ctx.wire, server, source.room.room_id, pdu.event_id, limits
            ),
            _AUTH_LIMITS,
        )
    except Unfetchable as error:
        log.debug("no auth chain", event_id=pdu.event_id, reason=str(error))
    else:
        await store_outliers(source.ctx, source.room, await source.check(chain))
    events = source.ctx.live.events
    rest = set(lacking) - (await events.nids_of(lacking)).keys()
    if rest:
        await _fetch_chain(source, rest)


async def _fetch_chain(source: Source, wanted: set[EventId]) -> None:
    """Walk up the auth chain event by event, then store what was found."""
    found: dict[EventId, Verified] = {}
    for _ in range(_AUTH_ROUNDS):
        new = await fetch_events(source, wanted)
        found.update(new)
        above = {e for v in new.values() for e in v.pdu.auth_events} - found.keys()
        wanted = above - (await source.ctx.live.events.nids_of(above)).keys()
        if not wanted or len(found) + len(wanted) > _MAX_AUTH_EVENTS:
            break
    await store_outliers(source.ctx, source.room, found)


async def fetch_events(
    source: Source, event_ids: Iterable[EventId]
) -> dict[EventId, Verified]:
    """Those events, asked for one by one, that are to be had and pass checks 1 to 3."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(event_id: EventId) -> JsonObject | None:
        async with slots:
            try:
                return await source.ask(
                    lambda server, limits: calls.get_event(
                        source.ctx.wire, server, event_id, limits
                    ),
                    DEFAULT_LIMITS,
                )
            except Unfetchable as error:
                log.debug("no event", event_id=event_id, reason=str(error))
                return None

    wanted = set(event_ids)
    raws = await asyncio.gather(*map(fetch, wanted))
    checked = await source.check([raw for raw in raws if raw is not None])
    return {e: verified for e, verified in checked.items() if e in wanted}


# ── prev_events ──────────────────────────────────────────────────────────────────────


async def _accept_previous(source: Source, pdu: Pdu) -> None:
    """Fetch what came before the event since the last that we have, and accept it."""
    async with source.ctx.turns.take(("gap", source.room.nid, source.servers[0])):
        found = await _fetch_previous(source, pdu)
        for earlier in await _rest_of(source, found):
            try:
                await accept_with_what_it_needs(
                    source, earlier, asks_for_previous=False
                )
            except Unfetchable as error:
                log.info(
                    "event dropped",
                    event_id=earlier.pdu.event_id,
                    reason=str(error),
                )


async def _rest_of(source: Source, found: Sequence[Verified]) -> list[Verified]:
    """Accept those that need nothing else, all together; the others."""
    incomings = [Incoming(each.pdu, each.vouched) for each in found]
    outcomes = await accept_all(source.ctx.db, source.ctx.live, source.room, incomings)
    return [
        each
        for each, outcome in zip(found, outcomes, strict=True)
        if isinstance(outcome, Exception)
    ]


async def _fetch_previous(source: Source, pdu: Pdu) -> list[Verified]:
    """Events between what we have and the event, the shallowest first.

    A server that does not know our extremities yet gives more than that: history from
    before we were in the room. It is no news, and nothing is to rest on it.
    """
    ctx, room = source.ctx, source.room
    heads = await ctx.live.events.by_nids(room.head.extremities[-_EARLIEST:])
    earliest = tuple(event.event_id for event in heads.values())
    latest: tuple[EventId, ...] = (pdu.event_id,)
    lacking = await _lacking(source, pdu.prev_events)
    if not lacking:
        return []  # somebody else's gap was this one
    found: dict[EventId, Verified] = {}
    needed: dict[EventId, Verified] = {}
    for _ in range(_MISSING_REQUESTS):
        query = MissingEventsQuery(earliest, latest, MISSING_LIMIT)
        try:
            raws = await source.ask(
                lambda server, limits, query=query: calls.get_missing_previous_events(  # type: ignore[misc]
                    ctx.wire, server, room.room_id, query, limits
                ),
                _MISSING_LIMITS,
            )
        except Unfetchable as error:
            log.info("no missing events", event_id=pdu.event_id, reason=str(error))
            break
        # More than was asked for is cut; a server that repeats itself ends it.
        checked = await source.check(raws[:MISSING_LIMIT])
        new = {e: v for e, v in checked.items() if e not in found}
        found.update(new)
        lacking |= await _lacking(
            source, (e for v in new.values() for e in v.pdu.prev_events)
        )
        needed = _way_to(pdu, found, lacking)
        latest = tuple(
            event_id
            for event_id, verified in needed.items()
            if any(e in lacking and e not in found for e in verified.pdu.prev_events)
        )
        if not new or not latest:
            break
    return sorted(needed.values(), key=lambda verified: verified.pdu.depth)


def _way_to(
    pdu: Pdu, found: Mapping[EventId, Verified], lacking: Collection[EventId]
) -> dict[EventId, Verified]:
    """Of the events found, those that lead from what we have to the event."""
    needed: dict[EventId, Verified] = {}
    wanted = list(pdu.prev_events)
    while wanted:
        event_id = wanted.pop()
        if event_id in lacking and event_id in found and event_id not in needed:
            needed[event_id] = found[event_id]
            wanted += found[event_id].pdu.prev_events
    return needed


async def _lacking(source: Source, event_ids: Iterable[EventId]) -> set[EventId]:
    """Those events whose states we do not know."""
    wanted = set(event_ids)
    events = await source.ctx.live.events.by_ids(wanted)
    return {
        event_id
        for event_id in wanted
        if event_id not in events or events[event_id].state_after is None
    }


# ── State ────────────────────────────────────────────────────────────────────────────


async def _fetch_state_before(source: Source, pdu: Pdu) -> int:
    """The root of the state before an event, as another server says.

    Raises: Unfetchable.
    """
    if source.states_left <= 0:
        raise Unfetchable("too many gaps in the history before the event")
    source.states_left -= 1
    return await fetch_state(source, pdu.event_id)


async def fetch_state(source: Source, event_id: EventId) -> int:
    """The root of the state before an event that others have; its events are stored.

    Raises: Unfetchable.
    """
    ctx, room = source.ctx, source.room
    ids = await source.ask(
        lambda server, limits: calls.get_room_state_ids(
            ctx.wire, server, room.room_id, event_id, limits
        ),
        _STATE_LIMITS,
    )
    named = {*ids.pdu_ids, *ids.auth_chain_ids}
    lacking = named - (await ctx.live.events.nids_of(named)).keys()
    if len(lacking) > _ONE_BY_ONE:
        state = await source.ask(
            lambda server, limits: calls.get_room_state(
                ctx.wire, server, room.room_id, event_id, limits
            ),
            _STATE_LIMITS,
        )
        found = await source.check((*state.auth_chain, *state.pdus))
    else:
        found = await fetch_events(source, lacking)
    await store_outliers(ctx, room, found)
    await _check_whole(source, event_id, ids.pdu_ids)
    root, count = await root_of_state(ctx, room, ids.pdu_ids)
    if not count:
        raise Unfetchable("the state before the event is not to be had")
    return root


async def _check_whole(
    source: Source, event_id: EventId, state: Collection[EventId]
) -> None:
    """Raise Unfetchable when of a state there is missing what may yet be had.

    Everybody drops an event whose signature is wrong. But one whose key is not to be
    had just now belongs to the state: without it this room would never be the others'.
    """
    there = await source.ctx.live.events.nids_of(state)
    lacking = [e for e in state if e not in there]
    if not lacking:
        return
    log.info("state has holes", event_id=event_id, holes=len(lacking))
    if not all(source.is_gone(e) for e in lacking):
        raise Unfetchable("part of the state before the event is not to be had now")
