"""Files as bodies: sent by the kernel where it can, in bounded pieces elsewhere.

uvloop has no `sendfile`, so the socket is written to directly, once everything that the
transport held before has left. Disks may be slow, so all of it happens in threads; who
reads slowly holds a thread only while there is room for more.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple, Unpack

from aiohttp.web import BaseRequest, StreamResponse

from homeserver.http.crowd import CROWD
from homeserver.http.protocol import STALL_SECONDS, Connection
from homeserver.http.replies import FileBody

_THREADS: Final = 8
# One call of `sendfile`, and what one turn in a thread sends at most.
_PIECE: Final = 4 * 1024 * 1024
_TURN: Final = 16 * 1024 * 1024
# One piece where the kernel cannot send by itself, as over TLS.
_CHUNK: Final = 256 * 1024
# Whoever reads nothing is looked at so often: others may need the place.
_LOOK_SECONDS: Final = 1.0

T = TypeVar("T")
Args = TypeVarTuple("Args")

_threads: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")


def in_thread(work: Callable[[Unpack[Args]], T], *args: *Args) -> "asyncio.Future[T]":
    """Do what may wait for a disk, in one of few threads."""
    return asyncio.get_running_loop().run_in_executor(_threads, work, *args)


async def send_file(raw: BaseRequest, answer: StreamResponse, body: FileBody) -> None:
    """Send the head of `answer`, and the part of the file as its body.

    Raises: ConnectionError, when the client leaves or reads nothing for a minute;
    EOFError, when the file is shorter than it should be.
    """
    answer.content_length = body.size
    await answer.prepare(raw)
    transport = raw.transport
    if transport is None:
        raise ConnectionResetError("the client has left")
    over_tls = isinstance(transport.get_extra_info("sslcontext"), ssl.SSLContext)
    if over_tls or not hasattr(os, "sendfile"):
        await _write_file(answer, body)
    else:
        await _emptied(transport)
        copy = os.dup(transport.get_extra_info("socket").fileno())
        try:
            await _sendfile(transport, copy, body)
        finally:
            os.close(copy)
    await answer.write_eof()


async def _write_file(answer: StreamResponse, body: FileBody) -> None:
    offset, end = body.offset, body.offset + body.size
    while offset < end:
        piece = await in_thread(
            os.pread, body.file.fileno(), min(_CHUNK, end - offset), offset
        )
        if not piece:
            raise EOFError("the file is shorter than it should be")
        await answer.write(piece)
        offset += len(piece)


async def _emptied(transport: asyncio.Transport) -> None:
    """Wait until the socket has taken everything that was written before."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STALL_SECONDS
    pause = 0.0
    while transport.get_write_buffer_size():
        if transport.is_closing() or loop.time() > deadline:
            raise ConnectionResetError("the client has left")
        await asyncio.sleep(pause)
        pause = min(0.1, pause + 0.005)


async def _sendfile(transport: asyncio.Transport, out: int, body: FileBody) -> None:
    """Send through a copy of the socket's descriptor, which the loop lets us watch."""
    offset, end = body.offset, body.offset + body.size
    while offset < end:
        if transport.is_closing():
            raise ConnectionResetError("the client has left")
        turn = in_thread(_push, out, body.file.fileno(), offset, end - offset)
        try:
            sent = await asyncio.shield(turn)
        except asyncio.CancelledError:
            # The descriptors must not be closed under the thread.
            await asyncio.wait([turn])
            raise
        if not sent:
            await _writable(transport, out)
        offset += sent


def _push(out: int, file: int, offset: int, count: int) -> int:
    """Send as much as the socket takes at once."""
    sent = 0
    count = min(count, _TURN)
    while sent < count:
        try:
            piece = os.sendfile(out, file, offset + sent, min(_PIECE, count - sent))
        except BlockingIOError:
            break
        if not piece:
            raise EOFError("the file is shorter than it should be")
        sent += piece
    return sent


async def _writable(transport: asyncio.Transport, out: int) -> None:
    """Wait until the socket takes more. Raises: ConnectionResetError, after a while."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    peer = transport.get_protocol()
    loop.add_writer(out, ready.set)
    try:
        if isinstance(peer, Connection):
            CROWD.behind(peer, 0)
        async with asyncio.timeout(STALL_SECONDS):
            while not ready.is_set():
                if transport.is_closing():
                    raise ConnectionResetError("the client has left, or had to")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ready.wait(), _LOOK_SECONDS)
    except TimeoutError:
        raise ConnectionResetError("the client reads nothing") from None
    finally:
        loop.remove_writer(out)
        if isinstance(peer, Connection):
            CROWD.caught_up(peer)
