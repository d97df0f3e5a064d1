"""Servers, a DNS and a clock for the tests of the wire."""

import asyncio
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from federation.ids import KeyId, ServerName
from federation.signatures import SigningKey
from federation.wire.backoff import Backoff
from federation.wire.client import WireClient
from federation.wire.dns import Addresses, LookupFailed, Service, Services
from federation.wire.options import WireOptions
from homeserver.demo.certificates import CertificateAuthority

KEY = SigningKey.from_seed(KeyId("ed25519:ours"), bytes(range(32)))
US = ServerName("us.test")
LOOPBACK = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)
PATH = "/_matrix/federation/v1/version"
# Nobody listens there.
NOWHERE = "127.0.0.99"


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeResolver:
    """A DNS of two dictionaries. A value of None is a failure of DNS."""

    hosts: dict[str, list[str] | None] = field(default_factory=dict)
    srv: dict[str, list[tuple[int, int, int, str]] | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ttl: int = 300
    closed: bool = False

    async def addresses(self, host: str) -> Addresses:
        self.asked.append(host)
        found = self.hosts.get(host, [])
        if found is None:
            raise LookupFailed(f"DNS for {host}: broken")
        return Addresses(tuple(map(ipaddress.ip_address, found)), self.ttl)

    async def services(self, name: str) -> Services:
        self.asked.append(name)
        found = self.srv.get(name, [])
        if found is None:
            raise LookupFailed(f"DNS for {name}: broken")
        return Services(tuple(Service(*each) for each in found), self.ttl)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Seen:
    """A request as a remote server saw it."""

    method: str
    target: str
    host: str
    sni: str | None
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def answer_empty(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({})


class Remote:
    """An HTTPS server on a loopback address that remembers what it was asked."""

    def __init__(
        self, certificate: tuple[Path, Path], handler: Handler = answer_empty
    ) -> None:
        self.handler = handler
        self.seen: list[Seen] = []
        self.handshakes: list[str | None] = []
        self.port = 0
        self._snis: dict[ssl.SSLObject, str | None] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*certificate)
        self._tls.sni_callback = self._sni
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)

    def _sni(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._snis[tls] = name
        self.handshakes.append(name)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        tls = request.transport.get_extra_info("ssl_object")
        self.seen.append(
            Seen(
                request.method,
                request.raw_path,
                request.headers["Host"],
                self._snis[tls],
                dict(request.headers),
                await request.read(),
            )
        )
        return await self.handler(request)


@dataclass
class Wire:
    """One test's world: certificates, DNS, clock, remote servers and our client."""

    directory: Path
    authority: CertificateAuthority
    resolver: FakeResolver = field(default_factory=FakeResolver)
    clock: Clock = field(default_factory=Clock)
    remotes: list[Remote] = field(default_factory=list)
    clients: list[WireClient] = field(default_factory=list)

    async def remote(
        self,
        *names: str,
        handler: Handler = answer_empty,
        host: str = "127.0.0.1",
        port: int = 0,
        authority: CertificateAuthority | None = None,
    ) -> Remote:
        """A server whose certificate is for these names."""
        directory = self.directory / str(len(self.remotes))
        certificate = (authority or self.authority).issue(directory, *names)
        remote = Remote(certificate, handler)
        self.remotes.append(remote)
        return await remote.start(host, port)

    def options(self, **changes: Any) -> WireOptions:
        values = {
            "ca_file": str(self.authority.write_ca(self.directory / "ca.pem")),
            "allow_addresses": LOOPBACK,
            # Nobody listens there; tests say where the servers listen.
            "well_known_port": 1,
            "matrix_port": 1,
            "connect_seconds": 2.0,
        }
        return WireOptions(**(values | changes))

    def client(
        self,
        *,
        backoff: Backoff | None = None,
        on_request: Any = None,
        resolver: Any = None,
        **changes: Any,
    ) -> WireClient:
        """Our server's client; changes go to its options."""
        client = WireClient(
            US,
            KEY,
            self.options(**changes),
            resolver=self.resolver if resolver is None else resolver,
            backoff=backoff,
            clock=self.clock,
            chance=lambda: 0.5,
            on_request=on_request,
        )
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for remote in self.remotes:
            await remote.stop()


def answering(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Handler:
    """A handler that gives one answer; bytes go out as they are, as JSON."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(
            status=status,
            body=raw,
            headers={"Content-Type": "application/json", **(headers or {})},
        )

    return handle


def delegating(to: object, **headers: str) -> Handler:
    """A handler for .well-known."""
    return answering({"m.server": to}, headers=headers)


async def ask(client: WireClient, server: str) -> None:
    """Any request at all."""
    await client.request(ServerName(server), "GET", PATH)


class NameServer(asyncio.DatagramProtocol):
    """A DNS server over UDP: A, AAAA and SRV records out of one dictionary.

    `records` maps (name, type) to the bytes of the records' data; a name that is not
    there at all does not exist.
    """

    A, AAAA, SRV = 1, 28, 33

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[bytes]] = {}
        self.refuses: set[str] = set()
        self.ttl = 77
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def add_host(self, name: str, *addresses: str) -> None:
        for address in addresses:
            packed = ipaddress.ip_address(address).packed
            kind = self.A if len(packed) == 4 else self.AAAA
            self.records.setdefault((name, kind), []).append(packed)

    def add_srv(
        self, name: str, priority: int, weight: int, port: int, target: str
    ) -> None:
        data = struct.pack("!HHH", priority, weight, port) + _dns_name(target)
        self.records.setdefault((name, self.SRV), []).append(data)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        identifier = data[:2]
        name, end = _read_name(data, 12)
        (kind,) = struct.unpack("!H", data[end : end + 2])
        question = data[12 : end + 4]
        answers = self.records.get((name.lower(), kind), [])
        exists = any(known == name.lower() for known, _ in self.records)
        code = 5 if name.lower() in self.refuses else 0 if exists else 3
        header = identifier + struct.pack(
            "!HHHHH", 0x8180 | code, 1, len(answers), 0, 0
        )
        body = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(each)) + each
            for each in answers
        )
        assert self._transport is not None
        self._transport.sendto(header + question + body, addr)


def _dns_name(name: str) -> bytes:
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(each)]) + each.encode() for each in labels) + b"\0"


def _read_name(data: bytes, position: int) -> tuple[str, int]:
    labels = []
    while data[position]:
        length = data[position]
        labels.append(data[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels), position + 1


def has_ipv6() -> bool:
    """Whether ::1 can be listened on here."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
