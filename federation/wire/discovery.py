"""From a server name to the addresses to try, the Host header and the certificate.

Spec: server-server-api#resolving-server-names
"""

import asyncio
import ipaddress
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import ServerName
from federation.wire.addresses import AddressPolicy, IPAddress
from federation.wire.caching import BoundedCache, Once
from federation.wire.dns import (
    Addresses,
    LookupFailed,
    Resolver,
    Service,
    in_order,
    is_host_name,
)
from federation.wire.errors import NotReachable
from federation.wire.options import WireOptions
from federation.wire.transport import Endpoint, Transport
from federation.wire.well_known import WellKnown

# The first is the registered one, the second is deprecated.
SRV_PREFIXES: Final = ("_matrix-fed._tcp.", "_matrix._tcp.")
# How long a route is used before DNS is asked again, whatever DNS says.
MIN_ROUTE_SECONDS: Final = 5
MAX_ROUTE_SECONDS: Final = 300
MAX_ROUTES: Final = 10_000
# What of a name's records is tried at most.
MAX_SERVICES: Final = 8
MAX_ADDRESSES: Final = 6
DNS_SECONDS: Final = 12.0


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a server: endpoints to try in this order."""

    endpoints: tuple[Endpoint, ...]
    expires_at: float


@dataclass(frozen=True, slots=True)
class HostPort:
    """A server name taken apart; `address` is set when the host is an IP literal."""

    host: str
    address: IPAddress | None
    port: int | None


def split(server: ServerName) -> HostPort:
    """Take a server name apart."""
    host, port = str(server), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = host.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return HostPort(host, None, int(port) if port else None)
    return HostPort(host, address, int(port) if port else None)


class _NoRoute(Exception):  # noqa: N818 - turned into NotReachable
    """There is no address to try."""


@dataclass(slots=True)
class _Lookups:
    """One walk: the shortest lifetime seen on it, and what was refused."""

    ttl: float = MAX_ROUTE_SECONDS
    refused: IPAddress | None = None

    def saw(self, ttl: int) -> None:
        """DNS gave an answer that lives so long."""
        self.ttl = min(self.ttl, max(ttl, MIN_ROUTE_SECONDS))


class Discovery:
    """Finds routes to servers and remembers them for a while.

    Where DNS fails for an SRV record, the walk goes on as if there were none: the
    certificate decides in the end whether the right server was found.
    """

    def __init__(
        self,
        resolver: Resolver,
        transport: Transport,
        policy: AddressPolicy,
        options: WireOptions,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._resolver = resolver
        self._policy = policy
        self._options = options
        self._clock = clock
        self._routes: BoundedCache[ServerName, Route] = BoundedCache(MAX_ROUTES)
        self._finding: Once[ServerName, Route | str] = Once()
        self.well_known = WellKnown(transport, self._locate_web, clock, chance)

    @property
    def known(self) -> tuple[int, int]:
        """How many routes are remembered, and how many answers of `.well-known`."""
        return len(self._routes), self.well_known.count

    def close(self) -> None:
        """Give up look-ups under way."""
        self._finding.cancel()
        self.well_known.close()

    def forget(self, server: ServerName) -> None:
        """Look the server up anew next time, since the route led nowhere."""
        self._routes.drop(server)

    async def route_to(self, server: ServerName) -> Route:
        """The endpoints of a server. Raises: NotReachable, when it has none."""
        route = self._routes.get(server)
        if route is not None and self._clock() < route.expires_at:
            return route
        found = await self._finding.do(server, lambda: self._find(server))
        if isinstance(found, str):
            raise NotReachable(server, found)
        return found

    async def _find(self, server: ServerName) -> Route | str:
        """A route, or why there is none."""
        lookups = _Lookups()
        try:
            endpoints = await self._walk(server, lookups)
        except (_NoRoute, LookupFailed) as error:
            return str(error)
        route = Route(endpoints, self._clock() + lookups.ttl)
        self._routes.put(server, route)
        return route

    async def _walk(
        self, server: ServerName, lookups: _Lookups
    ) -> tuple[Endpoint, ...]:
        """Steps 1 to 6; the delegated name goes through them without step 3."""
        name = split(server)
        if name.address is not None or name.port is not None:
            return await self._direct(server, name, lookups)
        _check_host(name.host)
        delegation = await self.well_known.delegation_of(name.host)
        lookups.ttl = min(lookups.ttl, delegation.expires_at - self._clock())
        if delegation.delegated is None:
            return await self._by_service(name.host, lookups)
        name = split(delegation.delegated)
        if name.address is not None or name.port is not None:
            return await self._direct(delegation.delegated, name, lookups)
        return await self._by_service(name.host, lookups)

    async def _direct(
        self, host_header: str, name: HostPort, lookups: _Lookups
    ) -> tuple[Endpoint, ...]:
        """Steps 1 and 2, or 3.1 and 3.2: an IP literal or an explicit port."""
        port = self._options.matrix_port if name.port is None else name.port
        if name.address is not None:
            addresses = self._vetted((name.address,), lookups)
        else:
            addresses = await self._addresses(name.host, lookups)
        return _endpoints(
            ((address, port) for address in addresses), host_header, name.host, lookups
        )

    async def _by_service(self, host: str, lookups: _Lookups) -> tuple[Endpoint, ...]:
        """Steps 3.3 to 3.5, or 4 to 6: SRV records, else port 8448.

        The certificate is for the name that was looked up, not for an SRV target.
        """
        _check_host(host)
        services = await self._services(host, lookups)
        if services is None:
            addresses = await self._addresses(host, lookups)
            port = self._options.matrix_port
            return _endpoints(((each, port) for each in addresses), host, host, lookups)
        targets = [
            (address, service.port)
            for service in services
            for address in await self._target_addresses(service, lookups)
        ]
        return _endpoints(targets, host, host, lookups)

    async def _services(self, host: str, lookups: _Lookups) -> Sequence[Service] | None:
        """The SRV records to try, in order; None when the host has none."""
        for prefix in SRV_PREFIXES:
            try:
                async with asyncio.timeout(DNS_SECONDS):
                    found = await self._resolver.services(prefix + host)
            except (LookupFailed, TimeoutError):
                continue
            if found.services:
                lookups.saw(found.ttl)
                # "A Target of '.' means that the service is decidedly not available
                # at this domain" (RFC 2782).
                return [
                    service
                    for service in in_order(found.services)
                    if service.target not in ("", ".")
                ][:MAX_SERVICES]
        return None

    async def _target_addresses(
        self, service: Service, lookups: _Lookups
    ) -> Sequence[IPAddress]:
        """One bad target does not spoil the others."""
        if not is_host_name(service.target):
            return ()
        try:
            return await self._addresses(service.target, lookups)
        except LookupFailed:
            return ()

    async def _addresses(self, host: str, lookups: _Lookups) -> Sequence[IPAddress]:
        _check_host(host)
        try:
            async with asyncio.timeout(DNS_SECONDS):
                found: Addresses = await self._resolver.addresses(host)
        except TimeoutError:
            raise LookupFailed(f"DNS for {host}: time-out") from None
        lookups.saw(found.ttl)
        return self._vetted(found.addresses, lookups)

    def _vetted(
        self, addresses: Iterable[IPAddress], lookups: _Lookups
    ) -> Sequence[IPAddress]:
        allowed = []
        for address in addresses:
            if self._policy.is_allowed(address):
                allowed.append(address)
            else:
                lookups.refused = address
        return allowed[:MAX_ADDRESSES]

    async def _locate_web(self, host: str, port: int | None) -> tuple[Endpoint, ...]:
        """The endpoints of an https URL's host and port, for `.well-known`."""
        lookups = _Lookups()
        is_ipv6 = ":" in host
        header = f"[{host}]" if is_ipv6 else host
        name = split(ServerName(header))
        try:
            addresses = (
                self._vetted((name.address,), lookups)
                if name.address is not None
                else await self._addresses(host, lookups)
            )
        except (LookupFailed, _NoRoute):
            return ()
        return tuple(
            Endpoint(
                address=address,
                port=self._options.well_known_port if port is None else port,
                host_header=header if port is None else f"{header}:{port}",
                tls_name=host,
            )
            for address in addresses
        )


def _check_host(host: str) -> None:
    if not is_host_name(host):
        raise _NoRoute(f"{host} is not a host name")


def _endpoints(
    targets: Iterable[tuple[IPAddress, int]],
    host_header: str,
    tls_name: str,
    lookups: _Lookups,
) -> tuple[Endpoint, ...]:
    endpoints = tuple(
        Endpoint(address, port, host_header, tls_name)
        for address, port in dict.fromkeys(targets)
        if port
    )
    if endpoints:
        return endpoints
    if lookups.refused is not None:
        raise _NoRoute(f"its address {lookups.refused} is not public, nor allowed")
    raise _NoRoute("no address found")
