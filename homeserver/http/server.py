"""Listeners: where the server can be reached, with which APIs, and how it stops.

A stop is orderly: no new connections; long polls are answered; requests under way come
to their end, for at most `GRACE_SECONDS`; then the rest is cut. Where others take over,
connections are kept for a moment: each is told with its next answer that it was the
last, so that no request meets a closed connection.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from homeserver.http.dispatch import Dispatcher, Hall
from homeserver.http.metrics import show_gate
from homeserver.http.protocol import HttpServer
from homeserver.http.routes import Route, build_trie
from homeserver.http.sockets import BACKLOG, Address, CannotListen, open_sockets

GRACE_SECONDS: Final = 20.0
CERTIFICATE_CHECK_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Listener:
    address: Address
    http: HttpServer
    servers: Sequence[asyncio.Server]
    certificate: "Certificate | None"


@dataclass(slots=True)
class Certificate:
    """A TLS context that takes up a renewed certificate without a restart."""

    certificate: Path
    key: Path
    context: ssl.SSLContext = field(init=False)
    _seen: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._changed()
        self.context.load_cert_chain(self.certificate, self.key)

    def _changed(self) -> tuple[int, int]:
        return (
            self.certificate.stat().st_mtime_ns,
            self.key.stat().st_mtime_ns,
        )

    def refresh(self) -> bool:
        """Load the files again when they have changed; whether they were loaded.

        Raises: OSError, ssl.SSLError; the old certificate then stays in use.
        """
        changed = self._changed()
        if changed == self._seen:
            return False
        # Tried apart first: a key that does not fit would spoil the context in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            self.certificate, self.key
        )
        self.context.load_cert_chain(self.certificate, self.key)
        self._seen = changed
        return True


class Listeners:
    """All listeners of one server. `hall` is what their requests share."""

    def __init__(self, hall: Hall, routes: Sequence[Route]) -> None:
        self._hall = hall
        self._routes = routes
        self._listeners: list[_Listener] = []
        self._renewal: asyncio.Task[None] | None = None
        show_gate(hall.gate)

    async def start(self, addresses: Sequence[Address]) -> list[Address]:
        """Open them all; the addresses with the ports that port 0 became.

        Raises: CannotListen; then none is left open.
        """
        try:
            for address in addresses:
                self._listeners.append(await self._open(address))
        except CannotListen:
            await self.stop(0)
            raise
        if any(listener.certificate for listener in self._listeners):
            self._renewal = asyncio.create_task(self._renew_certificates())
        return [listener.address for listener in self._listeners]

    async def _open(self, address: Address) -> _Listener:
        certificate = None
        if address.tls_certificate:
            try:
                certificate = Certificate(
                    Path(address.tls_certificate), Path(address.tls_key)
                )
            except (OSError, ssl.SSLError) as error:
                raise CannotListen(
                    f"{address.url}: the certificate {address.tls_certificate} with "
                    f"the key {address.tls_key} cannot be used: {error}"
                ) from error
        trie = build_trie(self._routes, address.serves)
        http = HttpServer(Dispatcher(self._hall, trie))
        sockets = [socket.socket(fileno=number) for number in address.descriptors]
        sockets = sockets or open_sockets(address)
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(
                http,
                sock=one,
                ssl=certificate.context if certificate else None,
                backlog=BACKLOG,
                # Handshakes that never end must not pile up.
                ssl_handshake_timeout=20.0 if certificate else None,
            )
            for one in sockets
        ]
        bound = replace(address, port=_port_of(servers[0].sockets[0]))
        log.info("listening", url=bound.url, serves=list(address.serves))
        return _Listener(bound, http, servers, certificate)

    async def _renew_certificates(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK_SECONDS)
            self.refresh_certificates()

    def refresh_certificates(self) -> None:
        """Take up certificates that were renewed on disk."""
        for listener in self._listeners:
            if listener.certificate is None:
                continue
            try:
                if listener.certificate.refresh():
                    log.info("certificate renewed", url=listener.address.url)
            except (OSError, ssl.SSLError) as error:
                log.warning(
                    "certificate not renewed",
                    url=listener.address.url,
                    reason=str(error),
                )

    async def stop(self, seconds: float = GRACE_SECONDS, linger_s: float = 0.0) -> None:
        """Stop in order; after `seconds` what is still under way is cut.

        Connections are kept for `linger_s` at most, until their next answer.
        """
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        for listener in self._listeners:
            for server in listener.servers:
                server.close()
        if linger_s:
            self._hall.gate.begin_to_drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_s):
                    for listener in self._listeners:
                        await listener.http.until_unused()
        # Idle connections end now, the others with their request.
        for listener in self._listeners:
            listener.http.pre_shutdown()
        if not await self._hall.gate.drain(seconds):
            log.warning(
                "requests cut off",
                working=self._hall.gate.working,
                waiting=self._hall.gate.waiting,
            )
        await asyncio.gather(
            *(listener.http.shutdown(1.0) for listener in self._listeners)
        )
        self._listeners.clear()


def _port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])
