"""Files up and down over raw sockets, so that the load costs less than the server."""

import asyncio
import io
import os
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

import orjson
from PIL import Image

from tests.support.client import Client

MIB: Final = 1024 * 1024
_PIECE: Final = 256 * 1024
UPLOAD: Final = "/_matrix/media/v3/upload"
V1: Final = "/_matrix/client/v1/media"


async def transfer(
    who: Client,
    method: str,
    target: str,
    body: bytes = b"",
    kind: str = "application/octet-stream",
    extra: str = "",
) -> tuple[int, bytes]:
    """One request on a connection of its own; how many bytes came, and the first ones.

    Raises: AssertionError, when the answer is no success.
    """
    parts = urlsplit(who.base_url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, limit=4 * MIB
    )
    try:
        length = f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n"
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {who.access_token}\r\nConnection: close\r\n"
            f"{length if body else ''}{extra}\r\n".encode()
        )
        for start in range(0, len(body), _PIECE):
            writer.write(body[start : start + _PIECE])
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:10] == b"2", (head, await reader.read(500))
        count, first = 0, b""
        while piece := await reader.read(MIB):
            first = first or piece
            count += len(piece)
        return count, first
    finally:
        writer.close()


async def upload(who: Client, body: bytes, kind: str = "a/b") -> str:
    """`server/media_id` of a new file."""
    _, reply = await transfer(who, "POST", UPLOAD, body, kind)
    start, end = reply.index(b"{"), reply.rindex(b"}") + 1
    uri = str(orjson.loads(reply[start:end])["content_uri"])
    return uri.removeprefix("mxc://")


async def upload_pieces(who: Client, pieces: Iterable[bytes], size: int) -> None:
    """Upload what is made while it is sent. Raises: AssertionError."""
    parts = urlsplit(who.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(
            f"POST {UPLOAD} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {who.access_token}\r\nConnection: close\r\n"
            f"Content-Length: {size}\r\n\r\n".encode()
        )
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:10] == b"2", head
    finally:
        writer.close()


async def download(who: Client, where: str, extra: str = "") -> int:
    count, _ = await transfer(who, "GET", f"{V1}/download/{where}", extra=extra)
    return count


async def thumbnail(who: Client, where: str) -> int:
    target = f"{V1}/thumbnail/{where}?width=640&height=480&method=scale"
    count, _ = await transfer(who, "GET", target)
    return count


async def several(
    work: Sequence[Callable[[], Awaitable[object]]], at_once: int
) -> None:
    """Do all of it, so many at once."""
    left = list(work)

    async def one() -> None:
        while left:
            await left.pop()()

    await asyncio.gather(*(one() for _ in range(at_once)))


def photo(size: tuple[int, int]) -> bytes:
    """A JPEG that is another one each time."""
    small = Image.frombytes("RGB", (64, 48), os.urandom(64 * 48 * 3))
    out = io.BytesIO()
    small.resize(size).save(out, "JPEG", quality=85)
    return out.getvalue()


def drain(base_url: str, token: str, targets: deque[str]) -> int:
    """Fetch one target after the other on one connection; how many bytes came.

    For use in threads: several of them share the targets.
    """
    parts = urlsplit(base_url)
    buffer = bytearray(MIB)
    total = 0
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        while True:
            try:
                target = targets.popleft()
            except IndexError:
                return total
            connection.sendall(
                f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                assert piece, head
                head += piece
            head, _, body = head.partition(b"\r\n\r\n")
            assert head[9:10] == b"2", head
            found = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
            assert found, head
            size = int(found[1])
            left = size - len(body)
            while left:
                count = connection.recv_into(buffer, min(left, MIB))
                assert count, "it breaks off"
                left -= count
            total += size


async def drained(
    base_url: str, token: str, targets: Iterable[str], at_once: int
) -> int:
    """Fetch all targets on so many connections; how many bytes came."""
    left = deque(targets)
    counts = await asyncio.gather(
        *(asyncio.to_thread(drain, base_url, token, left) for _ in range(at_once))
    )
    return sum(counts)
