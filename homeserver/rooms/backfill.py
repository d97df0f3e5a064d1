"""History from before we were in a room, and other gaps, fetched when it is read.

Another server gives events from the gap on backwards, and the state before the oldest
of them; from there the states follow forward. Backfilled events have negative
positions: they are in no sync, and in history they stand by their depth.

Tables: events (positions from `backfill_positions`), backward_edges.

Spec: server-server-api#backfilling-and-retrieving-missing-events
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from federation import auth_rules
from federation.ids import EventId, ServerName, server_of
from federation.pdu import Pdu, StateKey
from federation.wire import calls
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events import store
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.rooms.build import CREATE
from homeserver.rooms.judging import refusal, refusal_by_auth_events
from homeserver.rooms.missing import (
    Source,
    Unfetchable,
    fetch_events,
    fetch_state,
)
from homeserver.rooms.outliers import LOCK, store_nothing, store_outliers
from homeserver.server_keys.verify import Verified
from homeserver.state.states import NodeRow, insert_nodes

MAX_EVENTS: Final = 100
_MIN_EVENTS: Final = 20
_MAX_EDGES: Final = 10
_MAX_SERVERS: Final = 5
_SECONDS: Final = 45.0
_TRIES: Final = 3

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _History:
    """Events on their way into the history, by ID, each after those before it."""

    events: dict[EventId, StoredEvent] = field(default_factory=dict)
    nodes: list[NodeRow] = field(default_factory=list)
    new: set[EventId] = field(default_factory=set)
    missing: list[tuple[str, int]] = field(default_factory=list)


async def backfill(ctx: Context, room: Room, lowest: int, limit: int) -> bool:
    """Fetch history that is missing at or above the depth `lowest`.

    `lowest` is how far back a client has read what we have. True: there is more to
    read now.
    """
    if not room.is_resident:
        return False
    async with ctx.turns.take(("backfill", room.nid)):
        async with ctx.db.read() as tx:
            edges = await _read_edges(tx, room.nid, lowest)
        if not edges:
            return False
        wanted = max(_MIN_EVENTS, min(limit, MAX_EVENTS))
        deadline = ctx.clock.monotonic() + _SECONDS
        for server in await _servers(ctx, room):
            source = Source(ctx, room, (server,), deadline)
            try:
                if await _backfill_from(source, edges, wanted):
                    return True
            except Unfetchable as error:
                log.info(
                    "cannot backfill",
                    room_id=room.room_id,
                    via=server,
                    reason=str(error),
                )
    return False


async def _read_edges(tx: Tx, room_nid: int, lowest: int) -> list[EventId]:
    """Events that we lack, next to events at or above that depth."""
    rows = await tx.fetch(
        """
        SELECT b.event_id, min(e.depth) AS depth
          FROM backward_edges b JOIN events e ON e.event_nid = b.child_nid
         WHERE b.room_nid = $1 AND e.depth >= $2 AND e.position IS NOT NULL
         GROUP BY b.event_id ORDER BY depth, b.event_id LIMIT $3
        """,
        room_nid,
        lowest,
        _MAX_EDGES,
    )
    return [EventId(row["event_id"]) for row in rows]


async def _servers(ctx: Context, room: Room) -> list[ServerName]:
    """Servers in the room to ask: the creator's first, then those with most members.

    The creator's has been there from the start.
    """
    create = await _create_event(ctx, room)
    servers = [] if create is None else [server_of(create.sender)]
    servers += [name for name, _ in room.servers.most_common(_MAX_SERVERS + 1)]
    others = [
        server
        for server in dict.fromkeys(servers)
        if server != ctx.server_name and server in room.servers
    ]
    return others[:_MAX_SERVERS]


async def _create_event(ctx: Context, room: Room) -> Pdu | None:
    nid = room.state.get(CREATE)
    event = None if nid is None else await ctx.live.events.by_nid(nid)
    return None if event is None else event.pdu


async def _backfill_from(source: Source, edges: Sequence[EventId], limit: int) -> bool:
    """Fetch and store what one server has of the gap; whether any of it is history."""
    ctx, room = source.ctx, source.room
    raws = await source.ask(
        lambda server, limits: calls.backfill_room(
            ctx.wire, server, room.room_id, edges, limit, limits
        ),
        calls.BACKFILL_LIMITS,
    )
    checked = await source.check(raws[: 2 * MAX_EVENTS])
    known = await ctx.live.events.by_ids(checked)
    fresh = {
        event_id: verified
        for event_id, verified in checked.items()
        if event_id not in known or known[event_id].state_before is None
    }
    if not fresh:
        return False
    for _ in range(_TRIES):
        try:
            return await _store(source, fresh)
        except Conflict:
            continue
    return False


async def _store(source: Source, fresh: Mapping[EventId, Verified]) -> bool:
    history = _History()
    create = await _create_event(source.ctx, source.room)
    for verified in sorted(fresh.values(), key=lambda v: v.pdu.depth):
        try:
            await _judge(source, history, verified, create)
        except Unfetchable as error:
            log.info("event dropped", event_id=verified.pdu.event_id, reason=str(error))
    if not history.events:
        return False
    redacted = await _find_redactions(source.ctx, history, create)
    return await _write(source.ctx, source.room, history, redacted)


# ── Judging ──────────────────────────────────────────────────────────────────────────


async def _judge(
    source: Source, history: _History, verified: Verified, create: Pdu | None
) -> None:
    """Work out the states before and after an event, and whether it is rejected."""
    ctx, room, pdu = source.ctx, source.room, verified.pdu
    prev = await _events(source, history, pdu.prev_events)
    lacking = [
        event_id
        for event_id in pdu.prev_events
        if event_id not in prev or prev[event_id].state_after is None
    ]
    roots = [e.state_after for e in prev.values() if e.state_after is not None]
    if lacking:
        if source.states_left <= 0:
            raise Unfetchable("too many gaps in the history before the event")
        source.states_left -= 1
        roots = [await fetch_state(source, pdu.event_id)]
    before = await ctx.live.resolver.resolve(room.version, room.nid, roots)
    auth = await _auth_events(source, history, pdu)
    keys = auth_rules.auth_keys(
        pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
    )
    state = await _state(ctx, history, before, keys)
    vouched = verified.vouched
    rejected = refusal_by_auth_events(pdu, auth, create, vouched=vouched) or refusal(
        pdu, state, create, vouched=vouched
    )
    known = await ctx.live.events.by_id(pdu.event_id)
    if rejected is None and known is not None:
        rejected = known.rejected
    if known is None:
        await ctx.live.events.numbers.reserve(1)
        history.new.add(pdu.event_id)
    nid = ctx.live.events.numbers.next() if known is None else known.nid
    after = before
    if pdu.key is not None and rejected is None:
        after, nodes = await ctx.live.states.update(before, room.nid, {pdu.key: nid})
        history.nodes += nodes
    history.missing += [(event_id, nid) for event_id in lacking]
    history.events[pdu.event_id] = StoredEvent(
        nid=nid,
        room_nid=room.nid,
        pdu=pdu,
        position=None,
        prev_nids=tuple(e.nid for i, e in prev.items() if i not in lacking),
        auth_nids=tuple(event.nid for event in auth.values()),
        state_before=before,
        state_after=after,
        room_state=None,
        size=len(pdu.text),
        rejected=rejected,
    )


async def _events(
    source: Source, history: _History, event_ids: Iterable[EventId]
) -> dict[EventId, StoredEvent]:
    """Those events that are on their way, or stored."""
    wanted = list(event_ids)
    stored = await source.ctx.live.events.by_ids(
        e for e in wanted if e not in history.events
    )
    found = {e: history.events.get(e) or stored.get(e) for e in wanted}
    return {
        event_id: event
        for event_id, event in found.items()
        if event is not None and event.room_nid == source.room.nid
    }


async def _auth_events(
    source: Source, history: _History, pdu: Pdu
) -> dict[EventId, StoredEvent]:
    """The event's auth_events; those that we lack are fetched. Raises: Unfetchable."""
    auth = await _events(source, history, pdu.auth_events)
    lacking = set(pdu.auth_events) - auth.keys()
    if lacking:
        chain = await source.ask(
            lambda server, limits: calls.get_event_auth(
                source.ctx.wire, server, source.room.room_id, pdu.event_id, limits
            ),
            calls.BACKFILL_LIMITS,
        )
        await store_outliers(source.ctx, source.room, await source.check(chain))
        auth = await _events(source, history, pdu.auth_events)
        lacking = set(pdu.auth_events) - auth.keys()
    if lacking:
        found = await fetch_events(source, lacking)
        await store_outliers(source.ctx, source.room, found)
        auth = await _events(source, history, pdu.auth_events)
    if len(auth) < len(set(pdu.auth_events)):
        raise Unfetchable("its auth_events are not to be had")
    return auth


