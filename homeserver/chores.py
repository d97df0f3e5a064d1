"""Small work that follows from something seen, one piece after the other.

A process notes what is to be done and goes on. What it has noted is lost when it ends,
and dropped when there is too much: whoever uses this also looks for what was missed,
now and then, so nothing is lost for good.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from homeserver.bounded import MEMORY

Key = TypeVar("Key", bound=Hashable)

_MOST: Final = 10_000
_EACH: Final = 200  # bytes, roughly

log = structlog.get_logger(__name__)


class Chores(Generic[Key]):
    """Does `work` for each key that was added, while the block lasts.

    `sweep` does what may have been missed: at the start and every `sweep_s` seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Key], Awaitable[None]],
        sweep: Callable[[], Awaitable[None]],
        sweep_s: float = 3600.0,
    ) -> None:
        self._name = name
        self._work = work
        self._sweep = sweep
        self._sweep_s = sweep_s
        self._waiting: dict[Key, None] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        MEMORY.add_queue(name, self, lambda it: it.waiting * _EACH, _MOST * _EACH)

    @property
    def waiting(self) -> int:
        """How many wait to be done."""
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Have it done soon, once, however often it is added until then."""
        if len(self._waiting) < _MOST:
            self._waiting[key] = None
            self._woken.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=self._name)
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_sweep = loop.time()
        while True:
            if loop.time() >= next_sweep:
                await self._guarded(self._sweep())
                next_sweep = loop.time() + self._sweep_s
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                await self._guarded(self._work(key))
            self._woken.clear()
            try:
                async with asyncio.timeout(max(next_sweep - loop.time(), 0.0)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # the next sweep finds what was left
            log.exception("chore failed", work=self._name)
            await asyncio.sleep(1)
