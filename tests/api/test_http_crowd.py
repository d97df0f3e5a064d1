"""Too many connections, bodies and answers at once: the slow ones go, others stay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from homeserver.http import gate, protocol
from homeserver.http.crowd import Crowd
from tests.support.fake_http import V3, FakeServer, fake_server

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
MIB = 1024 * 1024


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as running:
        yield running


async def begin(server: FakeServer, sent: str) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent.encode())
    return reader, writer


async def test_when_too_many_connect_the_idle_ones_go(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(most=40)
    monkeypatch.setattr(protocol, "CROWD", crowd)
    wait = f"GET {V3}/wait HTTP/1.1\r\nHost: x\r\n\r\n"
    waiting = [await begin(server, wait) for _ in range(5)]
    while len(server.state.seen) < 5:
        await asyncio.sleep(0.01)
    slow = [await begin(server, "GET / HTTP/1.1\r\nHost") for _ in range(35)]
    while crowd.size < 40:
        await asyncio.sleep(0.01)
    assert (await server.call("GET", V3 + "/maybe"))[0] == 200
    assert await slow[0][0].read() == b""  # the oldest of them was closed
    assert not slow[-1][0].at_eof()
    server.state.news.set()
    for reader, _ in waiting:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    for _, writer in waiting + slow:
        writer.close()


async def test_slow_bodies_keep_nobody_out(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MAX_RECEIVING", 3)
    head = f"POST {V3}/object HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{"
    slow = []
    for n in range(4):
        slow.append(await begin(server, head))
        while server.hall.gate.working < min(n + 1, 3):
            await asyncio.sleep(0.01)
    assert (await slow[0][0].readline()).startswith(b"HTTP/1.1 408")
    slow[3][1].write(b"        }")
    assert (await slow[3][0].readline()).startswith(b"HTTP/1.1 200")
    for _, writer in slow:
        writer.close()
    while server.hall.gate.working:
        await asyncio.sleep(0.01)


async def test_slow_readers_keep_nobody_out(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(most_behind=3)
    monkeypatch.setattr(protocol, "CROWD", crowd)
    endless = f"GET {V3}/stream/90000000 HTTP/1.1\r\nHost: x\r\n\r\n"
    slow = []
    for n in range(4):
        slow.append(await begin(server, endless))
        while crowd.behind_now < min(n + 1, 3):
            await asyncio.sleep(0.01)
    while "stream closed" not in server.state.seen:  # the first one's
        await asyncio.sleep(0.01)
    assert (await server.call("GET", V3 + "/maybe"))[0] == 200
    for _, writer in slow:
        writer.transport.abort()


async def test_answers_that_nobody_reads_are_bounded_together(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(most_unsent=3 * MIB)
    monkeypatch.setattr(protocol, "CROWD", crowd)
    big = f"GET {V3}/reply/{2 * MIB} HTTP/1.1\r\nHost: x\r\n\r\n"
    connections = []
    for n in range(6):
        connections.append(await begin(server, big * 8))
        if n == 0:
            while crowd.unsent == 0:
                await asyncio.sleep(0.01)
    received = 0
    with contextlib.suppress(ConnectionError):
        while part := await connections[0][0].read(MIB):
            received += len(part)
    assert received < 16 * MIB  # the first one was cut
    assert crowd.unsent <= 3 * MIB
    assert (await server.call("GET", V3 + "/maybe"))[0] == 200
    for _, writer in connections:
        writer.close()
