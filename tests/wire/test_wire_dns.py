"""DNS: SRV records in their order, and c-ares against a name server of ours."""

import asyncio

import pytest
from wire_support import NameServer, Wire, ask

from federation.wire import discovery
from federation.wire.dns import Addresses, Service, Services, SystemResolver, in_order
from federation.wire.errors import NotReachable


class TestOrderOfSrvRecords:
    def test_lower_priorities_come_first(self) -> None:
        records = [Service(priority, 0, 1, "t") for priority in (3, 1, 2, 1)]
        assert [each.priority for each in in_order(records)] == [1, 1, 2, 3]

    def test_within_a_priority_weight_is_a_matter_of_chance(self) -> None:
        light, heavy, none = (
            Service(1, weight, 1, str(weight)) for weight in (1, 9, 0)
        )
        # RFC 2782: a number from 0 to the sum, the first whose running sum reaches it.
        for number, first in [(0, none), (1, light), (2, heavy), (10, heavy)]:
            asked: list[int] = []

            def pick(below: int, number: int = number, asked: list = asked) -> int:
                asked.append(below)
                return number if len(asked) == 1 else 0

            ordered = in_order([heavy, none, light], pick)
            assert ordered[0] == first
            assert asked[0] == 11
            assert sorted(map(id, ordered)) == sorted(map(id, (heavy, none, light)))


class TestSystemResolver:
    @pytest.fixture
    async def dns(self):
        server = await NameServer().start()
        yield server
        server.stop()

    @pytest.fixture
    async def resolver(self, dns: NameServer):
        resolver = SystemResolver([f"127.0.0.1:{dns.port}"])
        yield resolver
        await resolver.close()

    async def test_addresses_of_both_families(self, dns, resolver) -> None:
        dns.add_host("a.test", "127.0.0.7", "::1")
        found = await resolver.addresses("a.test")
        assert sorted(map(str, found.addresses)) == ["127.0.0.7", "::1"]
        assert found.ttl == 77

    async def test_srv_records(self, dns, resolver) -> None:
        dns.add_srv("_matrix-fed._tcp.a.test", 1, 2, 8449, "target.test")
        dns.add_srv("_matrix-fed._tcp.a.test", 3, 4, 8450, ".")
        found = await resolver.services("_matrix-fed._tcp.a.test")
        assert sorted(found.services, key=lambda each: each.port) == [
            Service(1, 2, 8449, "target.test"),
            Service(3, 4, 8450, ""),
        ]
        assert found.ttl == 77

    async def test_what_does_not_exist_is_empty(self, dns, resolver) -> None:
        dns.add_host("a.test", "127.0.0.7")
        assert (await resolver.addresses("no.test")).addresses == ()
        assert (await resolver.services("_matrix._tcp.no.test")).services == ()
        assert (await resolver.services("a.test")).services == ()

    async def test_a_server_that_refuses_is_a_failure(self, dns, resolver) -> None:
        dns.refuses.add("a.test")
        with pytest.raises(Exception, match=r"DNS for a\.test"):
            await resolver.services("a.test")
        with pytest.raises(Exception, match=r"DNS for a\.test"):
            await resolver.addresses("a.test")

    async def test_the_whole_way(self, wire: Wire, dns, resolver) -> None:
        remote = await wire.remote("a.test")
        dns.add_srv("_matrix-fed._tcp.a.test", 0, 0, remote.port, "target.test")
        dns.add_host("target.test", "127.0.0.1")
        await ask(wire.client(resolver=resolver), "a.test")
        assert remote.seen[0].host == "a.test"


class TestNameServersThatHang:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch) -> None:
        monkeypatch.setattr(discovery, "DNS_SECONDS", 0.1)

    async def test_for_srv_are_as_if_there_were_no_record(self, wire: Wire) -> None:
        async def hang(name: str) -> Services:
            await asyncio.sleep(60)
            raise AssertionError

        wire.resolver.services = hang
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await asyncio.wait_for(ask(wire.client(matrix_port=remote.port), "a.test"), 5)
        assert len(remote.seen) == 1

    async def test_for_addresses_leave_nothing_to_try(self, wire: Wire) -> None:
        async def hang(host: str) -> Addresses:
            await asyncio.sleep(60)
            raise AssertionError

        wire.resolver.addresses = hang
        with pytest.raises(NotReachable, match="time-out"):
            await asyncio.wait_for(ask(wire.client(), "a.test:1"), 5)
