"""Numbers for rooms, events, state keys and nodes, dealt out from blocks.

A sequence hands a process a block with each call; what a process does not use is lost,
which costs nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from homeserver.db.pool import Database

# The sequences' INCREMENT in schema/tables.sql: sequence name to block size.
BLOCKS: Final = {
    "room_nids": 16,
    "event_nids": 1024,
    "key_nids": 64,
    "node_nids": 1024,
}


class Numbers:
    """Unused numbers of one sequence."""

    def __init__(self, db: Database, sequence: str) -> None:
        self._db = db
        self._sequence = sequence
        self._block = BLOCKS[sequence]
        self._ranges: list[range] = []
        self._available = 0
        self._promised = 0  # of those available, to blocks of `reserved`
        self._lock = asyncio.Lock()

    async def reserve(self, count: int) -> None:
        """Make sure that `count` calls of `next` will succeed right after this.

        Right after: before anything else is awaited, as others take numbers too.
        """
        while self._available - self._promised < count:
            async with self._lock:
                missing = count + self._promised - self._available
                if missing > 0:
                    await self._fetch(-(-missing // self._block))

    @contextlib.asynccontextmanager
    async def reserved(self, count: int) -> AsyncIterator[Callable[[], int]]:
        """Give a function that may be called up to `count` times within the block."""
        await self.reserve(count)
        self._promised += count
        left = count

        def take() -> int:
            nonlocal left
            left -= 1
            self._promised -= 1
            return self.next()

        try:
            yield take
        finally:
            self._promised -= left

    async def _fetch(self, blocks: int) -> None:
        async with self._db.read() as tx:
            starts = await tx.fetch(
                "SELECT nextval($1::text::regclass) FROM generate_series(1, $2)",
                self._sequence,
                blocks,
            )
        for (start,) in starts:
            self._ranges.append(range(start, start + self._block))
            self._available += self._block

    def next(self) -> int:
        """The next number. Call `reserve` first."""
        first = self._ranges[0]
        number = first[0]
        self._available -= 1
        if len(first) > 1:
            self._ranges[0] = first[1:]
        else:
            self._ranges.pop(0)
        return number
