"""The one way by which anything that takes a position is written.

Each process has one committer. It takes everything that is ready, of all rooms and
kinds, writes it in one transaction, applies it to the view and answers everybody.
Message events alone are one statement. One bad member of a batch fails alone: when a
batch fails, its members are written one by one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import structlog
from prometheus_client import Histogram

from federation.ids import ServerName
from homeserver.bounded import MEMORY, MIB
from homeserver.db.errors import CommitUnknown, DatabaseError, DatabaseUnavailable
from homeserver.db.pool import Database, Tx
from homeserver.live.changes import Change, Positioned, StoreFunction
from homeserver.live.follower import Follower
from homeserver.live.steps import (
    Conflict,
    Consequence,
    Step,
    Write,
    needs_state,
    split_chains,
    write_batch,
    write_state,
)
from homeserver.live.view import Applied

_MAX_BATCH: Final = 256
_MAX_WAITING: Final = 20_000
_MAX_WAITING_BYTES: Final = 128 * MIB
_MEMBER: Final = 2000  # bytes, roughly; of one that waits, and of what it changes
_CHANGED: Final = 300
_SHOWN: Final = 3  # times the text of an event, in memory
_SETTLE_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)
batch_size = Histogram(
    "hearth_commit_batch_size",
    "Members of each committed batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
commit_seconds = Histogram(
    "hearth_commit_seconds",
    "Time to write and commit a batch",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)


class Overloaded(Exception):  # noqa: N818 - reads as what happened
    """Too much waits to be committed; try again later."""


@dataclass(slots=True)
class _Batch:
    steps: list[Step] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    @property
    def members(self) -> Sequence[Step | Write]:
        return [*self.steps, *self.writes]


@dataclass(slots=True)
class _Written:
    """What a committed batch gave: base position, and steps that found a conflict."""

    base: int
    count: int
    done: list[tuple[int, Step]]  # with first positions
    conflicts: list[Step]
    changes: list[tuple[int, Change]]  # beside the steps' events, by position


class Committer:
    """Groups what is submitted into transactions, one at a time, in order."""

    def __init__(
        self,
        db: Database,
        follower: Follower,
        our_name: ServerName,
        consequences: Sequence[Consequence],
    ) -> None:
        self._db = db
        self._follower = follower
        self._our_name = our_name
        self._consequences = consequences
        self._waiting: list[Step | Write] = []
        self.waiting_bytes = 0
        MEMORY.add_queue(
            "commits", self, lambda it: it.waiting_bytes, _MAX_WAITING_BYTES
        )
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._run(), name="committer")

    async def stop(self) -> None:
        """Commit what waits, then stop."""
        if self._task is None:
            return
        self._stopping = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    def submit(self, member: Step | Write) -> None:
        """Queue a step or a write; its future gives the first position.

        Raises: Overloaded when too much waits. The future raises Conflict when another
        process wrote to the room first, DatabaseUnavailable, or what PostgreSQL says.
        """
        too_many = len(self._waiting) >= _MAX_WAITING
        if too_many or self.waiting_bytes >= _MAX_WAITING_BYTES:
            raise Overloaded
        self._waiting.append(member)
        self.waiting_bytes += _size_of(member)
        self._wake.set()

    async def commit(
        self, function: StoreFunction, item: object, change: Change
    ) -> int:
        """Write one item and its change; the position, once the view has reached it."""
        write = Write(function, item, change)
        self.submit(write)
        return await write.future

    async def _run(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                taken = self._waiting[:_MAX_BATCH]
                del self._waiting[:_MAX_BATCH]
                self.waiting_bytes -= sum(map(_size_of, taken))
                batch = _Batch()
                for member in taken:
                    if isinstance(member, Step):
                        batch.steps.append(member)
                    else:
                        batch.writes.append(member)
                try:
                    await self._commit(batch)
                except Exception as error:
                    # A slip of ours must not stop everybody else from writing.
                    log.exception("the committer failed")
                    _fail(batch.members, error)

    async def _commit(self, batch: _Batch) -> None:
        batch_size.observe(len(batch.members))
        try:
            with commit_seconds.time():
                written = await self._write(batch)
                await self._finish(batch, written)
        except (DatabaseUnavailable, CommitUnknown) as error:
            await self._settle(batch, error)
        except Exception as error:  # noqa: BLE001 - the members' callers get it
            if len(batch.members) == 1:
                _fail(batch.members, error)
                return
            log.info("batch failed, writing one by one", reason=repr(error))
            for member in batch.members:
                alone = _Batch()
                if isinstance(member, Step):
                    alone.steps.append(member)
                else:
                    alone.writes.append(member)
                await self._commit(alone)

    async def _write(self, batch: _Batch) -> _Written:
        if batch.writes or any(self._is_more(step) for step in batch.steps):
            async with self._db.transaction() as tx:
                return await self._write_in(tx, batch)
        async with self._db.read() as tx:  # one statement, its own transaction
            return await self._write_in(tx, batch)

    def _is_more(self, step: Step) -> bool:
        return needs_state(step) or any(c.is_due(step) for c in self._consequences)

    async def _write_in(self, tx: Tx, batch: _Batch) -> _Written:
        steps, conflicts = split_chains(batch.steps)
        offset = sum(step.width for step in steps)
        changes: list[tuple[int, Change]] = []
        for change in (
            *(change for step in steps for change in step.changes),
            *(write.change for write in batch.writes),
        ):
            offset += 1
            changes.append((offset, change))
        base, rooms = await write_batch(tx, steps, changes, offset, len(batch.writes))
        done: list[tuple[int, Step]] = []
        first = base + 1
        for step in steps:
            if step.room.nid in rooms:
                done.append((first, step))
            else:
                conflicts.append(step)
            first += step.width
        stateful = [pair for pair in done if needs_state(pair[1])]
        if stateful:
            await write_state(tx, stateful, self._our_name)
        for consequence in self._consequences:
            due = [pair for pair in done if consequence.is_due(pair[1])]
            if due:
                await consequence.run(tx, due)
        await _run_writes(tx, batch.writes, base + offset - len(batch.writes))
        gone = {id(c) for step in conflicts for c in step.changes}
        return _Written(
            base,
            offset,
            done,
            conflicts,
            [(base + at, change) for at, change in changes if id(change) not in gone],
        )

    async def _finish(self, batch: _Batch, written: _Written) -> None:
        applied: list[Applied] = [step.delta(first) for first, step in written.done]
        applied += written.changes
        await self._follower.apply_own(written.base, written.count, applied)
        for first, step in written.done:
            _answer(step, first)
        _fail(written.conflicts, Conflict())
        position = written.base + written.count - len(batch.writes)
        for write in batch.writes:
            position += 1
            _answer(write, position)

    async def _settle(self, batch: _Batch, error: Exception) -> None:
        """The connection was lost: find out what was committed after all."""
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                stored = await self._stored(batch.steps)
        except TimeoutError:
            _fail(batch.members, error)
            return
        for step in batch.steps:
            position = stored.get(_mark_of(step))
            if position is None:
                _fail((step,), Conflict())
            else:
                _answer(step, position)
        # Store functions are upserts: writing them again is right either way.
        if batch.writes:
            await self._commit(_Batch(writes=batch.writes))

    async def _stored(self, steps: Sequence[Step]) -> dict[int, int]:
        marks = [_mark_of(step) for step in steps]
        while True:
            try:
                async with self._db.transaction() as tx:
                    # Waits for the lost statement, should it still be running.
                    await tx.execute("SELECT FROM sequencer FOR UPDATE")
                    rows = await tx.fetch(
                        """
                        SELECT event_nid, position FROM events
                         WHERE event_nid = ANY($1) AND position IS NOT NULL
                         UNION ALL
                        SELECT guard, last_position FROM rooms
                         WHERE guard = ANY($1) AND room_nid = ANY($2)
                        """,
                        marks,
                        [step.room.nid for step in steps if not step.events],
                    )
                await self._follower.pull()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("cannot tell yet what was committed", reason=repr(error))
                await asyncio.sleep(0.25)
            else:
                return {row["event_nid"]: row["position"] for row in rows}


async def _run_writes(tx: Tx, writes: Sequence[Write], before: int) -> None:
    """Run each store function once, with all of its items and their positions."""
    grouped: defaultdict[StoreFunction, list[Positioned[Any]]] = defaultdict(list)
    for position, write in enumerate(writes, before + 1):
        grouped[write.function].append(Positioned(position, write.item))
    for function, items in grouped.items():
        await function(tx, items)


def _size_of(member: Step | Write) -> int:
    """Bytes in memory, roughly; the same for as long as it waits."""
    if isinstance(member, Write):
        return _MEMBER
    changed = len(member.state) + len(member.members) + len(member.nodes)
    texts = sum(event.size for event in member.events)
    return _MEMBER + _CHANGED * changed + _SHOWN * texts


def _mark_of(step: Step) -> int:
    """The number by which to find out whether a step was committed.

    One without events is looked for in the room's guard. When somebody wrote to the
    room since, it counts as failed; its writer reads again and sees that it is done.
    """
    return step.events[0].nid if step.events else step.head.guard


def _answer(member: Step | Write, position: int) -> None:
    if not member.future.done():
        member.future.set_result(position)


def _fail(members: Sequence[Step | Write], error: Exception) -> None:
    for member in members:
        if not member.future.done():
            member.future.set_exception(error)


def is_duplicate_transaction(error: BaseException) -> bool:
    """Whether a commit failed because its (device, transaction ID) was taken."""
    return (
        isinstance(error, asyncpg.UniqueViolationError)
        and error.constraint_name == "events_txn"
    )
