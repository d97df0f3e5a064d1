"""Leaving servers alone that did not answer, for ever longer, under an hour each time.

The state can be written out and read back, so that it outlives the process.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from federation.ids import ServerName

FIRST_SECONDS: Final = 2.0
# With the jitter on top still under an hour.
LONGEST_SECONDS: Final = 2700.0
JITTER: Final = 0.2
# Clocks of a server's hosts differ by less; when more is missing, one was set back.
_CLOCK_SKEW: Final = 60.0
# Each entry is small; past this number the longest untouched is forgotten.
MAX_SERVERS: Final = 50_000


@dataclass(frozen=True, slots=True)
class BackoffState:
    """A server that does not answer; times are Unix times in seconds."""

    server: ServerName
    failures: int
    failing_since: float
    failed_at: float
    retry_at: float


class Backoff:
    """Which servers not to ask now.

    `on_change` is told each new state, and None when a server is well again.
    `chance` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        on_change: Callable[[ServerName, BackoffState | None], None] | None = None,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._on_change = on_change
        self._states: OrderedDict[ServerName, BackoffState] = OrderedDict()

    @property
    def count(self) -> int:
        """How many servers do not answer."""
        return len(self._states)

    def retry_at(self, server: ServerName) -> float | None:
        """When the server may be asked again, or None when it may be asked now."""
        state = self._states.get(server)
        now = self._clock()
        if state is None or state.retry_at <= now:
            return None
        if state.failed_at > now + _CLOCK_SKEW:
            return None
        return state.retry_at

    def failing_since(self, server: ServerName) -> float | None:
        """Since when the server has not answered, if it did not the last time."""
        state = self._states.get(server)
        return None if state is None else state.failing_since

    def failed(self, server: ServerName, started: float) -> None:
        """A request that began at `started` got no answer.

        Of many requests that were under way together, one counts.
        """
        before = self._states.get(server)
        now = self._clock()
        if before is not None and started <= before.failed_at <= now + _CLOCK_SKEW:
            return
        failures = 1 if before is None else before.failures + 1
        # The exponent is bounded, for 2.0 ** 2000 is an error.
        delay = min(FIRST_SECONDS * 2.0 ** min(failures - 1, 30), LONGEST_SECONDS)
        state = BackoffState(
            server=server,
            failures=failures,
            failing_since=now if before is None else before.failing_since,
            failed_at=now,
            retry_at=now + delay * (1 + JITTER * (2 * self._chance() - 1)),
        )
        self._put(state)
        if self._on_change is not None:
            self._on_change(server, state)

    def sign_of_life(self, server: ServerName) -> None:
        """The server answered, or sent us something: ask it again at once."""
        if self._states.pop(server, None) is not None and self._on_change is not None:
            self._on_change(server, None)

    def export(self) -> tuple[BackoffState, ...]:
        """All servers that do not answer."""
        return tuple(self._states.values())

    def load(self, states: Iterable[BackoffState]) -> None:
        """Take over what was exported, or what another process found out."""
        for state in states:
            self._put(state)

    def _put(self, state: BackoffState) -> None:
        self._states[state.server] = state
        self._states.move_to_end(state.server)
        if len(self._states) > MAX_SERVERS:
            self._states.popitem(last=False)
