"""Whether the key of a third-party invite is still good: whoever has it is asked.

Spec: client-server-api#third-party-invites
"""

from typing import Any, Final, Self

import aiohttp
import orjson

from federation.wire.addresses import AddressPolicy
from federation.wire.transport import tls_context
from homeserver.config import Config

_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 4096
_CONNECTIONS: Final = 20


class KeyChecks:
    """Asks at `key_validity_url`; `async with` opens and closes the connections."""

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

    async def is_valid(self, url: str, public_key: str) -> bool:
        """Whether the server at the URL says that the key is valid."""
        try:
            async with self._session.get(
                url, params={"public_key": public_key}, allow_redirects=False
            ) as response:
                answer: Any = orjson.loads(await response.content.read(_MAX_ANSWER))
                return (
                    response.status == 200
                    and isinstance(answer, dict)
                    and answer.get("valid") is True
                )
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return False
