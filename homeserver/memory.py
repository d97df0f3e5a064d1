"""The memory of the process: a soft limit at which caches give back what they hold.

Each cache and queue has a limit of its own (`bounded`); this one is for all together,
with everything that nobody counts. It is looked at often, since a look costs little,
and what was given back goes to the system, as far as the C library can.
"""

import ctypes
import gc
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from federation.wire.backoff import MAX_SERVERS, Backoff
from federation.wire.client import WireClient
from federation.wire.discovery import MAX_ROUTES, Discovery
from federation.wire.well_known import MAX_HOSTS
from homeserver.bounded import MEMORY, MIB, Memory

EVERY_S: Final = 1.0
_GIVEN_AT_ONCE: Final = 64 * MIB  # so that nobody waits long
_GROWN: Final = 4 * MIB  # less is not worth another try
_AGAIN_S: Final = 60.0
_ENOUGH: Final = 0.9  # of the limit
# Bytes of what is remembered of a server, roughly.
_ROUTE: Final = 1500
_DELEGATION: Final = 500
_FAILING: Final = 450

# glibc's mallopt: options by number, from malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

log = structlog.get_logger(__name__)
soft_limit_bytes = Gauge(
    "hearth_memory_soft_limit_bytes",
    "Resident memory at which caches give back what they hold; 0: never.",
)
given_back = Counter(
    "hearth_memory_given_back_bytes",
    "What caches gave back because the process was over its soft limit, as counted.",
)


class Watch:
    """Keeps the process near its soft limit, as far as caches can."""

    def __init__(
        self,
        soft_limit: int,
        *,
        memory: Memory = MEMORY,
        resident: "Callable[[], int | None] | None" = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = soft_limit
        self._memory = memory
        self._resident = resident or resident_bytes
        self._now = now
        self._left = 0  # resident after the last time, of this spell
        self._next_try = 0.0
        self._is_over = False
        self._has_helped = False
        soft_limit_bytes.set(soft_limit)

    async def look(self) -> None:
        """Have caches give back when the process is over its limit and grows.

        When it stays over the limit because of other things, or because what was freed
        lies between what is not, it is left alone until it has grown, or for a while:
        the freed memory is used for what comes next.
        """
        resident = self._resident() if self._limit else None
        if resident is None:
            return
        if resident <= self._limit:
            if resident <= self._limit * _ENOUGH:
                self._is_over = False
            return
        is_first = not self._is_over
        is_due = resident >= self._left + _GROWN or self._now() >= self._next_try
        if not (is_first or is_due or self._has_helped):
            return
        wanted = min(resident - int(self._limit * _ENOUGH), _GIVEN_AT_ONCE)
        freed = self._memory.give_back(wanted)
        if is_first:
            gc.collect()
        trim()
        given_back.inc(freed)
        self._is_over = True
        self._left = self._resident() or resident
        self._has_helped = self._left + _GROWN <= resident
        self._next_try = self._now() + _AGAIN_S
        if is_first:
            log.warning(
                "over the soft limit of memory, caches give back",
                limit_mib=self._limit // MIB,
                resident_mib=resident // MIB,
                now_mib=self._left // MIB,
                given_back_mib=freed // MIB,
            )


def show_wire(wire: WireClient) -> None:
    """Show what is remembered of other servers, which is bounded in number."""

    def located(discovery: Discovery) -> int:
        routes, delegations = discovery.known
        return routes * _ROUTE + delegations * _DELEGATION

    MEMORY.add_queue(
        "where servers are",
        wire.discovery,
        located,
        MAX_ROUTES * _ROUTE + MAX_HOSTS * _DELEGATION,
    )

    def failing(backoff: Backoff) -> int:
        return backoff.count * _FAILING

    MEMORY.add_queue("servers that fail", wire.backoff, failing, MAX_SERVERS * _FAILING)


def resident_bytes() -> int | None:
    """The memory that this process has now; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * mmap.PAGESIZE


def tame_allocator() -> None:
    """Have the C library return what is freed, where it has a say in it.

    Password hashing frees 20 MB at a time. glibc takes that for a habit, and from then
    on serves large requests from heaps that it seldom shrinks: 20 MB more in all.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MIB)
        mallopt(_M_TRIM_THRESHOLD, 4 * MIB)
        mallopt(_M_ARENA_MAX, 2)


def trim() -> None:
    """Have the C library return what is free in the middle of its heaps too."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
