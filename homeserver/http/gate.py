"""How many requests are under way, and how they end when the server stops.

Work is bounded: beyond the bound a request is refused at once, so that those under way
come to an end. Long polls wait for news and cost little, so they have a bound of their
own; at a shutdown whoever lets them wait is told to answer.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from homeserver import errors
from homeserver.bounded import KIB, MEMORY, MIB

MAX_WORKING: Final = 2_000
MAX_WAITING: Final = 50_000
# Bytes of one under way, roughly: a small body, the answer, their objects. And of a
# long poll, its connection included.
_WORKING: Final = 100 * KIB
_WAITING: Final = 16 * KIB
# Bodies that did not come together with their heads, all together.
MAX_BODIES: Final = 256 * MIB
# Those whose bodies are still coming: half of all, or a few who send theirs byte by
# byte would keep out everybody else.
MAX_RECEIVING: Final = MAX_WORKING // 2


class Gate:
    """Counts the requests of one process."""

    __slots__ = (
        "__weakref__",
        "_bodies",
        "_empty",
        "_max_bodies",
        "_max_waiting",
        "_max_working",
        "_on_drain",
        "_receiving",
        "bodies",
        "draining",
        "refused",
        "waiting",
        "working",
    )

    def __init__(
        self,
        max_working: int = MAX_WORKING,
        max_waiting: int = MAX_WAITING,
        max_bodies: int = MAX_BODIES,
    ) -> None:
        self.working = 0
        self.bodies = 0  # bytes
        self._bodies: dict[int, int] = {}  # by request
        self._max_bodies = max_bodies
        self.waiting = 0
        self.refused = 0
        self.draining = False
        self._max_working = max_working
        self._max_waiting = max_waiting
        self._on_drain: list[Callable[[], None]] = []
        self._empty: asyncio.Event | None = None
        self._receiving: dict[asyncio.Timeout, None] = {}  # the oldest first
        MEMORY.add_queue(
            "requests", self, lambda it: it.working * _WORKING, max_working * _WORKING
        )
        MEMORY.add_queue(
            "long polls", self, lambda it: it.waiting * _WAITING, max_waiting * _WAITING
        )
        MEMORY.add_queue("bodies", self, lambda it: it.bodies, max_bodies)

    def receive(self, deadline: asyncio.Timeout) -> None:
        """Count one whose body is still coming; of too many, the oldest ends."""
        self._receiving[deadline] = None
        if len(self._receiving) > MAX_RECEIVING:
            oldest = next(iter(self._receiving))
            del self._receiving[oldest]
            oldest.reschedule(0)  # it is over

    def received(self, deadline: asyncio.Timeout) -> None:
        """Its body is there, or will not come."""
        self._receiving.pop(deadline, None)

    def hold(self, request: int, size: int) -> None:
        """Count bytes of a request's body, until it leaves. Raises: 503.

        One body is always let in, or a small bound would let nobody in.
        """
        others = self.bodies - self._bodies.get(request, 0)
        if others and self.bodies + size > self._max_bodies:
            self.refused += 1
            raise errors.overloaded()
        self._bodies[request] = self._bodies.get(request, 0) + size
        self.bodies += size

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` answer its long polls when the server is about to stop."""
        self._on_drain.append(callback)

    def enter(self, *, long_poll: bool) -> None:
        """Count a request. Raises: 503, when there are too many."""
        if long_poll:
            if self.waiting >= self._max_waiting:
                self.refused += 1
                raise errors.overloaded()
            self.waiting += 1
        else:
            if self.working >= self._max_working:
                self.refused += 1
                raise errors.overloaded()
            self.working += 1

    def leave(self, *, long_poll: bool, request: int = 0) -> None:
        """Count it no longer, nor its body."""
        self.bodies -= self._bodies.pop(request, 0)
        if long_poll:
            self.waiting -= 1
        else:
            self.working -= 1
        if self._empty is not None and not self.working and not self.waiting:
            self._empty.set()

    def begin_to_drain(self) -> None:
        """Answer the long polls, and each connection for the last time."""
        self.draining = True
        for callback in self._on_drain:
            callback()

    async def drain(self, seconds: float) -> bool:
        """Answer the long polls and wait for the rest; whether all came to an end."""
        self.begin_to_drain()
        self._empty = asyncio.Event()
        if not self.working and not self.waiting:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
