"""Requests to application services.

Only the address in the registration is ever asked, wherever it is: bridges run beside
the server. Redirects are not followed.

Spec: application-service-api#authorisation
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from federation.canonical_json import JsonValue
from federation.wire.transport import tls_context
from homeserver.appservices.registration import Service
from homeserver.bounded import KIB, LruCache, Worth
from homeserver.config import Config
from homeserver.outgoing import AnswerTooLong, read_answer

TRANSACTION_SECONDS: Final = 60.0
QUERY_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 1024 * 1024
_PER_HOST: Final = 16
_OLD_SECONDS: Final = 3600.0
_SERVICES: Final = 256 * KIB
_BASE: Final = "/_matrix/app/v1"


class ServiceFailed(Exception):  # noqa: N818 - reads as what happened
    """A service cannot be reached, or did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a service answered."""

    status: int
    body: bytes

    @property
    def json(self) -> JsonValue:
        """The body as JSON; None when it is none."""
        try:
            value: JsonValue = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return value


class Calls:
    """The connections to services; `async with` opens and closes them."""

    def __init__(self, config: Config) -> None:
        federation = config.federation
        self._tls = tls_context(
            verify=federation.verify_certificates, ca_file=federation.ca_file or None
        )
        self._session: aiohttp.ClientSession | None = None
        # Services that only know the old paths, and until when they are taken for that.
        self._old: LruCache[str, float] = LruCache(
            "old services", _SERVICES, 100, Worth.NEEDED
        )

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=_PER_HOST, ssl=self._tls
            ),
            headers={"User-Agent": "hearth"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        service: Service,
        method: str,
        *parts: str,
        query: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        seconds: float = QUERY_SECONDS,
        base: str = _BASE,
        old_base: str | None = None,
    ) -> Answered:
        """One request; `old_base` is where services before r0.1 have the same.

        Raises: ServiceFailed, when there is no answer.

        Spec: application-service-api#legacy-routes
        """
        path = "".join("/" + quote(part, safe="") for part in parts)
        now = asyncio.get_running_loop().time()
        is_old = (self._old.get(service.service_id) or 0) > now
        bases = [base]
        if old_base is not None:
            bases = [old_base, base] if is_old else [base, old_base]
        answer = await self._one(service, method, bases[0] + path, query, body, seconds)
        if old_base is None or answer.status not in (404, 405, 501):
            return answer
        if isinstance(answer.json, dict) and "errcode" in answer.json:
            errcode = answer.json["errcode"]
            # It knows the path, and not what it was asked for.
            if errcode not in ("M_UNRECOGNIZED", "M_UNKNOWN"):
                return answer
        other = await self._one(service, method, bases[1] + path, query, body, seconds)
        if other.status == 200:
            if is_old:
                self._old.pop(service.service_id)
            else:
                self._old.put(service.service_id, now + _OLD_SECONDS)
            return other
        return answer

    async def _one(
        self,
        service: Service,
        method: str,
        path: str,
        query: tuple[tuple[str, str], ...],
        body: bytes | None,
        seconds: float,
    ) -> Answered:
        if service.url is None or self._session is None:
            raise ServiceFailed("it has no address")
        token = service.registration.hs_token
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        # Never in the query, as before v1.4: it would stand in logs.
        fields = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query
        )
        try:
            async with self._session.request(
                method,
                URL(
                    service.url + path + (f"?{fields}" if fields else ""), encoded=True
                ),
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=_CONNECT_SECONDS
                ),
            ) as response:
                return Answered(
                    response.status, await read_answer(response, _MAX_ANSWER)
                )
        except AnswerTooLong as error:
            raise ServiceFailed(str(error)) from None
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            # An exception's text may hold the URL, and with that the token.
            raise ServiceFailed(type(error).__name__) from None
