"""Clients that hold connections: some wait for news, some send or read nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

from tests.support.api import path
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST


@dataclass
class Held:
    """Connections to one process, all with the same beginning of a request."""

    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    readers: list[asyncio.StreamReader] = field(default_factory=list)

    async def opens(self, count: int, sent: bytes) -> Self:
        for begin in range(0, count, 100):
            many = min(100, count - begin)
            made = await asyncio.gather(
                *(asyncio.open_connection(HOST, self.port) for _ in range(many))
            )
            for reader, writer in made:
                # Nothing is read beyond a little: the kernel's buffers fill up.
                reader._limit = 1024  # type: ignore[attr-defined]
                writer.write(sent)
                self.readers.append(reader)
                self.writers.append(writer)
        return self

    def closed(self) -> int:
        """How many the server has closed by now."""
        return sum(
            # at_eof() would want that all was read.
            bool(getattr(reader, "_eof", False)) or reader.exception() is not None
            for reader in self.readers
        )

    def leave(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def held(one: Hearth, count: int, sent: bytes) -> AsyncIterator[Held]:
    """So many connections to a process, while the block lasts."""
    connections = Held(one.client_port)
    try:
        yield await connections.opens(count, sent)
    finally:
        connections.leave()


def get(client: Client, where: str, query: str = "") -> bytes:
    """A whole request."""
    return (
        f"GET {where}?{query} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {client.access_token}\r\n\r\n"
    ).encode()


async def waiting_poll(client: Client) -> bytes:
    """A long poll of somebody for whom nothing happens."""
    await client.syncs()
    query = f"timeout=600000&set_presence=offline&since={client.seen.since}"
    return get(client, path("sync"), query)


def slow_head() -> bytes:
    """A head that never ends."""
    return b"GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\nX-Slow: "


def slow_body() -> bytes:
    """A body that never comes, of somebody who need not say who they are."""
    return (
        b"PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
    )
