"""Moves the view forward: over our own commits, and over those of other processes.

Other processes are woken once per batch, after its commit; a slow poll backs it up.
Nothing is missed either way: what counts is the table `changes`. A process that has not
heard of another for a while wakes nobody: a NOTIFY costs as much as a message.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import asyncpg
import structlog

from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database, Tx
from homeserver.events import store
from homeserver.live import loading
from homeserver.live.changes import Change, Kind
from homeserver.live.loading import ChangeRow
from homeserver.live.room import Room, RoomDelta
from homeserver.live.view import Applied, View
from homeserver.state.states import States
from homeserver.wake_ups.base import WakeUps

SUBJECT: Final = "changes"
_POLL_SECONDS: Final = 2.0
# Every process says at each poll that it is there.
_ALONE_AFTER_SECONDS: Final = 5 * _POLL_SECONDS
_MAX_BEHIND: Final = 20_000  # more: forget the view and begin anew
_OF_ROOM: Final = frozenset((Kind.EVENT, Kind.STATE))
_REACHING: Final = frozenset(
    (Kind.TOKENS, Kind.TO_DEVICE, Kind.DEVICE_LIST, Kind.PRESENCE, Kind.PROFILE)
)

_MEMBER: Final = "m.room.member"
_EXIT_LOST: Final = 75  # sysexits.h: try again

log = structlog.get_logger(__name__)


def _end() -> None:
    # Nothing in this process can be trusted. Whoever watches it starts another.
    os._exit(_EXIT_LOST)


class Follower:
    """Keeps one view in step with the database."""

    def __init__(
        self, db: Database, view: View, states: States, wake_ups: WakeUps
    ) -> None:
        self._db = db
        self._wake_ups = wake_ups
        self._view = view
        self._states = states
        self._lock = asyncio.Lock()
        self._me = secrets.token_hex(4)
        self._behind = asyncio.Event()
        self._told = asyncio.Event()
        self._heard_at = float("-inf")  # when another process was heard of
        self._tasks: list[asyncio.Task[None]] = []
        # The connection was lost: it may be another server's database now.
        self._doubts = False
        # What to do when the database has lost what it had acknowledged.
        self.on_loss: Callable[[], None] = _end
        view.reach = self._reach
        view.still = self._lock
        view.complete = self._complete

    async def start(self) -> None:
        """Take the present position and begin to follow."""
        async with self._db.snapshot() as tx:
            self._view.reset(await loading.position_of(tx))
        await self._wake_ups.listen(SUBJECT, self._on_wake_up)
        # Somebody may well be there: they answer within a poll if so.
        self._heard_at = time.monotonic()
        self._told.set()  # say that we are here
        self._tasks = [
            asyncio.create_task(self._follow(), name="follower"),
            asyncio.create_task(self._tell(), name="follower-notify"),
        ]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def apply_own(
        self, base: int, count: int, applied: Sequence[Applied]
    ) -> None:
        """Apply a batch of ours, which took the positions after `base`."""
        async with self._lock:
            if self._view.position < base:
                await self._pull()
            if self._view.position == base:
                self._view.apply(base + count, applied)
        if not self._is_alone():
            self._told.set()

    def _is_alone(self) -> bool:
        return time.monotonic() - self._heard_at > _ALONE_AFTER_SECONDS

    async def pull(self) -> bool:
        """Catch up with the database; whether there was anything to catch up with."""
        async with self._lock:
            return await self._pull()

    async def was_behind(self) -> bool:
        """Catch up; whether another process had got ahead. Alone, it asks nobody."""
        return not self._is_alone() and await self.pull()

    async def _reach(self, position: int) -> None:
        if self._view.position < position:
            await self.pull()

    async def _complete(self, room: Room, delta: RoomDelta) -> RoomDelta:
        """The delta with what it changed in the room's state."""
        diff = await self._states.diff(room.head.state_root, delta.head.state_root)
        changed = {key: after for key, (_, after) in diff.items()}
        if delta.head.partial is not None:
            # Members come in before the room's state has another root.
            for user_id, member in delta.members.items():
                key = (_MEMBER, user_id)
                if key not in room.state:
                    changed.setdefault(key, member.event_nid)
        return replace(delta, state=changed, is_partial=False)

    async def _pull(self) -> bool:
        since = self._view.position
        async with self._db.snapshot() as tx:
            position, trimmed_to = await tx.fetchrow(  # type: ignore[misc]
                "SELECT position, trimmed_to FROM sequencer"
            )
            if position < since or (self._doubts and not await self._is_ours(tx)):
                await self._lost(position)
            self._doubts = False
            if position == since:
                return False
            if trimmed_to > since or position - since > _MAX_BEHIND:
                log.info("too far behind, loading anew", behind=position - since)
                self._view.reset(position)
                return True
            rows = await loading.read_changes(tx, since)
            applied = await self._applied_from(tx, rows, since)
        self._view.apply(position, applied)
        return True

    async def _is_ours(self, tx: Tx) -> bool:
        """Whether the database still has the last change that we know of.

        A standby that took over may lack what had not reached it.
        """
        last = self._view.last
        if last is None:
            return True
        position, ref = last
        row = await tx.fetchrow(
            """
            SELECT c.ref, c.position IS NOT NULL OR s.trimmed_to >= $1 AS is_there
              FROM sequencer AS s LEFT JOIN changes AS c ON c.position = $1
            """,
            position,
        )
        return row is not None and row["is_there"] and row["ref"] in (None, ref)

    async def _lost(self, position: int) -> None:
        known = self._view.position
        log.critical(
            "the database has lost what it had acknowledged, as when a standby takes"
            " over that had not received all: starting anew",
            known=known,
            there=position,
        )
        # Clients have tokens of what is lost; nothing new must hide before those.
        async with self._db.transaction() as tx:
            await tx.execute(
                "UPDATE sequencer SET position = greatest(position, $1)", known
            )
        self.on_loss()

    async def _applied_from(
        self, tx: Tx, rows: Sequence[ChangeRow], since: int
    ) -> list[Applied]:
        by_room: defaultdict[int, list[ChangeRow]] = defaultdict(list)
        applied: list[Applied] = []
        aside = await self._aside_memberships(tx, rows)
        about_devices = [row.position for row in rows if row.kind in _REACHING]
        reaches = await loading.read_reaches(tx, about_devices) if about_devices else {}
        for row in rows:
            if row.kind in _OF_ROOM and row.room_nid is not None:
                by_room[row.room_nid].append(row)
            elif row.kind in Kind.__members__.values():
                change = Change(
                    Kind(row.kind),
                    row.room_nid,
                    row.user_id,
                    row.ref,
                    aside.get(row.position),
                    reaches.get(row.position),
                )
                applied.append((row.position, change))
        if by_room:
            applied += await self._room_deltas(tx, by_room, since)
        applied.sort(key=lambda a: a.last if isinstance(a, RoomDelta) else a[0])
        return applied

    async def _aside_memberships(
        self, tx: Tx, rows: Sequence[ChangeRow]
    ) -> dict[int, str | None]:
        """What the member events say that no room's timeline has, by position."""
        refs = {
            row.position: row.ref
            for row in rows
            if row.kind == Kind.MEMBERSHIP and row.ref is not None
        }
        events = await store.read_events(tx, list(refs.values())) if refs else {}
        return {
            position: events[ref].pdu.membership
            for position, ref in refs.items()
            if ref in events
        }

    async def _room_deltas(
        self, tx: Tx, by_room: dict[int, list[ChangeRow]], since: int
    ) -> list[RoomDelta]:
        nids = [row.ref for rows in by_room.values() for row in rows if row.ref]
        events = await store.read_events(tx, nids)
        members = await loading.read_members_since(tx, list(by_room), since)
        deltas = []
        for row in await loading.read_room_rows(tx, list(by_room)):
            changes = by_room[row.nid]
            delta = RoomDelta(
                room_nid=row.nid,
                first=changes[0].position,
                last=changes[-1].position,
                events=[events[c.ref] for c in changes if c.ref in events],
                head=row.head,
                state={},
                members=members.get(row.nid, {}),
                is_partial=True,
            )
            room = self._view.loaded_room(row.nid)
            if room is not None:
                delta = await self._complete(room, delta)
            deltas.append(delta)
        return deltas

    # ── Between processes ────────────────────────────────────────────────────────

    def _on_wake_up(self, payload: str | None) -> None:
        if payload is None:
            self._doubts = True
        elif payload.startswith(self._me):
            return
        if payload is not None:
            if self._is_alone():
                self._told.set()  # it may have missed what we wrote meanwhile
            self._heard_at = time.monotonic()
        self._behind.set()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._behind.wait()
            self._behind.clear()
            try:
                await self.pull()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("cannot follow the database", reason=str(error))
                await asyncio.sleep(1)

    async def _tell(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._told.wait()
            self._told.clear()
            await self._wake_ups.tell(SUBJECT, f"{self._me} {self._view.position}")
