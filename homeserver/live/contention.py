"""Rooms that several processes write to at the same time: they take turns.

Usually one process writes to a room at a time, and asks nobody. When two do, one finds
that the other was faster, and would find it again and again. So once that has happened,
a process waits for its turn at the room, catches up, and then writes everything that
its callers have for the room, in a few batches; the others wait meanwhile, in the order
in which they asked (PostgreSQL's advisory locks). A process that does not know of it
yet finds the room taken, which is a conflict, and then knows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import structlog
from prometheus_client import Counter

from homeserver.bounded import MIB, LruCache, Worth
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database
from homeserver.live.follower import Follower
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.live.writers import Writers

# After the last sign that others write to the room, for so long we take turns.
_CONTENDED_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 0.03  # of callers who come; those who are there are finished
_BYTES: Final = MIB
_ROOM: Final = 150  # bytes, roughly

log = structlog.get_logger(__name__)
turns_taken = Counter(
    "hearth_room_turns", "Turns at rooms to which other processes write too"
)


class _Turn:
    """A process's turn at a room, which its callers share."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.users = 0
        self.unused = asyncio.Event()
        self.is_full = False
        self.over = asyncio.Event()


class Contention:
    """What one process knows of the rooms at which it takes turns."""

    def __init__(self, db: Database, follower: Follower, writers: Writers) -> None:
        self._db = db
        self._follower = follower
        self._writers = writers
        # By room: until when it counts as contended.
        self._until: LruCache[int, float] = LruCache(
            "contended rooms", _BYTES, _ROOM, Worth.NEEDED
        )
        self._guards: LruCache[int, int] = LruCache(
            "guards of contended rooms", _BYTES, _ROOM, Worth.NEEDED
        )
        self._turns: dict[int, _Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Each takes a connection, and the callers need others.
        self._slots = asyncio.Semaphore(max(1, db.size // 3))

    def note(self, room: Room) -> None:
        """Another process has written to the room."""
        now = asyncio.get_running_loop().time()
        self._until.put(room.nid, now + _CONTENDED_SECONDS)

    def is_contended(self, room: Room) -> bool:
        """Whether to take turns at the room."""
        until = self._until.peek(room.nid)
        return until is not None and until > asyncio.get_running_loop().time()

    @contextlib.asynccontextmanager
    async def turn(self, room: Room) -> AsyncIterator[None]:
        """Write to the room in the block, which other processes do not meanwhile.

        Raises: Conflict, when it took too long to come; DatabaseError.
        """
        turn = self._turns.get(room.nid)
        if turn is None or turn.is_full:
            turn = self._next(room, turn)
        turn.users += 1
        try:
            await asyncio.shield(turn.opened)
            yield
        finally:
            turn.users -= 1
            if not turn.users:
                turn.unused.set()

    def _next(self, room: Room, before: _Turn | None) -> _Turn:
        turn = self._turns[room.nid] = _Turn()
        task = asyncio.create_task(self._hold(room, turn, before), name="room-turn")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return turn

    async def _hold(self, room: Room, turn: _Turn, before: _Turn | None) -> None:
        try:
            if before is not None:
                await before.over.wait()
            async with self._slots, self._db.transaction() as tx:
                await tx.execute("SELECT pg_advisory_xact_lock($1)", room.nid)
                with self._writers.alone(room):
                    await self._follower.pull()
                    await self._serve(room, turn)
        except asyncpg.LockNotAvailableError:
            _refuse(turn, Conflict())
        except (DatabaseError, asyncpg.PostgresError) as error:
            # At the end of a turn it means nothing: the lock is gone either way.
            log.warning("a room's turn failed", reason=repr(error))
            _refuse(turn, error)
        finally:
            _refuse(turn, Conflict())
            turn.over.set()
            if self._turns.get(room.nid) is turn:
                del self._turns[room.nid]

    async def _serve(self, room: Room, turn: _Turn) -> None:
        turns_taken.inc()
        guard = self._guards.peek(room.nid)
        if guard is not None and guard != self._writers.guard_of(room):
            self.note(room)
        turn.opened.set_result(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TURN_SECONDS):
                await turn.unused.wait()
        turn.is_full = True
        while turn.users:
            turn.unused.clear()
            await turn.unused.wait()
        self._guards.put(room.nid, self._writers.guard_of(room))


def _refuse(turn: _Turn, error: Exception) -> None:
    turn.is_full = True
    if not turn.opened.done():
        turn.opened.set_exception(error)
        turn.opened.exception()  # whoever waited has gone, perhaps