async def _state(
    ctx: Context, history: _History, root: int, keys: Iterable[StateKey]
) -> dict[StateKey, Pdu]:
    """The events at those keys of a state, which may be on their way themselves."""
    nids = await ctx.live.states.get(root, keys)
    on_their_way = {event.nid: event for event in history.events.values()}
    stored = await ctx.live.events.by_nids(
        nid for nid in nids.values() if nid not in on_their_way
    )
    events = {**stored, **on_their_way}
    return {key: events[nid].pdu for key, nid in nids.items() if nid in events}


# ── Redactions ───────────────────────────────────────────────────────────────────────


async def _find_redactions(
    ctx: Context, history: _History, create: Pdu | None
) -> list[tuple[int, int]]:
    """Pairs (event, its redaction) by number: either may have come before the other."""
    async with ctx.db.read() as tx:
        rows = await tx.fetch(
            "SELECT event_nid, redacts FROM redactions WHERE redacts = ANY($1)",
            list(history.events),
        )
    waiting = await ctx.live.events.by_nids(row["event_nid"] for row in rows)
    coming = [e for e in history.events.values() if e.pdu.redacts is not None]
    pairs: list[tuple[int, int]] = []
    for redaction in (*waiting.values(), *coming):
        target_id = EventId(redaction.pdu.redacts or "")
        target = history.events.get(target_id) or await ctx.live.events.by_id(target_id)
        if (
            target is None
            or target.room_nid != redaction.room_nid
            or redaction.rejected is not None
        ):
            continue
        pdu = redaction.pdu
        keys = auth_rules.auth_keys(
            pdu.version, pdu.type, None, pdu.sender, pdu.content
        )
        state = await _state(ctx, history, redaction.state_before or 0, keys)
        if auth_rules.may_redact(pdu, target.pdu, state, create=create):
            pairs.append((target.nid, redaction.nid))
    return pairs


