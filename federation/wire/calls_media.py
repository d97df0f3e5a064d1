"""Files of other servers, read as they arrive.

A server that lacks the endpoints for servers is asked at those for clients, which need
no signature; both may say that the file is elsewhere.

Spec: server-server-api#content-repository
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from federation.errors import Malformed
from federation.ids import ServerName
from federation.wire.client import Limits, Query, WireClient, path_of, remote_error
from federation.wire.errors import BadResponse, NotReachable, RemoteError
from federation.wire.multipart import Part, Reader, parse_header
from federation.wire.reading import V1
from federation.wire.transport import MAX_ERROR_BYTES, Answer
from federation.wire.web import WebError

# How long the other end may let us wait: for the head of its answer, which a file of
# its own that is not there yet delays, and then for each piece.
HEAD_SECONDS: Final = 30.0
PIECE_SECONDS: Final = 30.0
LEGACY: Final = "/_matrix/media/v3"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that arrives; `size` is what the other end says, if it says so."""

    content_type: str | None
    filename: str | None
    size: int | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of a server, and how long it may take to appear."""

    server: ServerName
    media_id: str
    timeout_ms: int

    @property
    def limits(self) -> Limits:
        """For the head of the answer."""
        return Limits(seconds=HEAD_SECONDS + self.timeout_ms / 1000)


@asynccontextmanager
async def get_content(client: WireClient, wanted: Wanted) -> AsyncIterator[RemoteFile]:
    """Download a file.

    Raises: NotReachable, RemoteError, BadResponse; also from its chunks.
    Spec: server-server-api#get_matrixfederationv1mediadownloadmediaid
    """
    path = path_of(f"{V1}/media/download", wanted.media_id)
    query = [("timeout_ms", str(wanted.timeout_ms))]
    legacy = path_of(f"{LEGACY}/download", wanted.server, wanted.media_id)
    async with _from_either(client, wanted, (path, legacy), query) as file:
        yield file


@asynccontextmanager
async def get_content_thumbnail(
    client: WireClient, wanted: Wanted, size: Query
) -> AsyncIterator[RemoteFile]:
    """Download a thumbnail; `size` holds width, height, method and animated.

    Raises: NotReachable, RemoteError, BadResponse; also from its chunks.
    Spec: server-server-api#get_matrixfederationv1mediathumbnailmediaid
    """
    path = path_of(f"{V1}/media/thumbnail", wanted.media_id)
    query = [*size, ("timeout_ms", str(wanted.timeout_ms))]
    legacy = path_of(f"{LEGACY}/thumbnail", wanted.server, wanted.media_id)
    async with _from_either(client, wanted, (path, legacy), query) as file:
        yield file


@asynccontextmanager
async def _from_either(
    client: WireClient, wanted: Wanted, paths: tuple[str, str], query: Query
) -> AsyncIterator[RemoteFile]:
    """Ask at the endpoint for servers, and only if that is not there at the other."""
    path, legacy = paths
    async with AsyncExitStack() as stack:
        try:
            file = await stack.enter_async_context(
                _from_server(client, wanted, path, query)
            )
        except RemoteError as error:
            if not _lacks_endpoint(error):
                raise
            file = await stack.enter_async_context(
                _from_client_api(client, wanted, legacy, query)
            )
        yield file


def _lacks_endpoint(error: RemoteError) -> bool:
    """Whether the server is older than v1.11: "a `404 M_UNRECOGNIZED` error".

    COMPAT(proxies): those that let no more than the old paths through answer 404
    without an errcode, some servers 405 or 400.
    """
    return error.status in (400, 404, 405) and error.errcode in (None, "M_UNRECOGNIZED")


@asynccontextmanager
async def _from_server(
    client: WireClient, wanted: Wanted, path: str, query: Query
) -> AsyncIterator[RemoteFile]:
    server = wanted.server
    async with AsyncExitStack() as stack:
        response = await stack.enter_async_context(
            client.stream(server, path, query=query, limits=wanted.limits)
        )
        if response.status != 200:
            raise await _error_of(server, response)
        client.backoff.sign_of_life(server)
        try:
            reader = Reader(response.headers.get("Content-Type", ""))
            begun, part = await _read_head(server, response, reader)
        except Malformed as error:
            raise BadResponse(server, str(error)) from None
        if part.location is not None:
            yield await stack.enter_async_context(
                _elsewhere(client, server, part.location)
            )
            return
        yield _file(part.headers, None, _parts(server, response, reader, begun))


async def _read_head(
    server: ServerName, response: aiohttp.ClientResponse, reader: Reader
) -> tuple[bytes, Part]:
    begun = b""
    while reader.part is None:
        piece = await _piece(server, response)
        if not piece:
            raise BadResponse(server, "the answer ends before the file begins")
        begun = reader.feed(piece)
    return begun, reader.part


async def _parts(
    server: ServerName, response: aiohttp.ClientResponse, reader: Reader, begun: bytes
) -> AsyncIterator[bytes]:
    if begun:
        yield begun
    while not reader.is_complete:
        piece = await _piece(server, response)
        if not piece:
            raise BadResponse(server, "the file breaks off")
        try:
            found = reader.feed(piece)
        except Malformed as error:
            raise BadResponse(server, str(error)) from None
        if found:
            yield found


@asynccontextmanager
async def _from_client_api(
    client: WireClient, wanted: Wanted, path: str, query: Query
) -> AsyncIterator[RemoteFile]:
    """Ask as clients did. "servers MUST be sure to set `allow_remote` to `false`"."""
    server = wanted.server
    query = [*query, ("allow_remote", "false"), ("allow_redirect", "true")]
    async with AsyncExitStack() as stack:
        response = await stack.enter_async_context(
            client.stream(server, path, query=query, signed=False, limits=wanted.limits)
        )
        location = response.headers.get("Location")
        if response.status in (307, 308) and location:
            yield await stack.enter_async_context(_elsewhere(client, server, location))
            return
        if response.status != 200:
            raise await _error_of(server, response)
        client.backoff.sign_of_life(server)
        yield _whole(server, response)


@asynccontextmanager
async def _elsewhere(
    client: WireClient, server: ServerName, location: str
) -> AsyncIterator[RemoteFile]:
    """A file where the server says that it is, which may be anywhere."""
    try:
        async with client.web.get(
            location, headers={"Accept-Encoding": "identity"}
        ) as response:
            if response.status != 200:
                raise BadResponse(server, f"its redirect answers {response.status}")
            yield _whole(server, response)
    except WebError as error:
        raise BadResponse(server, f"its redirect leads nowhere: {error}") from None


def _whole(server: ServerName, response: aiohttp.ClientResponse) -> RemoteFile:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return _file(headers, response.content_length, _pieces(server, response))


def _file(
    headers: Mapping[str, str], size: int | None, chunks: AsyncIterator[bytes]
) -> RemoteFile:
    disposition = headers.get("content-disposition")
    filename = None
    if disposition is not None:
        filename = parse_header(disposition)[1].get("filename")
    return RemoteFile(headers.get("content-type"), filename or None, size, chunks)


async def _pieces(
    server: ServerName, response: aiohttp.ClientResponse
) -> AsyncIterator[bytes]:
    while piece := await _piece(server, response):
        yield piece


async def _piece(server: ServerName, response: aiohttp.ClientResponse) -> bytes:
    """The next piece, empty at the end. Raises: NotReachable."""
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            return await response.content.readany()
    except TimeoutError:
        raise NotReachable(server, "the file does not go on") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NotReachable(server, f"the file breaks off: {error}") from error


async def _error_of(
    server: ServerName, response: aiohttp.ClientResponse
) -> RemoteError:
    body = b""
    while len(body) < MAX_ERROR_BYTES and (piece := await _piece(server, response)):
        body += piece
    answer = Answer(response.status, response.headers, body[:MAX_ERROR_BYTES])
    return remote_error(server, answer, time.time())
