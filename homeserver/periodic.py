"""Work that comes back: upkeep that every process may do, now and then."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import asyncpg
import structlog

from homeserver.db.errors import DatabaseError

log = structlog.get_logger(__name__)


class Periodic:
    """Runs `work` every so many seconds while the block lasts; failures are logged."""

    def __init__(
        self, name: str, every_s: float, work: Callable[[], Awaitable[None]]
    ) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._task: asyncio.Task[None] | None = None

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
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._work()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("upkeep failed", work=self._name, reason=repr(error))
