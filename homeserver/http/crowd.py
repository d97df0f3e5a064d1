"""All connections of a process: how many there may be, and who has to go.

A process has so many descriptors, and files and the database need some. When there are
too many connections, those go that have no request under way, the oldest first: silent
ones, those that send a request's head byte by byte, and idle ones, whose clients know
how to connect again. Nor may those who do not read what they asked for hold much memory
all together, or be so many that nobody else is served.
"""

import resource
import time
from typing import Final, Protocol

import structlog

from homeserver.bounded import MEMORY, MIB

MAX_UNSENT: Final = 128 * MIB
# Half of the requests that may be under way, as with bodies that come slowly.
MAX_BEHIND: Final = 1_000
_OTHER_DESCRIPTORS: Final = 300  # files, the database, other servers, …
_SAY_SECONDS: Final = 60.0
_SHARE: Final = 20  # of the connections, this part goes at once

log = structlog.get_logger(__name__)


class Peer(Protocol):
    """One connection."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""

    def end(self) -> None:
        """Cut it."""


def raise_descriptor_limit() -> int:
    """Take as many descriptors as this process may have; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, hard):
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS names a limit that it does not give
        log.info("descriptors stay limited", limit=soft, reason=str(error))
        return soft
    return hard


def _most_connections() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return max(soft - _OTHER_DESCRIPTORS, soft // 2)


class Crowd:
    """The connections of a process. None for `most`: as the descriptors allow."""

    def __init__(
        self,
        most: int | None = None,
        most_unsent: int = MAX_UNSENT,
        most_behind: int = MAX_BEHIND,
    ) -> None:
        self._most = most
        self._most_behind = most_behind
        self._most_unsent = most_unsent
        self._peers: dict[Peer, None] = {}  # the oldest first
        self._unsent: dict[Peer, int] = {}  # bytes; who is behind for longest first
        self._said_at = float("-inf")
        MEMORY.add_queue("answers not read", self, lambda it: it.unsent, most_unsent)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._peers)

    @property
    def unsent(self) -> int:
        """Bytes of answers that nobody has read yet."""
        return sum(self._unsent.values())

    @property
    def behind_now(self) -> int:
        """How many do not read what is there for them."""
        return len(self._unsent)

    def enter(self, peer: Peer) -> None:
        """Count a new connection; when there are too many, others go, or this one."""
        self._peers[peer] = None
        most = self._most or _most_connections()
        if len(self._peers) <= most:
            return
        idle = [other for other in self._peers if other.is_idle and other is not peer]
        leaving = idle[: max(1, most // _SHARE)] or [peer]
        self._say("too many connections: idle ones are closed", leaving)
        for other in leaving:
            self._end(other)

    def leave(self, peer: Peer) -> None:
        """It has ended."""
        self._peers.pop(peer, None)
        self._unsent.pop(peer, None)

    def behind(self, peer: Peer, unsent: int) -> None:
        """It reads more slowly than we write; so much waits for it."""
        self._unsent[peer] = unsent
        total = self.unsent
        while total > self._most_unsent or len(self._unsent) > self._most_behind:
            slowest = next(iter(self._unsent))
            total -= self._unsent[slowest]
            self._say("too much that nobody reads: the slowest are cut", [slowest])
            self._end(slowest)

    def caught_up(self, peer: Peer) -> None:
        """It has read what was written."""
        self._unsent.pop(peer, None)

    def _end(self, peer: Peer) -> None:
        self.leave(peer)
        peer.end()

    def _say(self, what: str, leaving: list[Peer]) -> None:
        now = time.monotonic()
        if now - self._said_at > _SAY_SECONDS:
            self._said_at = now
            log.warning(what, connections=self.size, closed=len(leaving))


CROWD: Final = Crowd()
