"""Which events are sticky now: the table, and what keeps it true. MSC4354.

An event is noted when it is stored, with the end of its stickiness by this server's
clock. One that was soft-failed has no position yet: it gets one, and clients get the
event, once its sender may send it after all; that is looked at every few seconds.

Table: sticky_events.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from homeserver.context import Context
from homeserver.db.pool import Database, Tx
from homeserver.events import sticky_store as store
from homeserver.events.sticky import sticky_ms
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind, Positioned
from homeserver.live.live import Live
from homeserver.live.room import Room, RoomDelta
from homeserver.live.steps import Consequence, Step
from homeserver.rooms.judging import refusal_now

EVERY_S: Final = 5.0


# ── What waits ───────────────────────────────────────────────────────────────────────


async def admit(tx: Tx, batch: Sequence[Positioned[int]]) -> None:
    """Give waiting events their positions. For the committer."""
    await tx.execute(
        """
        UPDATE sticky_events s SET position = u.position
          FROM unnest($1::bigint[], $2::bigint[]) AS u (event_nid, position)
         WHERE s.event_nid = u.event_nid AND s.position IS NULL
        """,
        [each.item for each in batch],
        [each.position for each in batch],
    )


async def recheck(db: Database, live: Live, now_ms: int) -> None:
    """Admit those waiting events whose senders may send them now."""
    async with db.read() as tx:
        found = await store.waiting(tx, now_ms)
    events = await live.events.by_nids([each.event_nid for each in found])
    for event in events.values():
        room = await live.view.room(event.room_nid)
        if room is None or await refusal_now(live, room, event.pdu) is not None:
            continue
        change = Change(Kind.STICKY, room_nid=room.nid, ref=event.nid)
        await live.commit(admit, event.nid, change)


async def forget_expired(ctx: Context) -> None:
    """Delete what sticks no longer, and look at what waits."""
    now_ms = ctx.clock.ms()
    async with ctx.db.transaction() as tx:
        await tx.execute("DELETE FROM sticky_events WHERE until_ms < $1", now_ms)
    await recheck(ctx.db, ctx.live, now_ms)


# ── What follows from a stored event ─────────────────────────────────────────────────


def _of(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    return [event for event in events if sticky_ms(event.pdu) is not None]


async def _note(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    found = [
        (event, first + offset)
        for first, step in steps
        for offset, event in enumerate(step.events)
        if sticky_ms(event.pdu) is not None
    ]
    await store.insert_sticky(tx, found)


STICKY_EVENTS: Final = Consequence(lambda step: bool(_of(step.events)), _note)


# ── At hand ──────────────────────────────────────────────────────────────────────────


class StickyRooms:
    """Which rooms have sticky events: nearly none, so nothing need be asked of them."""

    def __init__(self, db: Database, live: Live) -> None:
        self._db = db
        self._live = live
        self._until: dict[int, int] | None = None  # by room; None: not read yet
        self._noted: dict[int, int] = {}  # what happened while it was read
        self._reading: asyncio.Lock = asyncio.Lock()
        live.on_events(self._on_events)
        live.on_change(Kind.STICKY, self._on_admitted)
        live.on_reset(self._on_reset)

    async def among(self, room_nids: Iterable[int], now_ms: int) -> list[int]:
        """Those of the rooms that may have some."""
        until = self._until
        if until is None:
            until = await self._read(now_ms)
        if not until:
            return []
        for nid in [nid for nid, end in until.items() if end <= now_ms]:
            del until[nid]
        return [nid for nid in room_nids if nid in until]

    async def _read(self, now_ms: int) -> dict[int, int]:
        async with self._reading:
            if self._until is None:
                self._noted.clear()
                async with self._db.read() as tx:
                    until = dict(await store.active_rooms(tx, now_ms))
                for nid, end in self._noted.items():
                    until[nid] = max(end, until.get(nid, 0))
                self._until = until
            return self._until

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for event in delta.events:
            duration = sticky_ms(event.pdu)
            if duration is not None:
                self._extend(delta.room_nid, event.pdu.origin_server_ts + duration)

    def _on_admitted(self, _position: int, change: Change) -> None:
        # When it ends is in the table only; it was noted when it came, or is now.
        if change.room_nid is not None:
            self._until = None

    def _extend(self, room_nid: int, until_ms: int) -> None:
        into = self._noted if self._until is None else self._until
        into[room_nid] = max(until_ms, into.get(room_nid, 0))

    def _on_reset(self) -> None:
        self._until = None


_rooms: "WeakKeyDictionary[Live, StickyRooms]" = WeakKeyDictionary()


def sticky_rooms(db: Database, live: Live) -> StickyRooms:
    """The rooms of this process."""
    found = _rooms.get(live)
    if found is None:
        found = _rooms[live] = StickyRooms(db, live)
    return found
