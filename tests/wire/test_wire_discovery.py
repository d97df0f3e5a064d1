"""Each step of server discovery: where the request arrives, Host, SNI, certificate."""

import pytest
from wire_support import (
    NOWHERE,
    PATH,
    Remote,
    Wire,
    answering,
    ask,
    delegating,
    has_ipv6,
)

from federation.wire.client import WireClient
from federation.wire.errors import NotReachable

WELL_KNOWN = "/.well-known/matrix/server"


async def delegates(wire: Wire, host: str, to: str) -> Remote:
    """A web server for the host's .well-known."""
    web_server = await wire.remote(host, handler=delegating(to))
    wire.resolver.hosts[host] = ["127.0.0.1"]
    return web_server


class TestStep1IpLiterals:
    async def test_with_a_port(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        await ask(wire.client(), f"127.0.0.1:{remote.port}")
        assert remote.seen[0].host == f"127.0.0.1:{remote.port}"
        # "SNI is not supported and should not be sent" for IP addresses.
        assert remote.seen[0].sni is None
        assert wire.resolver.asked == []

    async def test_without_a_port_it_is_8448(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        await ask(wire.client(matrix_port=remote.port), "127.0.0.1")
        assert remote.seen[0].host == "127.0.0.1"

    async def test_the_certificate_must_be_for_the_address(self, wire: Wire) -> None:
        remote = await wire.remote("localhost", "127.0.0.2")
        with pytest.raises(NotReachable, match="certificate"):
            await ask(wire.client(), f"127.0.0.1:{remote.port}")
        assert remote.seen == []

    @pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
    async def test_ipv6_with_and_without_a_port(self, wire: Wire) -> None:
        remote = await wire.remote("::1", host="::1")
        await ask(wire.client(), f"[::1]:{remote.port}")
        await ask(wire.client(matrix_port=remote.port), "[::1]")
        assert [seen.host for seen in remote.seen] == [f"[::1]:{remote.port}", "[::1]"]
        assert [seen.sni for seen in remote.seen] == [None, None]


class TestStep2ExplicitPort:
    async def test_the_host_is_resolved_and_not_asked_for_well_known(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(wire.client(well_known_port=remote.port), f"a.test:{remote.port}")
        assert [(seen.target, seen.host, seen.sni) for seen in remote.seen] == [
            (PATH, f"a.test:{remote.port}", "a.test")
        ]
        assert wire.resolver.asked == ["a.test"]

    async def test_the_certificate_must_be_for_the_host(self, wire: Wire) -> None:
        remote = await wire.remote("b.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        with pytest.raises(NotReachable, match="certificate"):
            await ask(wire.client(), f"a.test:{remote.port}")

    async def test_a_name_without_addresses_is_not_reachable(self, wire: Wire) -> None:
        with pytest.raises(NotReachable, match="no address"):
            await ask(wire.client(), "a.test:8448")
        wire.resolver.hosts["b.test"] = None
        with pytest.raises(NotReachable, match="broken"):
            await ask(wire.client(), "b.test:8448")


class TestStep3WellKnown:
    async def client(self, wire: Wire, to: str, **options: int) -> WireClient:
        web_server = await delegates(wire, "a.test", to)
        return wire.client(well_known_port=web_server.port, **options)

    async def test_it_is_asked_by_https_on_the_host(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        client = await self.client(wire, f"127.0.0.1:{remote.port}")
        await ask(client, "a.test")
        (seen,) = wire.remotes[1].seen
        assert (seen.method, seen.target) == ("GET", WELL_KNOWN)
        assert (seen.host, seen.sni) == ("a.test", "a.test")
        assert "Authorization" not in seen.headers

    async def test_3_1_an_ip_literal_with_a_port(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        await ask(await self.client(wire, f"127.0.0.1:{remote.port}"), "a.test")
        assert remote.seen[0].host == f"127.0.0.1:{remote.port}"
        assert remote.seen[0].sni is None

    async def test_3_1_an_ip_literal_without_a_port(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        client = await self.client(wire, "127.0.0.1", matrix_port=remote.port)
        await ask(client, "a.test")
        assert remote.seen[0].host == "127.0.0.1"

    async def test_3_2_a_host_with_a_port(self, wire: Wire) -> None:
        remote = await wire.remote("d.test")
        wire.resolver.hosts["d.test"] = ["127.0.0.1"]
        await ask(await self.client(wire, f"d.test:{remote.port}"), "a.test")
        assert remote.seen[0].host == f"d.test:{remote.port}"
        assert remote.seen[0].sni == "d.test"
        assert not any("_tcp" in name for name in wire.resolver.asked)

    @pytest.mark.parametrize("prefix", ["_matrix-fed._tcp.", "_matrix._tcp."])
    async def test_3_3_and_3_4_an_srv_record(self, wire: Wire, prefix: str) -> None:
        remote = await wire.remote("d.test")
        wire.resolver.srv[prefix + "d.test"] = [(0, 0, remote.port, "target.test")]
        wire.resolver.hosts["target.test"] = ["127.0.0.1"]
        await ask(await self.client(wire, "d.test"), "a.test")
        assert remote.seen[0].host == "d.test"
        assert remote.seen[0].sni == "d.test"
        # The signature is for the name from before the delegation.
        assert 'destination="a.test"' in remote.seen[0].headers["Authorization"]

    async def test_the_registered_service_goes_before_the_deprecated(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("d.test")
        wire.resolver.srv = {
            "_matrix-fed._tcp.d.test": [(0, 0, remote.port, "target.test")],
            "_matrix._tcp.d.test": [(0, 0, 1, "nowhere.test")],
        }
        wire.resolver.hosts["target.test"] = ["127.0.0.1"]
        await ask(await self.client(wire, "d.test"), "a.test")
        assert "_matrix._tcp.d.test" not in wire.resolver.asked

    async def test_3_5_without_srv_records_it_is_8448(self, wire: Wire) -> None:
        remote = await wire.remote("d.test")
        wire.resolver.hosts["d.test"] = ["127.0.0.1"]
        await ask(await self.client(wire, "d.test", matrix_port=remote.port), "a.test")
        assert remote.seen[0].host == "d.test"
        assert remote.seen[0].sni == "d.test"
        assert wire.resolver.asked[-3:] == [
            "_matrix-fed._tcp.d.test",
            "_matrix._tcp.d.test",
            "d.test",
        ]

    async def test_the_certificate_must_be_for_the_delegated_host(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test", "target.test")
        wire.resolver.srv["_matrix-fed._tcp.d.test"] = [
            (0, 0, remote.port, "target.test")
        ]
        wire.resolver.hosts["target.test"] = ["127.0.0.1"]
        with pytest.raises(NotReachable, match="certificate"):
            await ask(await self.client(wire, "d.test"), "a.test")

    async def test_a_delegated_host_does_not_delegate_further(self, wire: Wire) -> None:
        remote = await wire.remote("d.test")
        wire.resolver.hosts["d.test"] = ["127.0.0.1"]
        await ask(await self.client(wire, "d.test", matrix_port=remote.port), "a.test")
        assert [seen.target for seen in remote.seen] == [PATH]


class TestSteps4To6WithoutWellKnown:
    @pytest.mark.parametrize("prefix", ["_matrix-fed._tcp.", "_matrix._tcp."])
    async def test_4_and_5_an_srv_record(self, wire: Wire, prefix: str) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.srv[prefix + "a.test"] = [(0, 0, remote.port, "target.test")]
        wire.resolver.hosts["target.test"] = ["127.0.0.1"]
        await ask(wire.client(), "a.test")
        assert remote.seen[0].host == "a.test"
        assert remote.seen[0].sni == "a.test"

    async def test_6_without_srv_records_it_is_8448(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(wire.client(matrix_port=remote.port), "a.test")
        assert remote.seen[0].host == "a.test"
        assert remote.seen[0].sni == "a.test"

    @pytest.mark.parametrize(
        "answer",
        [
            answering({"m.server": "d.test"}, status=404),
            answering({"m.server": "d.test"}, status=500),
            answering(b"<html>"),
            answering([]),
            answering({}),
            answering({"m.server": 5}),
            answering({"m.server": "not a name"}),
            answering({"m.server": "d.test", "more": "x" * 60_000}),
            answering({}, status=301),
            answering({}, status=301, headers={"Location": "http://d.test/"}),
            answering({}, status=301, headers={"Location": "https://u:p@d.test/"}),
            answering({}, status=301, headers={"Location": "https://[/"}),
        ],
    )
    async def test_an_invalid_answer_leads_to_step_4(self, wire: Wire, answer) -> None:
        web_server = await wire.remote("a.test", handler=answer)
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(
            wire.client(well_known_port=web_server.port, matrix_port=remote.port),
            "a.test",
        )
        assert len(web_server.seen) == 1
        assert remote.seen[0].host == "a.test"
        assert not any("d.test" in name for name in wire.resolver.asked)

    async def test_any_content_type_will_do(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        body = {"m.server": f"127.0.0.1:{remote.port}"}
        web_server = await wire.remote(
            "a.test", handler=answering(body, headers={"Content-Type": "text/plain"})
        )
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(wire.client(well_known_port=web_server.port), "a.test")
        assert len(remote.seen) == 1

    async def test_broken_dns_for_srv_is_as_if_there_were_none(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.resolver.srv["_matrix-fed._tcp.a.test"] = None
        wire.resolver.srv["_matrix._tcp.a.test"] = None
        await ask(wire.client(matrix_port=remote.port), "a.test")
        assert len(remote.seen) == 1

    async def test_a_target_of_a_dot_means_no_service(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.resolver.srv["_matrix-fed._tcp.a.test"] = [(0, 0, remote.port, ".")]
        with pytest.raises(NotReachable, match="no address"):
            await ask(wire.client(matrix_port=remote.port), "a.test")


class TestFallingBack:
    async def test_addresses_are_tried_in_turn(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = [NOWHERE, "127.0.0.1"]
        await ask(wire.client(), f"a.test:{remote.port}")
        assert len(remote.seen) == 1

    async def test_srv_records_are_tried_by_priority(self, wire: Wire) -> None:
        first = await wire.remote("a.test")
        second = await wire.remote("a.test")
        wire.resolver.srv["_matrix-fed._tcp.a.test"] = [
            (30, 0, second.port, "target.test"),
            (10, 0, 1, "target.test"),
            (15, 0, 4000, "gone.test"),
            (20, 0, first.port, "target.test"),
        ]
        wire.resolver.hosts |= {"target.test": ["127.0.0.1"], "gone.test": None}
        client = wire.client()
        await ask(client, "a.test")
        assert (len(first.seen), len(second.seen)) == (1, 0)
        await first.stop()
        await ask(client, "a.test")
        assert len(second.seen) == 1

    async def test_a_wrong_certificate_leads_to_the_next(self, wire: Wire) -> None:
        wrong = await wire.remote("b.test")
        right = await wire.remote("a.test")
        wire.resolver.srv["_matrix-fed._tcp.a.test"] = [
            (1, 0, wrong.port, "target.test"),
            (2, 0, right.port, "target.test"),
        ]
        wire.resolver.hosts["target.test"] = ["127.0.0.1"]
        await ask(wire.client(), "a.test")
        assert (len(wrong.seen), len(right.seen)) == (0, 1)

    async def test_a_route_that_leads_nowhere_is_looked_up_anew(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = [NOWHERE]
        client = wire.client()
        name = f"a.test:{remote.port}"
        with pytest.raises(NotReachable):
            await ask(client, name)
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.clock.now += 10
        await ask(client, name)
        assert len(remote.seen) == 1


class TestRouteCache:
    async def test_dns_is_asked_again_when_its_answer_has_run_out(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.resolver.ttl = 60
        client = wire.client()
        name = f"a.test:{remote.port}"
        for seconds, times in [(0, 1), (59, 1), (2, 2)]:
            wire.clock.now += seconds
            await ask(client, name)
            assert len(wire.resolver.asked) == times

    async def test_no_route_is_kept_for_more_than_five_minutes(
        self, wire: Wire
    ) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.resolver.ttl = 86400
        client = wire.client()
        await ask(client, f"a.test:{remote.port}")
        wire.clock.now += 301
        await ask(client, f"a.test:{remote.port}")
        assert len(wire.resolver.asked) == 2


@pytest.mark.parametrize(
    "name", ["a..b", ".a.test", "a.test..:8448", "x" * 64 + ".test", "a.test:0"]
)
async def test_names_that_cannot_be_looked_up_are_not_reachable(
    wire: Wire, name: str
) -> None:
    with pytest.raises(NotReachable):
        await ask(wire.client(), name)


async def test_a_delegation_to_such_a_name_is_not_reachable(wire: Wire) -> None:
    web_server = await delegates(wire, "a.test", "b..test")
    with pytest.raises(NotReachable, match="not a host name"):
        await ask(wire.client(well_known_port=web_server.port), "a.test")
