"""`.well-known/matrix/server`: its redirects, and how long its answers are kept."""

import asyncio

import pytest
from aiohttp import web
from wire_support import Remote, Wire, answering, ask, delegating

from federation.wire import well_known

WELL_KNOWN = "/.well-known/matrix/server"


class TestRedirects:
    async def test_are_followed_to_other_hosts_and_paths(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        final = await wire.remote(
            "w.test", handler=delegating(f"127.0.0.1:{remote.port}")
        )
        location = f"https://w.test:{final.port}/else%2Fwhere?a=1#fragment"
        first = await wire.remote(
            "a.test", handler=answering({}, 302, {"Location": location})
        )
        wire.resolver.hosts |= {"a.test": ["127.0.0.1"], "w.test": ["127.0.0.1"]}
        await ask(wire.client(well_known_port=first.port), "a.test")
        (seen,) = final.seen
        assert seen.target == "/else%2Fwhere?a=1"
        assert seen.host == f"w.test:{final.port}"
        assert seen.sni == "w.test"
        assert len(remote.seen) == 1

    async def test_may_be_relative(self, wire: Wire) -> None:
        remote = await wire.remote("127.0.0.1")
        good = delegating(f"127.0.0.1:{remote.port}")
        away = answering({}, 308, {"Location": "../other"})

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await (away if request.path == WELL_KNOWN else good)(request)

        web_server = await wire.remote("a.test", handler=handle)
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(wire.client(well_known_port=web_server.port), "a.test")
        assert [seen.target for seen in web_server.seen] == [
            WELL_KNOWN,
            "/.well-known/other",
        ]

    @pytest.mark.parametrize("kind", ["same", "circle", "endless"])
    async def test_loops_end(self, wire: Wire, kind: str) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            number = int(request.query.get("n", 0))
            following = {"same": 0, "circle": (number + 1) % 3, "endless": number + 1}
            location = f"{WELL_KNOWN}?n={following[kind]}"
            return web.Response(status=302, headers={"Location": location})

        web_server = await wire.remote("a.test", handler=handle)
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        await ask(
            wire.client(well_known_port=web_server.port, matrix_port=remote.port),
            "a.test",
        )
        assert 1 <= len(web_server.seen) <= 6
        assert len(remote.seen) == 1


class TestWellKnownCache:
    async def setup(self, wire: Wire, **headers: str) -> tuple[Remote, Remote]:
        self.remote = await wire.remote("127.0.0.1", "a.test")
        self.web = await wire.remote(
            "a.test", handler=delegating(f"127.0.0.1:{self.remote.port}", **headers)
        )
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        self.client = wire.client(
            well_known_port=self.web.port, matrix_port=self.remote.port
        )
        return self.web, self.remote

    async def asked_after(self, wire: Wire, seconds: float) -> int:
        """How often the web server has been asked by then."""
        wire.clock.now += seconds
        await ask(self.client, "a.test")
        return len(self.web.seen)

    async def test_by_default_24_hours(self, wire: Wire) -> None:
        await self.setup(wire)
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 24 * 3600 - 1) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_at_most_48_hours(self, wire: Wire) -> None:
        await self.setup(wire, **{"Cache-Control": "max-age=99999999"})
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 48 * 3600 - 1) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_as_long_as_max_age_says(self, wire: Wire) -> None:
        await self.setup(wire, **{"Cache-Control": "public, Max-Age=600", "Age": "100"})
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 499) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_as_long_as_expires_says(self, wire: Wire) -> None:
        await self.setup(
            wire,
            Date="Fri, 15 Jan 2027 08:00:00 GMT",
            Expires="Fri, 15 Jan 2027 08:10:00 GMT",
        )
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 599) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_no_store_is_kept_for_a_minute(self, wire: Wire) -> None:
        await self.setup(wire, **{"Cache-Control": "no-store, max-age=600"})
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 59) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_failures_back_off_to_an_hour(self, wire: Wire) -> None:
        await self.setup(wire)
        self.web.handler = answering({}, status=404)
        await ask(self.client, "a.test")
        times = []
        started = wire.clock.now
        for _ in range(4 * 60):
            wire.clock.now += 60
            before = len(self.web.seen)
            await ask(self.client, "a.test")
            if len(self.web.seen) > before:
                times.append((wire.clock.now - started) / 60)
        gaps = [b - a for a, b in zip([0, *times], times, strict=False)]
        assert gaps == [1, 2, 4, 8, 16, 31, 57, 57, 57]

    async def test_a_failure_is_not_kept_longer_than_an_hour(self, wire: Wire) -> None:
        await self.setup(wire)
        self.web.handler = answering({}, 404, {"Cache-Control": "max-age=86400"})
        assert await self.asked_after(wire, 0) == 1
        assert await self.asked_after(wire, 3599) == 1
        assert await self.asked_after(wire, 2) == 2

    async def test_a_delegation_outlives_its_web_server_up_to_48_hours(
        self, wire: Wire
    ) -> None:
        await self.setup(wire, **{"Cache-Control": "max-age=3600"})
        await ask(self.client, "a.test")
        self.web.handler = answering({}, status=503)
        assert await self.asked_after(wire, 3601) == 2
        assert self.remote.seen[-1].host == f"127.0.0.1:{self.remote.port}"
        assert await self.asked_after(wire, 46 * 3600) == 3
        assert self.remote.seen[-1].host == f"127.0.0.1:{self.remote.port}"
        assert await self.asked_after(wire, 2 * 3600) == 4
        assert self.remote.seen[-1].host == "a.test"

    async def test_a_delegation_that_was_taken_away_ends_at_once(
        self, wire: Wire
    ) -> None:
        await self.setup(wire, **{"Cache-Control": "max-age=3600"})
        await ask(self.client, "a.test")
        self.web.handler = answering({}, status=404)
        assert await self.asked_after(wire, 3601) == 2
        assert self.remote.seen[-1].host == "a.test"

    async def test_many_who_ask_at_once_cause_one_request(self, wire: Wire) -> None:
        await self.setup(wire)
        answer = self.web.handler

        async def slowly(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(0.1)
            return await answer(request)

        self.web.handler = slowly
        await asyncio.gather(*(ask(self.client, "a.test") for _ in range(10)))
        assert len(self.web.seen) == 1
        assert len(self.remote.seen) == 10


async def test_a_web_server_that_hangs_is_given_up(wire: Wire, monkeypatch) -> None:
    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr(well_known, "TIMEOUT_SECONDS", 0.2)
    web_server = await wire.remote("a.test", handler=hang)
    remote = await wire.remote("a.test")
    wire.resolver.hosts["a.test"] = ["127.0.0.1"]
    client = wire.client(well_known_port=web_server.port, matrix_port=remote.port)
    await asyncio.wait_for(ask(client, "a.test"), 5)
    assert (len(web_server.seen), len(remote.seen)) == (1, 1)
