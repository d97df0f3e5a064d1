"""Push gateways, as we speak to them.

Spec: push-gateway-api#homeserver-behaviour
"""

from typing import Any, Final, Self

import aiohttp
import msgspec
import orjson

from federation.canonical_json import JsonObject
from federation.wire.addresses import AddressPolicy
from federation.wire.transport import tls_context
from homeserver.config import Config

_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 65_536
_CONNECTIONS: Final = 200
_PER_HOST: Final = 32


class GatewayFailed(Exception):  # noqa: N818 - reads as what happened
    """A gateway cannot be reached or did not take a notification."""


class _Answer(msgspec.Struct):
    rejected: list[str] = []


class Gateways:
    """The connections to gateways; `async with` opens and closes them."""

    def __init__(self, config: Config) -> None:
        federation = config.federation
        self._policy = AddressPolicy(config.allowed_networks)
        self._tls = tls_context(
            verify=federation.verify_certificates, ca_file=federation.ca_file or None
        )
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                limit_per_host=_PER_HOST,
                socket_factory=self._policy.open_socket,
                ssl=self._tls,
            ),
            timeout=aiohttp.ClientTimeout(
                total=_SECONDS, sock_connect=_CONNECT_SECONDS
            ),
            headers={"User-Agent": "hearth"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def notify(self, url: str, notification: JsonObject) -> list[str]:
        """Pass on a notification; the push keys that the gateway rejects.

        Raises: GatewayFailed.

        Spec: push-gateway-api#homeserver-behaviour
        """
        body = orjson.dumps({"notification": notification})
        try:
            async with self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                answer = await _read(response)
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise GatewayFailed(str(error) or type(error).__name__) from error
        if status != 200:
            raise GatewayFailed(f"it answered {status}")
        try:
            return msgspec.json.decode(answer, type=_Answer).rejected
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GatewayFailed(f"its answer is malformed: {error}") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body: list[Any] = []
    size = 0
    async for chunk in response.content.iter_any():
        body.append(chunk)
        size += len(chunk)
        if size > _MAX_ANSWER:
            response.close()
            raise GatewayFailed("its answer is too long")
    return b"".join(body)
