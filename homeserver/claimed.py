"""Work that stands in a table, that any process may do and one at a time does.

A process claims some of it for a short while and prolongs that while it is at work. So
what a process was doing when it died is taken up by another `CLAIM_SECONDS` later at
the latest, and `LOOK_SECONDS` for noticing. A process that stops finishes what it has,
or hands it back. Doing a piece again does no harm: that is for the work to see to.

How it is claimed, prolonged and ended is SQL of the feature whose table it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import asyncpg
import structlog

from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database, Tx

CLAIM_SECONDS: Final = 7.0
LOOK_SECONDS: Final = 2.0
_RENEW_SECONDS: Final = 2.0
_FAILED_SECONDS: Final = 60.0  # until what stumbled over a slip of ours is tried again
_STOP_SECONDS: Final = 5.0
_SOONEST: Final = 0.01  # what is due and cannot be had is asked for again after this

Item = TypeVar("Item")

log = structlog.get_logger(__name__)


class Claimed(Generic[Item]):
    """One process's share of a kind of work; `async with` does it.

    - `claim(tx, seconds, most)` takes what is due, for so long.
    - `renew(tx, items, seconds)` has them ours for so long from now on; 0: nobody's.
    - `work(item)` does it, and notes in the table that it is done, or tried later.
    - `until_next(tx)`, where moments matter: seconds until something is due.
    """

    def __init__(
        self,
        db: Database,
        name: str,
        *,
        claim: Callable[[Tx, float, int], Awaitable[Sequence[Item]]],
        renew: Callable[[Tx, Sequence[Item], float], Awaitable[None]],
        work: Callable[[Item], Awaitable[None]],
        at_once: int,
        look_s: float = LOOK_SECONDS,
        until_next: Callable[[Tx], Awaitable[float | None]] | None = None,
    ) -> None:
        self._db = db
        self._name = name
        self._claim = claim
        self._renew = renew
        self._work = work
        self._at_once = at_once
        self._look_s = look_s
        self._until_next = until_next
        self._running: dict[asyncio.Task[None], Item] = {}
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(), name=self._name),
            asyncio.create_task(self._keep(), name=f"{self._name}-renew"),
        ]
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Finish what is under way, and hand back what takes too long."""
        for task in self._tasks[:1]:
            task.cancel()
        await asyncio.gather(*self._tasks[:1], return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running, timeout=_STOP_SECONDS)
        left = dict(self._running)
        for task in (*left, *self._tasks):
            task.cancel()
        await asyncio.gather(*left, *self._tasks, return_exceptions=True)
        self._tasks = []
        if left:
            await self._note(list(left.values()), 0)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            pause = self._look_s
            try:
                await self._take()
                pause = await self._pause()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("work waits", work=self._name, reason=repr(error))
            except Exception:  # the next round may do better
                log.exception("work waits", work=self._name)
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _take(self) -> None:
        free = self._at_once - len(self._running)
        if free <= 0:
            return  # the first that is done wakes us
        async with self._db.transaction() as tx:
            items = await self._claim(tx, CLAIM_SECONDS, free)
        for item in items:
            task = asyncio.create_task(self._do(item), name=f"{self._name}-one")
            self._running[task] = item
            task.add_done_callback(self._done)

    async def _pause(self) -> float:
        if self._until_next is None or len(self._running) >= self._at_once:
            return self._look_s
        async with self._db.read() as tx:
            seconds = await self._until_next(tx)
        if seconds is None:
            return self._look_s
        return min(self._look_s, max(seconds, _SOONEST))

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task, None)
        self._woken.set()

    async def _do(self, item: Item) -> None:
        try:
            await self._work(item)
        except (DatabaseError, asyncpg.PostgresError) as error:
            # It stays claimed for a moment, and is then tried again.
            log.warning("work failed", work=self._name, reason=repr(error))
        except Exception:
            log.exception("work failed", work=self._name)
            await self._note([item], _FAILED_SECONDS)

    async def _keep(self) -> None:
        """Prolong what is under way."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            if self._running:
                await self._note(list(self._running.values()), CLAIM_SECONDS)

    async def _note(self, items: Sequence[Item], seconds: float) -> None:
        try:
            async with self._db.transaction() as tx:
                await self._renew(tx, items, seconds)
        except (DatabaseError, asyncpg.PostgresError) as error:
            log.warning("a claim was not noted", work=self._name, reason=repr(error))
