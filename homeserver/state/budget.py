"""How much of this process the resolutions of a room may take.

A hostile server can make a room whose states cost as much to resolve as it likes. So
resolutions work in slices of some milliseconds, between which everybody else has a
turn, and what a room has used is taken from its account. An account fills up at a
tenth of the time that passes; while it is empty, that room's resolutions wait, and
with them whoever wants to write to the room, but nobody else. One more account is
that of all rooms together.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from prometheus_client import Counter

from federation.state_resolution import Steps
from homeserver.bounded import MIB, LruCache, Worth

SLICE_S: Final = 0.005
ROOM_SHARE: Final = 0.1  # of the time that passes
ROOM_BURST_S: Final = 3.0
ALL_SHARE: Final = 0.4
ALL_BURST_S: Final = 5.0
_LONGEST_WAIT_S: Final = 2.0
_ROOMS: Final = 4 * MIB

worked = Counter("hearth_resolution_seconds", "Time spent on resolving states")
waited = Counter(
    "hearth_resolution_waited_seconds",
    "Time that resolutions waited because their room had used up its share",
)

N = TypeVar("N")
V = TypeVar("V")
R = TypeVar("R")


@dataclass(slots=True)
class Account:
    """Seconds that may still be used; below zero they have to be waited for."""

    share: float
    burst: float
    left: float
    at: float

    @classmethod
    def full(cls, share: float, burst: float) -> "Account":
        """An account of which nothing was used yet."""
        return cls(share, burst, burst, time.monotonic())

    def spend(self, seconds: float) -> float:
        """Take what was used; how long to wait now."""
        now = time.monotonic()
        filled = self.left + (now - self.at) * self.share
        self.left, self.at = min(filled, self.burst) - seconds, now
        return min(max(-self.left / self.share, 0.0), _LONGEST_WAIT_S)


class Budget:
    """The accounts of all rooms. Rooms that were quiet for long are forgotten."""

    def __init__(self) -> None:
        self._rooms: LruCache[int, Account] = LruCache(
            "time to resolve states", _ROOMS, 200, Worth.NEEDED
        )
        self._all = Account.full(ALL_SHARE, ALL_BURST_S)

    def work(self, room_nid: int) -> "Work":
        """Begin a piece of work for a room."""
        account = self._rooms.get(room_nid)
        if account is None:
            account = Account.full(ROOM_SHARE, ROOM_BURST_S)
            self._rooms.put(room_nid, account)
        return Work((account, self._all))


class Work:
    """One piece of work, done in slices."""

    def __init__(self, accounts: tuple[Account, ...]) -> None:
        self._accounts = accounts
        self._unpaid = 0.0

    async def drive(
        self,
        steps: Steps[N, V, R],
        answer: Callable[[frozenset[N]], Awaitable[Mapping[N, V]]],
    ) -> R:
        """Run an algorithm to its end, with the answers to what it asks for."""
        given: Mapping[N, V] | None = None
        while True:
            with self.counted():
                try:
                    wanted = next(steps) if given is None else steps.send(given)
                except StopIteration as stop:
                    result: R = stop.value
                    return result
            await self.rest()
            given = await answer(wanted) if wanted else {}

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time that the block takes; it must wait for nothing."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._unpaid += time.monotonic() - began

    async def rest(self) -> None:
        """Let others go on when a slice was used up, and wait when too much was."""
        if self._unpaid < SLICE_S:
            return
        used, self._unpaid = self._unpaid, 0.0
        worked.inc(used)
        seconds = max([account.spend(used) for account in self._accounts])
        waited.inc(seconds)
        await asyncio.sleep(seconds)
