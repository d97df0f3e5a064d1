"""Forgets transactions that nobody will repeat any more."""

import asyncio
from typing import Final

import structlog

from homeserver.db.errors import DatabaseUnavailable
from homeserver.db.pool import Database
from homeserver.transactions import store

_PERIOD_SECONDS: Final = 600.0
_KEEP: Final = "1 day"

log = structlog.get_logger(__name__)


class TransactionForgetter:
    """A process's task that keeps `received_transactions` small."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="transaction-forgetter")

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            try:
                await self.forget_old()
            except DatabaseUnavailable as error:
                log.warning("cannot forget transactions", reason=str(error))

    async def forget_old(self) -> None:
        """Forget what is old by now."""
        async with self._db.transaction() as tx:
            await store.delete_old(tx, _KEEP)
