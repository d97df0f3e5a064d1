"""The sockets at which a server listens, opened apart from what answers there.

Whoever starts several processes opens them once and hands them over: then connections
wait in one queue of the kernel, from which each process takes when it has time. What
one process could not take when it died, the others do.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BACKLOG: Final = 1024


class CannotListen(Exception):  # noqa: N818 - reads as a sentence at the raise
    """A listener cannot be opened; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen at, and what is served there."""

    bind: str
    port: int
    serves: Sequence[str]
    tls_certificate: str = ""
    tls_key: str = ""
    # Sockets that were opened for us and listen there already.
    descriptors: Sequence[int] = ()

    @property
    def url(self) -> str:
        """For people."""
        scheme = "https" if self.tls_certificate else "http"
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"{scheme}://{host}:{self.port}"


def open_sockets(address: Address) -> list[socket.socket]:
    """Listening sockets at all that the address stands for.

    Raises: CannotListen; then none is left open.
    """
    opened: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            address.bind,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        for family, kind, protocol, _, place in dict.fromkeys(found):
            opened.append(one := socket.socket(family, kind, protocol))
            if os.name == "posix":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # 0.0.0.0 is a listener of its own.
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(place)
            one.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        for one in opened:
            one.close()
        raise CannotListen(
            f"{address.url}: cannot listen there: {_reason(error)}"
        ) from error
    return opened


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or not isinstance(number, int):
        return str(error)
    return os.strerror(number)
