"""Time, in one place, so that tests can set it."""

import time


class Clock:
    """The system's clocks."""

    def ms(self) -> int:
        """Milliseconds since the epoch, as `origin_server_ts` counts."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()
