"""Which addresses may be reached, and that nothing gets past the rule."""

import ipaddress
import socket

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from wire_support import LOOPBACK, Wire, answering, ask

from federation.wire.addresses import (
    AddressPolicy,
    AddressRefused,
    guarded_connector,
    inner_ipv4,
    is_public,
)
from federation.wire.dns import Addresses
from federation.wire.errors import NotReachable

PRIVATE_V4 = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
PRIVATE_V6 = [
    "::",
    "::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "64:ff9b:1::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]


def wrapped(address: str) -> list[str]:
    """The IPv6 addresses that lead to an IPv4 address, or look like it."""
    high, low = divmod(int(ipaddress.IPv4Address(address)), 2**16)
    return [
        f"::ffff:{address}",
        f"::ffff:0:{address}",
        f"64:ff9b::{address}",
        f"2002:{high:x}:{low:x}::1",
    ]


@pytest.mark.parametrize("address", PRIVATE_V4 + PRIVATE_V6)
def test_private_addresses_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not AddressPolicy().is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_a_private_address_within_ipv6_is_refused(address: str) -> None:
    for each in wrapped(address):
        assert not is_public(ipaddress.ip_address(each)), each
    # IPv4-compatible addresses are deprecated and lead nowhere good.
    assert not is_public(ipaddress.ip_address(f"::{address}"))


def test_a_public_address_within_ipv6_is_allowed() -> None:
    for each in wrapped("1.1.1.1"):
        assert is_public(ipaddress.ip_address(each)), each


@given(st.ip_addresses(v=4))
def test_wrapping_changes_nothing(address: ipaddress.IPv4Address) -> None:
    for each in wrapped(str(address)):
        outer = ipaddress.ip_address(each)
        assert inner_ipv4(outer) == address
        assert is_public(outer) == is_public(address)


def test_listed_networks_are_allowed_and_no_others() -> None:
    policy = AddressPolicy(
        [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")]
    )
    for address, allowed in [
        ("10.1.2.3", True),
        ("10.2.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:10.2.2.3", False),
        ("fd00::1", True),
        ("fc00::1", False),
        ("127.0.0.1", False),
        ("1.1.1.1", True),
    ]:
        assert policy.is_allowed(ipaddress.ip_address(address)) is allowed, address


def test_no_socket_is_made_for_a_refused_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefused):
        AddressPolicy().open_socket(info)
    AddressPolicy(LOOPBACK).open_socket(info).close()


