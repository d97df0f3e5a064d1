"""DNS look-ups for discovery: addresses of a host, and SRV records.

c-ares does them, honouring the system's configuration and hosts file; it remembers
answers for as long as they say.
"""

import ipaddress
import random
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import aiodns
import pycares

from federation.wire.addresses import IPAddress

# One try takes this long; the second goes to the next name server.
_TRY_SECONDS: Final = 2.5
_TRIES: Final = 2
_NOT_FOUND: Final = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})
# Letters, digits and hyphens, and underscores as in the names of services.
_LABEL: Final = re.compile(r"[A-Za-z0-9_\-]{1,63}")


class LookupFailed(Exception):  # noqa: N818 - reads as a sentence at the raise
    """No name server gave an answer, not even that there is none."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a host in the order to try, for `ttl` seconds."""

    addresses: tuple[IPAddress, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Services:
    """The SRV records of a name, unordered, for `ttl` seconds."""

    services: tuple[Service, ...]
    ttl: int


class Resolver(Protocol):
    """Where look-ups go. Nothing found is an empty answer, not an error."""

    async def addresses(self, host: str) -> Addresses:
        """The A and AAAA records of a host. Raises: LookupFailed."""

    async def services(self, name: str) -> Services:
        """The SRV records of a name. Raises: LookupFailed."""

    async def close(self) -> None:
        """Give back what the resolver holds."""


def is_host_name(host: str) -> bool:
    """Whether a name can be looked up at all; server names allow more, as `a..b`."""
    return len(host) <= 253 and all(
        _LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")
    )


class SystemResolver:
    """The system's DNS, or other name servers when given as `host` or `host:port`.

    To be made inside the event loop.
    """

    def __init__(self, name_servers: Sequence[str] = ()) -> None:
        self._resolver = aiodns.DNSResolver(
            nameservers=list(name_servers) or None, timeout=_TRY_SECONDS, tries=_TRIES
        )

    async def addresses(self, host: str) -> Addresses:
        """The A and AAAA records of a host. Raises: LookupFailed."""
        try:
            found = await self._resolver.getaddrinfo(
                host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM
            )
        except aiodns.error.DNSError as error:
            if error.args[0] in _NOT_FOUND:
                return Addresses((), 0)
            raise LookupFailed(f"DNS for {host}: {error.args[-1]}") from None
        addresses = dict.fromkeys(
            ipaddress.ip_address(bytes(node.addr[0]).decode("ascii"))
            for node in found.nodes
        )
        return Addresses(
            tuple(addresses), min((node.ttl for node in found.nodes), default=0)
        )

    async def services(self, name: str) -> Services:
        """The SRV records of a name. Raises: LookupFailed."""
        try:
            found = await self._resolver.query_dns(name, "SRV")
        except aiodns.error.DNSError as error:
            if error.args[0] in _NOT_FOUND:
                return Services((), 0)
            raise LookupFailed(f"DNS for {name}: {error.args[-1]}") from None
        records = [
            (record.data, record.ttl)
            for record in found.answer
            if isinstance(record.data, pycares.SRVRecordData)
        ]
        return Services(
            tuple(
                Service(data.priority, data.weight, data.port, data.target)
                for data, _ in records
            ),
            min((ttl for _, ttl in records), default=0),
        )

    async def close(self) -> None:
        """Give up look-ups under way."""
        await self._resolver.close()


def in_order(
    services: Sequence[Service], pick: Callable[[int], int] = random.randrange
) -> list[Service]:
    """SRV records in the order to try them (RFC 2782, "Usage rules").

    Lower priorities come first; within one, order is by chance in proportion to the
    weights. `pick(n)` is a random number below n.
    """
    ordered: list[Service] = []
    for priority in sorted({service.priority for service in services}):
        # "arrange all SRV RRs … with weight 0 at the beginning of the list"
        left = sorted(
            (service for service in services if service.priority == priority),
            key=lambda service: service.weight,
        )
        while left:
            threshold = pick(sum(service.weight for service in left) + 1)
            running = 0
            for service in left:
                running += service.weight
                if running >= threshold:
                    break
            ordered.append(service)
            left.remove(service)
    return ordered
