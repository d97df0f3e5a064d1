"""Events that are stored because others rest on them, in no place of a room's history.

They are judged by their own auth_events: what those refuse is stored as rejected, and
what refers to auth_events that nobody has is not stored at all.

Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation import auth_rules
from federation.errors import Rejected
from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events import store
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind, Positioned
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.server_keys.verify import Verified
from homeserver.state.states import insert_nodes

# Advisory locks of two numbers: this one and the room's. One process at a time stores
# outliers of a room, so that an event has one number.
LOCK: Final = 1
_INLINE: Final = 50  # judging one takes some 30 µs
_BATCH: Final = 250  # made and written at once: a few milliseconds
_PLACES: Final = 1000
_NODES: Final = 1000
_TRIES: Final = 5


@dataclass(slots=True)
class _Judged:
    """An event of the batch: its auth events, and why it is refused, if it is."""

    verified: Verified
    rejected: str | None


async def store_outliers(
    ctx: Context, room: Room, events: Mapping[EventId, Verified]
) -> None:
    """Judge and store those events that are not stored yet.

    Those whose auth_events are neither stored nor among them are left out.
    """
    for _ in range(_TRIES):
        try:
            async with ctx.turns.take(("outliers", room.nid)):
                await _store(ctx, room, events)
        except Conflict:
            continue
        return
    raise Conflict


async def _store(ctx: Context, room: Room, events: Mapping[EventId, Verified]) -> None:
    known = await _known(ctx, events)
    new = {
        event_id: verified
        for event_id, verified in events.items()
        if event_id not in known or _is_unfinished(known[event_id])
    }
    if not new:
        return
    inline = len(new) <= _INLINE
    referred = _referred(new) if inline else await asyncio.to_thread(_referred, new)
    create_id = EventId("$" + room.room_id[1:])
    if room.version.room_id_is_create_hash:
        referred.add(create_id)
    auth = await ctx.live.events.by_ids(referred)
    if inline:
        judged = _judge_all(new, auth, create_id)
    else:
        judged = await asyncio.to_thread(_judge_all, new, auth, create_id)
    if judged:
        await _write(ctx, room, judged, auth)


async def _known(
    ctx: Context, events: Mapping[EventId, Verified]
) -> Mapping[EventId, StoredEvent]:
    # Looked up first, as they are seldom known and many.
    return await ctx.live.events.by_ids(await ctx.live.events.nids_of(events))


def _referred(new: Mapping[EventId, Verified]) -> set[EventId]:
    return {e for v in new.values() for e in v.pdu.auth_events} - new.keys()


def _is_unfinished(event: StoredEvent) -> bool:
    """Whether it was stored before its auth_events were, as an invite is."""
    is_outlier = event.position is None and event.state_before is None
    return is_outlier and len(event.auth_nids) < len(set(event.pdu.auth_events))


def _judge_all(
    new: Mapping[EventId, Verified],
    auth: Mapping[EventId, StoredEvent],
    create_id: EventId,
) -> dict[EventId, _Judged]:
    """Judge in an order in which auth_events come first."""
    judged: dict[EventId, _Judged] = {}
    rejected = {e for e, event in auth.items() if event.rejected is not None}
    pdus = {event_id: event.pdu for event_id, event in auth.items()}
    for event_id in _auth_first(new):
        verified = new[event_id]
        pdu = verified.pdu
        if any(e not in pdus for e in pdu.auth_events):
            continue
        pdus[event_id] = pdu  # before `create` is looked up: it may be this one
        reason = _refusal(verified, pdus, rejected, pdus.get(create_id))
        if reason is not None:
            rejected.add(event_id)
        judged[event_id] = _Judged(verified, reason)
    return judged


def _auth_first(events: Mapping[EventId, Verified]) -> Iterable[EventId]:
    """The events, each after those that it names as auth_events; circles are cut."""
    done: set[EventId] = set()
    # In version 12 the room ID leads to the create event, and no auth_events do.
    create = [event_id for event_id, each in events.items() if each.pdu.is_create]
    for event_id in (*create, *events):
        stack: list[tuple[EventId, bool]] = [(event_id, False)]
        while stack:
            current, is_left = stack.pop()
            if is_left:
                yield current
                continue
            if current in done:
                continue
            done.add(current)
            stack.append((current, True))
            stack.extend(
                (e, False)
                for e in events[current].pdu.auth_events
                if e in events and e not in done
            )


def _refusal(
    verified: Verified,
    pdus: Mapping[EventId, Pdu],
    rejected: set[EventId],
    create: Pdu | None,
) -> str | None:
    pdu = verified.pdu
    auth = [pdus[event_id] for event_id in pdu.auth_events]
    try:
        auth_rules.check_auth_events(pdu, auth, rejected, create)
        state = {event.key: event for event in auth if event.key is not None}
        auth_rules.check(pdu, state, create=create, vouched=verified.vouched)
    except Rejected as refused:
        return str(refused)
    return None


async def _write(
    ctx: Context,
    room: Room,
    judged: Mapping[EventId, _Judged],
    auth: Mapping[EventId, StoredEvent],
) -> None:
    live = ctx.live
    parts = list(_parted(judged, _BATCH))
    key_nids: dict[StateKey, int] = {}
    for part in parts:
        keys = {judged[event_id].verified.pdu.key for event_id in part}
        key_nids |= await live.states.keys.intern(key for key in keys if key)
    async with (
        live.events.numbers.reserved(len(judged)) as new_nid,
        ctx.db.preparation() as tx,
    ):
        await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK, room.nid % 2**31)
        before = await _read_nids(tx, (*parts, list(auth)))
        if not auth.keys() <= before.keys():
            raise Conflict  # an auth event is on its way to the committer only
        nids = {event_id: before[event_id] for event_id in auth}
        fresh: list[StoredEvent] = []
        finished: list[int] = []
        for part in parts:
            for event_id in part:
                nids[event_id] = before.get(event_id) or new_nid()
            events = [_outlier(room, judged[event_id], nids) for event_id in part]
            fresh = [e for e in events if e.event_id not in before]
            await store.insert_events(
                tx, fresh, {e.nid: key_nids[e.pdu.key] for e in fresh if e.pdu.key}
            )
            finished += await _finish(
                tx, [event for event in events if event.event_id in before]
            )
        # An event that was accepted meanwhile has the number of whoever accepted it.
        after = await _read_nids(tx, parts)
        if any(after.get(event_id) != nids[event_id] for event_id in judged):
            raise Conflict
    for event in fresh if len(parts) == 1 else ():  # of many, few are wanted soon
        live.events.put(event)
    for nid in finished:
        change = Change(Kind.BACKFILLED, room_nid=room.nid, ref=nid)
        await live.commit(store_nothing, nid, change)


async def _read_nids(tx: Tx, parts: Iterable[list[EventId]]) -> dict[EventId, int]:
    nids: dict[EventId, int] = {}
    for part in parts:
        nids |= await store.read_nids(tx, part)
    return nids


def _outlier(room: Room, judged: _Judged, nids: Mapping[EventId, int]) -> StoredEvent:
    pdu = judged.verified.pdu
    return StoredEvent(
        nid=nids[pdu.event_id],
        room_nid=room.nid,
        pdu=pdu,
        position=None,
        prev_nids=(),
        auth_nids=tuple(nids[event_id] for event_id in pdu.auth_events),
        state_before=None,
        state_after=None,
        room_state=None,
        size=len(pdu.text),
        rejected=judged.rejected,
    )


async def _finish(tx: Tx, events: Sequence[StoredEvent]) -> list[int]:
    """Give outliers that were stored early their auth events, and the judgement."""
    if not events:
        return []
    rows = await tx.fetch(
        """
        UPDATE events SET auth_nids = u.auth_nids::bigint[], rejected = u.rejected
          FROM unnest($1::bigint[], $2::text[], $3::text[])
                 AS u (event_nid, auth_nids, rejected)
         WHERE events.event_nid = u.event_nid
           AND position IS NULL AND state_before IS NULL
        RETURNING events.event_nid
        """,
        [event.nid for event in events],
        [store.array_text(event.auth_nids) for event in events],
        [event.rejected for event in events],
    )
    return [row["event_nid"] for row in rows]


async def store_nothing(_tx: Tx, _batch: Sequence[Positioned[int]]) -> None:
    """For a change that only tells the other processes to look again."""


def _parted(items: Iterable[EventId], size: int) -> Iterable[list[EventId]]:
    remaining = iter(items)
    while part := list(itertools.islice(remaining, size)):
        yield part


async def root_of_state(
    ctx: Context, room: Room, event_ids: Iterable[EventId]
) -> tuple[int, int]:
    """The root of the state that these stored events make, and how many they are.

    Rejected ones are no part of it. What it shares with the room's current state is
    stored once.
    """
    wanted = await places_of(ctx, room, event_ids)
    base = room.head.state_root
    present = await ctx.live.states.nid_items(base)
    changes: dict[int, int | None] = {
        key: nid for key, nid in wanted.items() if present.get(key) != nid
    }
    changes.update((key, None) for key in present if key not in wanted)
    return await stored_root(ctx, room, base, changes), len(wanted)


async def places_of(
    ctx: Context, room: Room, event_ids: Iterable[EventId]
) -> dict[int, int]:
    """Of these stored events those that make a state: by their keys' numbers."""
    found: dict[int, int] = {}
    for part in _parted(event_ids, _PLACES):
        async with ctx.db.read() as tx:
            found.update(await store.read_places(tx, room.nid, part))
    return found


async def stored_root(
    ctx: Context, room: Room, base: int, changes: Mapping[int, int | None]
) -> int:
    """The state with those changes, by numbers of keys; its nodes are stored."""
    root, nodes = await ctx.live.states.update_nids(base, room.nid, changes)
    for start in range(0, len(nodes), _NODES):
        async with ctx.db.preparation() as tx:
            await insert_nodes(tx, nodes[start : start + _NODES])
    return root
