"""Ends what has run out.

While nobody types there is nothing to do, and nothing is asked of the database.
"""

import asyncio
from typing import Final

import structlog

from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.typing import store

_PERIOD_SECONDS: Final = 1.0
_BATCH: Final = 500

log = structlog.get_logger(__name__)


class TypingEnder:
    """A process's task that ends typing that has run out."""

    def __init__(self, db: Database, live: Live) -> None:
        self._db = db
        self._live = live
        self._wake = asyncio.Event()
        self._wake.set()  # what stood there before this process
        self._task: asyncio.Task[None] | None = None
        live.on_change(Kind.TYPING, self._on_typing)

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="typing-ender")

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _on_typing(self, _position: int, _change: Change) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_PERIOD_SECONDS)
            try:
                await self.end_some()
            except Exception:  # the next round may do better
                log.warning("cannot end typing", exc_info=True)
                self._wake.set()

    async def end_some(self) -> None:
        """End what has run out by now; sleep when nobody types any more."""
        self._wake.clear()
        async with self._db.read() as tx:
            over = await store.run_out(tx, _BATCH)
            if not over:
                if await store.is_anybody(tx):
                    self._wake.set()
                return
        self._wake.set()
        await asyncio.gather(
            *(
                self._live.commit(
                    store.end,
                    each,
                    Change(Kind.TYPING, room_nid=each.room_nid, user_id=each.user_id),
                )
                for each in over
            )
        )
