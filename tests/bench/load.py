"""The load: as little of our own work as possible, so that the servers are measured.

One connection is one user agent with keep-alive. It writes and reads HTTP/1.1 by hand,
at some 40 µs a call; a full client library would cost more than the server.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson

from tests.support.client import Client

_LIMIT: Final = 256 * 1024 * 1024
_txn_ids = itertools.count()


class Connection:
    """One keep-alive connection that speaks as one user."""

    def __init__(self, client: Client) -> None:
        parts = urlsplit(client.base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._head = (
            f"Host: {parts.netloc}\r\nAuthorization: Bearer {client.access_token}\r\n"
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=_LIMIT
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    async def call(self, method: str, target: str, body: bytes = b"") -> bytes:
        """One request; the reply's body. Raises: AssertionError when it is not 200."""
        assert self._reader is not None
        assert self._writer is not None
        length = f"Content-Length: {len(body)}\r\n" if method != "GET" else ""
        head = f"{method} {target} HTTP/1.1\r\n{self._head}{length}\r\n"
        self._writer.write(head.encode("ascii") + body)
        head_of_reply = await self._reader.readuntil(b"\r\n\r\n")
        reply = await self._body(self._reader, head_of_reply)
        status = head_of_reply[9:12]
        assert status == b"200", (method, target, status, reply[:300])
        return reply

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> bytes:
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return await reader.readexactly(int(value))
            if name == b"transfer-encoding":
                return await self._chunks(reader)
        return b""

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return b"".join(parts)

    async def send(self, room: str, body: str) -> str:
        """Send a message; its event ID. The body must be new, see baseline.md."""
        target = (
            f"/_matrix/client/v3/rooms/{room.replace('!', '%21').replace(':', '%3A')}"
            f"/send/m.room.message/b{next(_txn_ids)}"
        )
        content = orjson.dumps({"msgtype": "m.text", "body": body})
        return str(orjson.loads(await self.call("PUT", target, content))["event_id"])

    async def sync(self, since: str = "", wait_ms: int = 0, limit: int = 10) -> Any:
        """One /sync; the parsed reply."""
        return orjson.loads(await self.sync_bytes(since, wait_ms, limit))

    async def sync_bytes(
        self, since: str = "", wait_ms: int = 0, limit: int = 10
    ) -> bytes:
        chosen = json.dumps({"room": {"timeline": {"limit": limit}}})
        for plain, escaped in (('"', "%22"), ("{", "%7B"), ("}", "%7D"), (" ", "")):
            chosen = chosen.replace(plain, escaped)
        target = f"/_matrix/client/v3/sync?timeout={wait_ms}&filter={chosen}"
        return await self.call("GET", target + (f"&since={since}" if since else ""))


@dataclass
class Tally:
    """How often something was done, and how long each took."""

    seconds: float = 0
    took: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds


async def sends_for(
    seconds: float, senders: list[tuple[Client, str]], label: Callable[[], str]
) -> Tally:
    """All senders send one message after the other, each in its room."""
    tally = Tally()
    clock = time.perf_counter
    end = clock() + seconds

    async def one(client: Client, room: str) -> None:
        async with Connection(client) as connection:
            while (began := clock()) < end:
                await connection.send(room, label())
                tally.took.append(clock() - began)

    began = clock()
    await asyncio.gather(*(one(client, room) for client, room in senders))
    tally.seconds = clock() - began
    return tally


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