class TestRequests:
    async def test_an_ip_literal_is_refused(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        client = wire.client(allow_addresses=())
        with pytest.raises(NotReachable, match=r"127\.0\.0\.1 is not public"):
            await ask(client, f"127.0.0.1:{remote.port}")
        assert remote.handshakes == []

    async def test_a_name_that_leads_inside_is_refused(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1", "::ffff:127.0.0.1"]
        client = wire.client(allow_addresses=(), matrix_port=remote.port)
        with pytest.raises(NotReachable, match="not public"):
            await ask(client, f"a.test:{remote.port}")
        with pytest.raises(NotReachable, match="not public"):
            await ask(client, "a.test")
        assert remote.handshakes == []

    async def test_only_the_allowed_addresses_of_a_name_are_tried(
        self, wire: Wire
    ) -> None:
        inside = await wire.remote("a.test", host="127.0.0.2")
        allowed = await wire.remote("a.test", host="127.0.0.3", port=inside.port)
        wire.resolver.hosts["a.test"] = ["127.0.0.2", "127.0.0.3"]
        client = wire.client(allow_addresses=(ipaddress.ip_network("127.0.0.3/32"),))
        await ask(client, f"a.test:{inside.port}")
        assert (inside.handshakes, len(allowed.seen)) == ([], 1)

    async def test_an_srv_target_that_leads_inside_is_refused(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.srv["_matrix._tcp.a.test"] = [(0, 0, remote.port, "in.test")]
        wire.resolver.hosts["in.test"] = ["127.0.0.1"]
        with pytest.raises(NotReachable, match="not public"):
            await ask(wire.client(allow_addresses=()), "a.test")
        assert remote.handshakes == []

    @pytest.mark.parametrize("to", ["127.0.0.2", "in.test", "[::ffff:127.0.0.2]"])
    async def test_a_redirect_to_the_inside_is_not_followed(
        self, wire: Wire, to: str
    ) -> None:
        inside = await wire.remote("127.0.0.2", "in.test", host="127.0.0.2")
        location = f"https://{to}:{inside.port}/secret"
        outside = await wire.remote(
            "a.test",
            host="127.0.0.1",
            handler=answering({}, 302, {"Location": location}),
        )
        remote = await wire.remote("a.test", host="127.0.0.1")
        wire.resolver.hosts |= {"a.test": ["127.0.0.1"], "in.test": ["127.0.0.2"]}
        client = wire.client(
            allow_addresses=(ipaddress.ip_network("127.0.0.1/32"),),
            well_known_port=outside.port,
            matrix_port=remote.port,
        )
        await ask(client, "a.test")
        assert len(outside.seen) == 1
        assert inside.handshakes == []
        assert len(remote.seen) == 1

    async def test_a_delegation_to_the_inside_is_refused(self, wire: Wire) -> None:
        inside = await wire.remote("127.0.0.2", host="127.0.0.2")
        outside = await wire.remote(
            "a.test", handler=answering({"m.server": f"127.0.0.2:{inside.port}"})
        )
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        client = wire.client(
            allow_addresses=(ipaddress.ip_network("127.0.0.1/32"),),
            well_known_port=outside.port,
        )
        with pytest.raises(NotReachable, match="not public"):
            await ask(client, "a.test")
        assert inside.handshakes == []

    async def test_dns_that_changes_its_mind_cannot_lead_inside(
        self, wire: Wire
    ) -> None:
        """The vetted address is connected to; the name is not looked up again."""
        inside = await wire.remote("a.test", host="127.0.0.2")
        outside = await wire.remote("a.test", host="127.0.0.1", port=inside.port)
        answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

        async def rebinding(host: str) -> Addresses:
            return Addresses((ipaddress.ip_address(next(answers)),), 0)

        wire.resolver.addresses = rebinding
        client = wire.client(allow_addresses=(ipaddress.ip_network("127.0.0.1/32"),))
        await ask(client, f"a.test:{outside.port}")
        wire.clock.now += 3600
        with pytest.raises(NotReachable, match="not public"):
            await ask(client, f"a.test:{outside.port}")
        assert inside.handshakes == []
        assert len(outside.seen) == 1


class TestGuardedConnector:
    """For outgoing HTTP of any other kind, where aiohttp itself finds the way."""

    @pytest.fixture
    async def inside(self):
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.reached.append(request.path)
            return web.Response(text="secret")

        self.reached: list[str] = []
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
        await runner.cleanup()

    async def get(self, url: str, *allow: str) -> str:
        policy = AddressPolicy([ipaddress.ip_network(each) for each in allow])
        connector = guarded_connector(policy, limit=5)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url) as response,
        ):
            return await response.text()

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
    async def test_refuses_literals_and_names(self, inside: int, host: str) -> None:
        with pytest.raises(aiohttp.ClientConnectorError):
            await self.get(f"http://{host}:{inside}/")
        assert self.reached == []

    async def test_allows_what_is_listed(self, inside: int) -> None:
        url = f"http://127.0.0.1:{inside}/"
        assert await self.get(url, "127.0.0.0/8") == "secret"

    async def test_holds_after_redirects(self, inside: int) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            raise web.HTTPFound(f"http://127.0.0.1:{inside}/")

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.2", 0).start()
        port = runner.addresses[0][1]
        with pytest.raises(aiohttp.ClientConnectorError):
            await self.get(f"http://127.0.0.2:{port}/", "127.0.0.2/32")
        await runner.cleanup()
        assert self.reached == []
