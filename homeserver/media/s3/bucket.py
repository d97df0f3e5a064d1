"""Requests to one bucket: signed, tried again when that may help, bounded in time.

All of them may be repeated without harm: a key is written once, with one content.
"""

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import structlog
from yarl import URL

from homeserver.media.places import Missing, Unavailable
from homeserver.media.s3.signing import NOTHING, Credentials, Query, Signer, escaped
from homeserver.media.s3.signing import query_string as to_text

TRIES: Final = 4
CONNECT_SECONDS: Final = 10.0
# For the head of an answer, and for each piece of a body either way.
SILENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.2
# Until a whole request, with a part of a file, has gone out and is answered.
ANSWER_SECONDS: Final = 300.0
_CONNECTIONS: Final = 100
_MOST_ANSWER: Final = 4 * 2**20
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """A bucket, and how it is reached."""

    endpoint: str
    bucket: str
    region: str
    path_style: bool
    # In front of all keys.
    prefix: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A request."""

    method: str
    key: str | None
    query: Query = ()
    body: Sequence[bytes] = ()
    headers: Mapping[str, str] | None = None
    # Statuses that are good news.
    good: tuple[int, ...] = (200,)
    tries: int = TRIES


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def now(self) -> datetime:
        """The store's own time, in which its lists are written."""
        try:
            return parsedate_to_datetime(self.headers["Date"])
        except (KeyError, ValueError):
            return datetime.now(UTC)


class Bucket:
    """One bucket. `start` before use, `stop` at the end."""

    def __init__(
        self, where: Where, credentials: Credentials, tls: ssl.SSLContext
    ) -> None:
        parts = urlsplit(where.endpoint)
        self._scheme = parts.scheme
        self._host = parts.netloc
        self._root = parts.path.rstrip("/")
        if where.path_style:
            self._root += f"/{escaped(where.bucket)}"
        else:
            self._host = f"{where.bucket}.{self._host}"
        self.prefix = where.prefix
        self._signer = Signer(credentials, where.region)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _path(self, key: str | None) -> str:
        inside = "" if key is None else escaped(self.prefix + key, "/")
        return f"{self._root}/{inside}"

    def link(self, key: str, query: Query, seconds: int) -> str:
        """A link with which anybody may read the file for so long."""
        path = self._path(key)
        signed = self._signer.presigned(
            self._host, path, query, seconds, datetime.now(UTC)
        )
        return f"{self._scheme}://{self._host}{path}?{signed}"

    async def ask(self, ask: Ask) -> Said:
        """Make a request and read the answer. Raises: Missing, Unavailable."""
        tries = ask.tries
        while True:
            response = await self.open(ask)
            try:
                body = await _read(response)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                tries -= 1
                if not tries:
                    raise Unavailable(f"the answer breaks off: {error!r}") from error
            else:
                return Said(response.status, response.headers, body)
            finally:
                response.release()

    async def open(self, ask: Ask) -> aiohttp.ClientResponse:
        """The head of a good answer, which the caller closes.

        Raises: Missing, Unavailable.
        """
        digest = hashlib.sha256()
        for piece in ask.body:
            digest.update(piece)
        payload = digest.hexdigest() if ask.body else NOTHING
        for number in range(ask.tries):
            is_last = number + 1 == ask.tries
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    response = await self._once(ask, payload)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if is_last:
                    raise Unavailable(f"the store: {error!r}") from error
                reason = repr(error)
            else:
                if response.status in ask.good:
                    return response
                reason = await self._refusal(response)
                if response.status == 404:
                    raise Missing(reason)
                if response.status not in _AGAIN or is_last:
                    raise Unavailable(reason)
            log.info("the store is asked again", method=ask.method, reason=reason)
            await asyncio.sleep(PAUSE_SECONDS * 2**number * random.uniform(0.5, 1))  # noqa: S311 - spreads load
        raise Unavailable("the store was not asked")

    async def _once(self, ask: Ask, payload: str) -> aiohttp.ClientResponse:
        path = self._path(ask.key)
        headers = self._signer.headers(
            ask.method,
            self._host,
            path,
            ask.query,
            payload,
            datetime.now(UTC),
            ask.headers,
        )
        headers["Content-Length"] = str(sum(map(len, ask.body)))
        query = f"?{to_text(ask.query)}" if ask.query else ""
        url = URL(f"{self._scheme}://{self._host}{path}{query}", encoded=True)
        return await self._opened().request(
            ask.method,
            url,
            data=_pieces(ask.body) if ask.body else None,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._tls),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=CONNECT_SECONDS,
                    sock_read=SILENCE_SECONDS,
                ),
                headers={"User-Agent": "hearth"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=2**18,
            )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse) -> str:
        try:
            body = await _read(response)
        except (aiohttp.ClientError, OSError, TimeoutError):
            body = b""
        finally:
            response.release()
        text = body[:500].decode("utf-8", "replace")
        return f"the store answers {response.status}: {text}"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while piece := await response.content.readany():
        body += piece
        if len(body) > _MOST_ANSWER:
            raise Unavailable("the store's answer is too long")
    return bytes(body)


async def _pieces(body: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece
