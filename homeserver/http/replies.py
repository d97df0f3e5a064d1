"""What an endpoint may return, and how it is written."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, TypeAlias

import orjson
from aiohttp.web import Response, StreamResponse
from multidict import CIMultiDict

from federation.canonical_json import JsonObject

SERVER: Final = "hearth"

# As recommended in client-server-api#web-browser-clients.
CORS: Final[Mapping[str, str]] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, a body (bytes are sent as they are), and further headers.

    The body is JSON unless `content_type` says otherwise.
    """

    status: int = 200
    body: "JsonObject | bytes" = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that is made while it is sent.

    An exception in the middle cuts the connection, so that nobody takes half of a body
    for a whole one. `after` is called when it is over, however that went.
    """

    chunks: AsyncIterator[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that is part of an open file, which is closed once it has been sent.

    An exception in the middle cuts the connection, as with `Stream`. `after` is called
    when it is over, however that went.
    """

    file: BinaryIO
    size: int
    offset: int = 0
    after: Callable[[], None] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


# A JSON object may hold orjson.Fragment values: JSON that is spliced in as it is.
Answer: TypeAlias = JsonObject | Reply | Stream | FileBody


def encode(value: object) -> bytes:
    """The JSON bytes of an answer.

    Events of old room versions may hold integers past 64 bits and lone surrogates,
    which orjson refuses: those are written by the standard library and spliced in.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_spliced(value))


def _spliced(value: object) -> object:
    match value:
        case dict():
            return {_key(key): _spliced(item) for key, item in value.items()}
        case list() | tuple():
            return [_spliced(item) for item in value]
        case int() if not -(2**63) <= value < 2**64:
            return orjson.Fragment(str(value).encode())
        case str() if not _is_text(value):
            return orjson.Fragment(json.dumps(value).encode())
        case _:
            return value


def _key(key: str) -> str:
    # A key cannot be spliced; a client could not read it anyway.
    return key if _is_text(key) else key.encode("utf-8", "replace").decode()


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


# Scripts of other sites call only what clients do; for everything else, such as pages
# for people, CORS headers say too much.
_FEDERATION: Final = CIMultiDict({"Server": SERVER})
_CLIENT: Final = CIMultiDict({"Server": SERVER, **CORS})
# COMPAT(MSC4108 as clients have it): scripts see and send ETags there.
_RENDEZVOUS: Final = CIMultiDict(
    {
        "Server": SERVER,
        **CORS,
        "Access-Control-Allow-Headers": (
            "X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"
        ),
        "Access-Control-Expose-Headers": "ETag, Expires, Last-Modified",
    }
)
_JSON: Final = "application/json"
Headers: TypeAlias = "CIMultiDict[str]"


def common_headers(path: str) -> Headers:
    """The headers that every response of the path's API has."""
    if path.startswith(("/_matrix/federation/", "/_matrix/key/", "/account")):
        return _FEDERATION
    if path.startswith("/_matrix/client/unstable/org.matrix.msc4108/"):
        return _RENDEZVOUS
    return _CLIENT


def no_content(common: Headers) -> Response:
    """The response to OPTIONS: headers only."""
    return Response(status=204, headers=common)


def response(answer: JsonObject | Reply, common: Headers) -> Response:
    """The HTTP response to an answer, with the `common` headers of its API."""
    if type(answer) is not Reply:
        result = Response(body=encode(answer), headers=common)
        result.headers["Content-Type"] = _JSON
        return result
    body = answer.body
    result = Response(
        body=body if type(body) is bytes else encode(body),
        status=answer.status,
        headers=common,
    )
    result.headers.update(answer.headers)
    result.headers["Content-Type"] = answer.content_type
    return result


def head(stream: Stream | FileBody, common: Headers) -> StreamResponse:
    """The head of a response whose body comes afterwards."""
    result = StreamResponse(status=stream.status, headers=common)
    result.headers.update(stream.headers)
    result.headers["Content-Type"] = stream.content_type
    return result
