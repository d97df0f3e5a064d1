"""Which devices sync through this process, and who of our users does something.

Laws. What devices say is kept in memory; only what is new is written, and every while
which of them are still there, many in one statement. What is dropped under overload is
said again by the device's next sync.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from weakref import WeakKeyDictionary

import asyncpg
import structlog

from federation.ids import UserId, server_of
from homeserver.bounded import MEMORY
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.live.live import Live
from homeserver.live.room import Room, RoomDelta
from homeserver.presence import store
from homeserver.presence.states import RANKS
from homeserver.presence.store import Note

# What is new is written together, so that those who see it wake once.
_PAUSE_SECONDS: Final = 0.5
_STILL_THERE_SECONDS: Final = 20.0
# A device that does not sync for so long may come back without a word.
_BETWEEN_SYNCS_SECONDS: Final = 40.0
_TOUCH_SECONDS: Final = 30.0  # before activity of the same user is written again
_NOTED: Final = 350  # bytes, roughly
_MOST_DEVICES: Final = 100_000
_AT_ONCE: Final = 200
_ONLINE: Final = 2
_BUSY: Final = 3

log = structlog.get_logger(__name__)

Key = tuple[UserId, str]


@dataclass(slots=True)
class _Device:
    rank: int
    seen_at: float
    syncs: int = 0  # long polls of it that are under way


class Attendance:
    """One process's part of presence; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._devices: dict[Key, _Device] = {}
        self._new: dict[Key, Note] = {}
        self._active: set[UserId] = set()
        self._touched_at: dict[UserId, float] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        MEMORY.add_queue("presence", self, Attendance.bytes, 4 * _MOST_DEVICES * _NOTED)

    def bytes(self) -> int:
        """What is noted of devices and users, roughly."""
        noted = len(self._devices) + len(self._new)
        return _NOTED * (noted + len(self._active) + len(self._touched_at))

    async def __aenter__(self) -> Self:
        live = self._ctx.live
        live.on_events(self._on_events)
        live.on_change(Kind.RECEIPT, self._on_change)
        live.on_change(Kind.TYPING, self._on_change)
        self._tasks = [
            asyncio.create_task(self._write_new(), name="presence-new"),
            asyncio.create_task(self._write_still_there(), name="presence-there"),
        ]
        _attendances[live] = self
        return self

    async def __aexit__(self, *_: object) -> None:
        _attendances.pop(self._ctx.live, None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── What devices say ─────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def syncing(self, user_id: UserId, device_id: str, state: str) -> Iterator[None]:
        """Note what a device says with its sync, and that it is there meanwhile."""
        device = self._note_sync((user_id, device_id), RANKS[state])
        if device is None:
            yield
            return
        device.syncs += 1
        try:
            yield
        finally:
            device.syncs -= 1
            device.seen_at = self._ctx.clock.monotonic()

    def _note_sync(self, key: Key, rank: int) -> _Device | None:
        device = self._devices.get(key)
        if device is None:
            if rank == 0 or len(self._devices) >= _MOST_DEVICES:
                return None  # it wants nothing to be said of it
            device = self._devices[key] = _Device(-1, 0.0)
        elif device.rank == _BUSY and rank == _ONLINE:
            rank = _BUSY  # who is busy stays so until they say otherwise
        device.seen_at = self._ctx.clock.monotonic()
        if device.rank != rank:
            device.rank = rank
            self._say(key, Note(*key, rank, is_active=rank == _ONLINE))
        return device

    def _say(self, key: Key, note: Note) -> None:
        if len(self._new) < _MOST_DEVICES:
            self._new[key] = note
            self._wake.set()

    async def set_state(
        self, user_id: UserId, device_id: str, state: str, status: str | None
    ) -> None:
        """Set what a user says of themselves, and say it at once."""
        rank = RANKS[state]
        key = (user_id, device_id)
        device = self._devices.get(key)
        now = self._ctx.clock.monotonic()
        if device is not None:
            device.rank, device.seen_at = rank, now
        elif len(self._devices) < _MOST_DEVICES:
            self._devices[key] = _Device(rank, now)
        self._new.pop(key, None)
        await self._commit(
            Note(
                user_id,
                device_id,
                rank,
                is_active=True,
                has_status=True,
                status=status,
            )
        )

    # ── What users do ────────────────────────────────────────────────────────────

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for event in delta.events:
            self._is_doing(event.pdu.sender)

    def _on_change(self, _position: int, change: Change) -> None:
        self._is_doing(UserId(change.user_id or ""))

    def _is_doing(self, user_id: UserId) -> None:
        # Whoever does not sync anywhere stays offline; whoever does, a process knows.
        if server_of(user_id) != self._ctx.server_name:
            return
        now = self._ctx.clock.monotonic()
        if now - self._touched_at.get(user_id, -_TOUCH_SECONDS) < _TOUCH_SECONDS:
            return
        if len(self._touched_at) >= _MOST_DEVICES:
            self._touched_at.clear()
        self._touched_at[user_id] = now
        self._active.add(user_id)
        self._wake.set()

    # ── Writing ──────────────────────────────────────────────────────────────────

    async def _commit(self, note: Note) -> None:
        change = Change(Kind.PRESENCE, user_id=note.user_id, reach=note.reach)
        with contextlib.suppress(Overloaded):
            await self._ctx.live.commit(store.note, note, change)

    async def _write_new(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            self._wake.clear()
            try:
                await self._write_some()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.info("presence not written", reason=repr(error))
            except Exception:
                log.exception("presence not written")
            if self._new or self._active:
                self._wake.set()

    async def _write_some(self) -> None:
        active = list(self._active)[:_AT_ONCE]
        self._active.difference_update(active)
        notes = []
        if active:
            async with self._ctx.db.transaction() as tx:
                seen = await store.touch(tx, active)
            notes = [Note(user_id, is_active=True) for user_id in seen]
        for key in list(self._new)[:_AT_ONCE]:
            notes.append(self._new.pop(key))
        await asyncio.gather(*map(self._commit, notes))

    async def _write_still_there(self) -> None:
        while True:
            await asyncio.sleep(_STILL_THERE_SECONDS)
            try:
                await self.say_still_there()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.info("presence not written", reason=repr(error))

    async def say_still_there(self) -> None:
        """Say which devices are still there; forget those that are not."""
        now = self._ctx.clock.monotonic()
        gone = [
            key
            for key, device in self._devices.items()
            if not device.syncs and now - device.seen_at > _BETWEEN_SYNCS_SECONDS
        ]
        for key in gone:
            del self._devices[key]
        if not self._devices:
            return
        async with self._ctx.db.transaction() as tx:
            unknown = await store.still_there(tx, list(self._devices))
        for key, device in self._devices.items():
            if key in unknown and device.rank >= 0:  # the database has forgotten it
                self._say(key, Note(*key, device.rank))


_attendances: "WeakKeyDictionary[Live, Attendance]" = WeakKeyDictionary()


def attendance(live: Live) -> Attendance | None:
    """The attendance of this process; None while presence is off."""
    return _attendances.get(live)


@contextlib.contextmanager
def syncing(
    ctx: Context, user_id: UserId, device_id: str | None, state: str | None
) -> Iterator[None]:
    """Surround a sync: its device is there meanwhile; without a word it is online."""
    present = attendance(ctx.live)
    if present is None or state not in {None, *RANKS}:
        yield
        return
    with present.syncing(user_id, device_id or "", state or "online"):
        yield
