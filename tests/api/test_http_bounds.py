"""How much is taken at once, and how a server stops."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from homeserver.http.gate import Gate
from tests.support.fake_http import V3, FakeServer, fake_server


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as running:
        yield running


async def test_a_limit_counts_by_address_and_tells_when_to_return(
    server: FakeServer,
) -> None:
    async def call(address: str) -> tuple[int, dict[str, object], dict[str, str]]:
        return await server.call("GET", V3 + "/limited", **{"X-Forwarded-For": address})

    for _ in range(3):
        assert (await call("203.0.113.7"))[1] == {"ip": "203.0.113.7"}
    status, body, headers = await call("203.0.113.7")
    assert (status, body["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert body["retry_after_ms"] == 2001
    assert headers["Retry-After"] == "3"
    assert (await call("203.0.113.8"))[0] == 200
    # An invented hop before the one that our proxy saw changes nothing.
    assert (await call("1.2.3.4, 203.0.113.7"))[0] == 429
    server.state.now += 2.01
    assert (await call("203.0.113.7"))[0] == 200
    assert (await call("203.0.113.7"))[0] == 429
    # An IPv6 subscriber is counted as one.
    for last in range(3):
        assert (await call(f"2001:db8:1:2::{last}"))[0] == 200
    assert (await call("2001:db8:1:2:ffff::1"))[0] == 429
    assert (await call("2001:db8:1:3::1"))[0] == 200


async def test_more_work_than_the_bound_is_refused() -> None:
    async with fake_server(gate=Gate(max_working=2, max_waiting=1)) as server:
        slow = [
            asyncio.create_task(server.call("POST", V3 + "/slow", b"{}"))
            for _ in range(2)
        ]
        wait = asyncio.create_task(server.call("GET", V3 + "/wait"))
        while len(server.state.seen) < 3:
            await asyncio.sleep(0.01)
        status, body, headers = await server.call("GET", V3 + "/maybe")
        assert (status, body["errcode"]) == (503, "M_UNKNOWN")
        assert headers["Retry-After"] == "1"
        assert (await server.call("GET", V3 + "/wait"))[0] == 503
        server.state.slow.set()
        server.state.news.set()
        assert [(await task)[0] for task in (*slow, wait)] == [200, 200, 200]
        assert (await server.call("GET", V3 + "/maybe"))[0] == 200


async def test_bodies_under_way_are_bounded_together() -> None:
    async with fake_server(gate=Gate(max_bodies=1000)) as server:
        gate = server.hall.gate
        server.state.slow.set()

        async def begin() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST {V3}/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1002\r\n\r\n"
            writer.write(head.encode())
            return reader, writer

        (first, to_first), (second, to_second) = await begin(), await begin()
        while gate.working < 2:
            await asyncio.sleep(0.01)
        to_first.write(b"{" + b" " * 600)
        while gate.bodies < 601:
            await asyncio.sleep(0.01)
        to_second.write(b"{" + b" " * 600)
        assert (await second.readline()).startswith(b"HTTP/1.1 503")
        to_first.write(b" " * 400 + b"}")  # whose is the only one may be any size
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
        while gate.working:
            await asyncio.sleep(0.01)
        assert gate.bodies == 0
        for writer in (to_first, to_second):
            writer.close()


async def test_a_long_poll_ends_with_its_client(server: FakeServer) -> None:
    call = asyncio.create_task(server.call("GET", V3 + "/wait"))
    while not server.state.seen:
        await asyncio.sleep(0.01)
    call.cancel()
    async with asyncio.timeout(5):
        while server.state.seen != ["waiting", "left"]:
            await asyncio.sleep(0.01)
    assert server.hall.gate.waiting == 0


async def test_other_work_goes_on_without_its_client(server: FakeServer) -> None:
    call = asyncio.create_task(server.call("POST", V3 + "/slow", b"{}"))
    while not server.state.seen:
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.sleep(0.05)
    assert server.hall.gate.working == 1
    server.state.slow.set()
    async with asyncio.timeout(5):
        while server.hall.gate.working:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("route", ["object", "slow"])
async def test_a_client_that_goes_away_is_no_error(
    server: FakeServer, route: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    length = 10 if route == "object" else 0
    head = f"POST {V3}/{route} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}"
    writer.write(f"{head}\r\n\r\n".encode())
    while not server.hall.gate.working:
        await asyncio.sleep(0.01)
    writer.close()
    await asyncio.sleep(0.05)
    server.state.slow.set()
    async with asyncio.timeout(5):
        while server.hall.gate.working:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    said = capfd.readouterr()
    assert "rror" not in said.out + said.err


async def test_a_stop_answers_long_polls_and_finishes_requests() -> None:
    async with fake_server() as server:
        server.hall.gate.on_drain(server.state.news.set)
        slow = asyncio.create_task(server.call("POST", V3 + "/slow", b"{}"))
        wait = asyncio.create_task(server.call("GET", V3 + "/wait"))
        while len(server.state.seen) < 2:
            await asyncio.sleep(0.01)
        stop = asyncio.create_task(server.listeners.stop(5))
        status, body, headers = await wait
        assert (status, body, headers["Connection"]) == (200, {"news": True}, "close")
        with pytest.raises(OSError, match="onnect"):
            await asyncio.open_connection("127.0.0.1", server.port)
        assert not stop.done()
        server.state.slow.set()
        assert (await slow)[0] == 200
        await stop


async def test_a_stop_cuts_what_does_not_end() -> None:
    async with fake_server() as server:
        call = asyncio.create_task(server.call("POST", V3 + "/slow", b"{}"))
        while not server.state.seen:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await server.listeners.stop(0.1)
        with pytest.raises(aiohttp.ClientError):
            await call
