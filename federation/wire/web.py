"""GET requests to any address on the public internet, as strangers' URLs ask for.

Every connection goes through the address policy, so neither redirects nor names that
resolve to another address at the second look lead into our own network.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from federation.wire.addresses import AddressPolicy, guarded_connector
from federation.wire.options import WireOptions
from federation.wire.transport import tls_context

_MOST_AT_ONCE: Final = 100
_MOST_PER_HOST: Final = 8
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class WebError(Exception):
    """Nothing came of it: a bad URL, no connection, no time, too many redirects."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What one request may take until the answer begins, redirects included."""

    seconds: float = 20.0
    redirects: int = 5
    schemes: Sequence[str] = ("https",)


class Web:
    """Connections to wherever a URL points. To be made inside the event loop."""

    def __init__(self, options: WireOptions, policy: AddressPolicy) -> None:
        self._options = options
        self._policy = policy
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        # Made when first needed: most servers seldom do.
        if self._session is None:
            self._tls = tls_context(
                verify=self._options.verify_certificates, ca_file=self._options.ca_file
            )
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(
                    self._policy, limit=_MOST_AT_ONCE, limit_per_host=_MOST_PER_HOST
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._options.connect_seconds
                ),
                headers={"User-Agent": self._options.user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    @asynccontextmanager
    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        limits: WebLimits | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for a URL and follow redirects; the answer, whose body is yet to come.

        Raises: WebError. Errors while the body is read are aiohttp's.
        """
        limits = limits or WebLimits()
        session = self._opened()
        try:
            async with asyncio.timeout(limits.seconds):
                response = await self._follow(session, url, headers or {}, limits)
        except TimeoutError:
            raise WebError("no answer in time") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise WebError(str(error) or type(error).__name__) from error
        async with response:
            yield response

    async def _follow(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        limits: WebLimits,
    ) -> aiohttp.ClientResponse:
        where = _checked(URL(url), limits)
        for _ in range(limits.redirects + 1):
            response = await session.get(
                where,
                headers=dict(headers),
                allow_redirects=False,
                ssl=self._tls or True,
            )
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            where = _checked(where.join(URL(location)), limits)
        raise WebError("too many redirects")


def _checked(url: URL, limits: WebLimits) -> URL:
    """The URL without its fragment. Raises: WebError."""
    if url.scheme not in limits.schemes or not url.host:
        raise WebError(f"only {' and '.join(limits.schemes)} URLs are asked for")
    if url.user is not None or url.password is not None:
        raise WebError("a URL with a password is not asked for")
    return url.with_fragment(None)
