"""Which IP addresses outgoing requests may reach: the public internet and no other.

A name in a room, a delegation or a redirect is chosen by strangers, who must not make
us talk to our own network. The rule is enforced where the socket is made, on the very
address that is connected to, so neither IP literals nor DNS answers that change
between two look-ups get past it.
"""

import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

import aiohttp

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
AddressInfo: TypeAlias = tuple[
    int | socket.AddressFamily,
    int | socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]

# Networks that `is_global` does not keep out in every supported Python, or that lead
# elsewhere than they seem to.
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # "this network"
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
        "192.0.0.0/24",  # IETF protocol assignments
        "192.88.99.0/24",  # 6to4 relay anycast, deprecated
        "198.18.0.0/15",  # benchmarking
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible (deprecated)
        "100::/64",  # discard
        "2001::/23",  # IETF protocol assignments
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local, deprecated
        "ff00::/8",  # multicast
    )
)
# Prefixes that hold an IPv4 address, as (network, bits to the right of it).
_WITH_IPV4: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated (RFC 2765)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056)
)
# RFC 8215: NAT64 prefixes of networks' own choice, where the place of the IPv4
# address is not known.
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")


def inner_ipv4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to, or None."""
    if isinstance(address, IPv6Address):
        for network, shift in _WITH_IPV4:
            if address in network:
                return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


def is_public(address: IPAddress) -> bool:
    """Whether an address is part of the public internet.

    An IPv6 address that leads to an IPv4 address is judged by that one.
    """
    inner = inner_ipv4(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, IPv6Address) and (
        address.scope_id is not None or address in _LOCAL_NAT64
    ):
        return False
    return address.is_global and not any(
        address in network
        for network in _NOT_PUBLIC
        if network.version == address.version
    )


class AddressRefused(OSError):  # noqa: N818 - aiohttp takes OSError for "no connection"
    """A connection to an address outside the public internet was not made."""


class AddressPolicy:
    """The public internet, and the networks that the configuration adds to it."""

    def __init__(self, allow: Sequence[IPNetwork] = ()) -> None:
        self._allow = tuple(allow)

    def is_allowed(self, address: IPAddress) -> bool:
        """Whether a request may go to this address."""
        if is_public(address):
            return True
        inner = inner_ipv4(address)
        return self._is_listed(address) or (
            inner is not None and self._is_listed(inner)
        )

    def _is_listed(self, address: IPAddress) -> bool:
        return any(
            address.version == network.version and address in network
            for network in self._allow
        )

    def open_socket(self, info: AddressInfo) -> socket.socket:
        """A socket for this address. Raises: AddressRefused."""
        family, kind, protocol, _, sockaddr = info
        address = ipaddress.ip_address(sockaddr[0])
        if not self.is_allowed(address):
            raise AddressRefused(f"{address} is not a public address")
        return socket.socket(family, kind, protocol)


def guarded_connector(
    policy: AddressPolicy, *, limit: int, limit_per_host: int = 0
) -> aiohttp.TCPConnector:
    """A connector for any outgoing HTTP: it connects only where the policy allows.

    It holds for IP literals, for every address of a name, and after redirects.
    """
    return aiohttp.TCPConnector(
        limit=limit, limit_per_host=limit_per_host, socket_factory=policy.open_socket
    )
