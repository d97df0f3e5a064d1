"""How many requests may be under way, in total and to each server.

Counted by server name and not by address, since hosters serve thousands of Matrix
servers from one address.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from federation.ids import ServerName


class NoSlot(Exception):  # noqa: N818 - reads as a sentence at the raise
    """Too many requests to one server are waiting already."""


@dataclass(slots=True)
class _Queue:
    semaphore: asyncio.Semaphore
    users: int = 0


class Slots:
    """The slots of one client; who finds none free waits, in order."""

    def __init__(self, total: int, per_server: int, waiting_per_server: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_server = per_server
        self._most_users = per_server + waiting_per_server
        self._queues: dict[ServerName, _Queue] = {}

    @asynccontextmanager
    async def taken(self, server: ServerName) -> AsyncIterator[None]:
        """Hold a slot. Raises: NoSlot."""
        queue = self._queues.get(server)
        if queue is None:
            queue = self._queues[server] = _Queue(asyncio.Semaphore(self._per_server))
        if queue.users >= self._most_users:
            raise NoSlot
        queue.users += 1
        try:
            # The server's own slot first, so that a slow server never holds slots of
            # the total while its requests wait for each other.
            async with queue.semaphore, self._total:
                yield
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[server]
