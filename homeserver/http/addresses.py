"""Whose address a request comes from, when our own reverse proxy stands in between."""

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from aiohttp.web import BaseRequest

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# A proxy on the same machine, as most installations have it.
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_MAX_HOPS: Final = 16


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed."""

    __slots__ = ("_networks", "_seen")

    def __init__(self, networks: Iterable[str] = LOOPBACK) -> None:
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(network) for network in networks
        )
        # Peers that have asked, and whether they are proxies; bounded by `_trusts`.
        self._seen: dict[str, bool] = {}

    def peer(self, raw: BaseRequest) -> str:
        """The address that asks; "" for a Unix socket.

        Proxies append to the header, so the last address that is not a proxy's is the
        one that none of them made up.
        """
        address = raw.remote or ""
        forwarded = raw.headers.get("X-Forwarded-For")
        if forwarded is None or not (address == "" or self._trusts(address)):
            return address
        for hop in reversed(forwarded.split(",")[-_MAX_HOPS:]):
            candidate = hop.strip()
            try:
                ipaddress.ip_address(candidate)
            except ValueError:
                return address
            address = candidate
            if not self._trusts(address):
                break
        return address

    def _trusts(self, address: str) -> bool:
        known = self._seen.get(address)
        if known is None:
            if len(self._seen) >= 4096:
                self._seen.clear()
            try:
                parsed = ipaddress.ip_address(address)
            except ValueError:
                return False
            known = any(parsed in network for network in self._networks)
            self._seen[address] = known
        return known