# ── Writing ──────────────────────────────────────────────────────────────────────────


async def _write(
    ctx: Context,
    room: Room,
    history: _History,
    redacted: Sequence[tuple[int, int]],
) -> bool:
    """Store it all in one transaction; whether any of it is history now.

    Raises: Conflict when another process stored some of it meanwhile.
    """
    live = ctx.live
    accepted = [e for e in history.events.values() if e.rejected is None]
    newest_first = sorted(accepted, key=lambda e: -e.pdu.depth)
    keys = {e.pdu.key for e in history.events.values() if e.pdu.key is not None}
    key_nids = await live.states.keys.intern(keys)
    async with ctx.db.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK, room.nid % 2**31)
        await _check_stored(tx, history)
        if history.nodes:
            await insert_nodes(tx, history.nodes)
        new = [history.events[event_id] for event_id in history.new]
        await store.insert_events(
            tx, new, {e.nid: key_nids[e.pdu.key] for e in new if e.pdu.key is not None}
        )
        nids = await store.read_nids(tx, list(history.events))
        if any(nids.get(i) != event.nid for i, event in history.events.items()):
            raise Conflict
        positions = await _positions(tx, len(newest_first))
        placed = [
            replace(event, position=position)
            for event, position in zip(newest_first, positions, strict=True)
        ]
        rejected = [e for e in history.events.values() if e.rejected is not None]
        await _place(tx, [*placed, *rejected])
        await store.delete_backward_edges(tx, room.nid, list(history.events))
        if history.missing:
            await store.insert_backward_edges(tx, room.nid, history.missing)
        await _redact(tx, redacted)
    for event in placed:
        if event.event_id in history.new:
            live.events.put(event)
    await _tell(ctx, room, history, redacted)
    log.info("backfilled", room_id=room.room_id, events=len(placed))
    return bool(placed)


async def _check_stored(tx: Tx, history: _History) -> None:
    """Raise Conflict when an event that these refer to is not stored yet."""
    events = history.events.values()
    mine = {event.nid for event in events}
    referred = {n for e in events for n in (*e.prev_nids, *e.auth_nids)} - mine
    count = await tx.fetchval(
        "SELECT count(*) FROM events WHERE event_nid = ANY($1)", list(referred)
    )
    if count < len(referred):
        raise Conflict


async def _positions(tx: Tx, count: int) -> list[int]:
    rows = await tx.fetch(
        "SELECT nextval('backfill_positions') FROM generate_series(1, $1)", count
    )
    return [row[0] for row in rows]


async def _place(tx: Tx, events: Sequence[StoredEvent]) -> None:
    """Give stored events their places in history, or none when they are rejected."""
    await tx.execute(
        """
        UPDATE events
           SET position = u.position, state_before = u.state_before,
               state_after = u.state_after, rejected = u.rejected,
               prev_nids = u.prev_nids::bigint[], auth_nids = u.auth_nids::bigint[]
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                      $5::text[], $6::text[], $7::text[])
                 AS u (event_nid, position, state_before, state_after, rejected,
                       prev_nids, auth_nids)
         WHERE events.event_nid = u.event_nid AND events.position IS NULL
        """,
        [event.nid for event in events],
        [event.position for event in events],
        [event.state_before for event in events],
        [event.state_after for event in events],
        [event.rejected for event in events],
        [store.array_text(event.prev_nids) for event in events],
        [store.array_text(event.auth_nids) for event in events],
    )


async def _redact(tx: Tx, pairs: Sequence[tuple[int, int]]) -> None:
    await tx.execute(
        """
        UPDATE events SET redacted_by = u.redaction
          FROM unnest($1::bigint[], $2::bigint[]) AS u (target, redaction)
         WHERE event_nid = u.target AND redacted_by IS NULL
        """,
        [target for target, _ in pairs],
        [redaction for _, redaction in pairs],
    )


async def _tell(
    ctx: Context,
    room: Room,
    history: _History,
    redacted: Sequence[tuple[int, int]],
) -> None:
    """Have every process read anew what it may hold as it was."""
    outliers = [e.nid for i, e in history.events.items() if i not in history.new]
    for nid in outliers:
        change = Change(Kind.BACKFILLED, room_nid=room.nid, ref=nid)
        await ctx.live.commit(store_nothing, nid, change)
    if history.new:
        change = Change(Kind.BACKFILLED, room_nid=room.nid)
        await ctx.live.commit(store_nothing, room.nid, change)
    for nid, _ in redacted:
        change = Change(Kind.REDACTED, room_nid=room.nid, ref=nid)
        await ctx.live.commit(store_nothing, nid, change)
