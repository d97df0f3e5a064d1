"""Listeners: ports, TLS, and peers that are silent or slow."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.demo.certificates import CertificateAuthority
from homeserver.http import protocol
from homeserver.http.sockets import Address, CannotListen
from tests.support.fake_http import V3, FakeServer, fake_server

SERVES = ("client",)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as running:
        yield running


async def certificate_at(port: int, authority: Path) -> dict[str, object]:
    context = ssl.create_default_context(cafile=str(authority))
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="hearth.test"
    )
    try:
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        return dict(writer.get_extra_info("peercert"))
    finally:
        writer.close()


async def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    server: FakeServer, tmp_path: Path
) -> None:
    authority = CertificateAuthority.create()
    ca_file = authority.write_ca(tmp_path / "ca.pem")
    certificate, key = authority.issue(tmp_path, "hearth.test")
    address = Address("127.0.0.1", 0, SERVES, str(certificate), str(key))
    bound = (await server.listeners.start([address]))[-1]
    assert bound.url == f"https://127.0.0.1:{bound.port}"
    first = await certificate_at(bound.port, ca_file)
    old_key = key.read_bytes()
    authority.issue(tmp_path, "hearth.test")
    server.listeners.refresh_certificates()
    second = await certificate_at(bound.port, ca_file)
    assert second["serialNumber"] != first["serialNumber"]
    key.write_bytes(old_key)  # does not fit the certificate any more
    os.utime(key, ns=(1, 1))
    server.listeners.refresh_certificates()
    assert await certificate_at(bound.port, ca_file) == second


async def test_what_cannot_be_opened_is_named(
    server: FakeServer, tmp_path: Path
) -> None:
    taken = server.port
    with pytest.raises(CannotListen, match=rf"http://127\.0\.0\.1:{taken}: .*in use"):
        await server.listeners.start([Address("127.0.0.1", taken, SERVES)])
    missing = str(tmp_path / "none.pem")
    with pytest.raises(CannotListen, match=r"certificate .*none\.pem.* cannot"):
        await server.listeners.start(
            [Address("127.0.0.1", 0, SERVES, missing, missing)]
        )


async def test_none_is_left_open_when_one_cannot_be_opened() -> None:
    async with fake_server() as other, fake_server() as server:
        await server.listeners.stop(0)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(CannotListen):
            await server.listeners.start(
                [
                    Address("127.0.0.1", port, SERVES),
                    Address("127.0.0.1", other.port, SERVES),
                ]
            )
        with pytest.raises(OSError, match="onnect"):
            await asyncio.open_connection("127.0.0.1", port)


async def closed_after(reader: asyncio.StreamReader) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.timeout(10):
        while await reader.read(4096):
            pass
    return loop.time() - start


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"])
async def test_a_head_that_does_not_come_ends_the_connection(
    server: FakeServer, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    assert await closed_after(reader) < 2
    writer.close()


async def test_a_body_that_does_not_come_ends_the_request(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.http.dispatch.BODY_SECONDS", 0.2)
    answer = await server.raw(
        f"POST {V3}/object HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode()
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"M_UNKNOWN" in answer
    assert server.hall.gate.working == 0


async def test_a_peer_that_reads_nothing_is_cut_off(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(
            peer, f"GET {V3}/stream/90000000 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            while not server.state.seen:
                await asyncio.sleep(0.05)
    assert server.state.seen == ["stream closed"]
    assert server.hall.gate.working == 0


async def test_a_peer_that_reads_slowly_is_served(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.2)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", server.port))
        await loop.sock_sendall(
            peer,
            f"GET {V3}/stream/150000 HTTP/1.0\r\nHost: x\r\n\r\n".encode(),
        )
        received = b""
        async with asyncio.timeout(30):
            while part := await loop.sock_recv(peer, 65536):
                received += part
                await asyncio.sleep(0.03)
    assert received.endswith(b"149999,0]}")
