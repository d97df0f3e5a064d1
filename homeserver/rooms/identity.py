"""Whether the key of a third-party invite is still good: whoever has it is asked.

Spec: client-server-api#third-party-invites
"""

from typing import Any, Final, Self

import aiohttp
import orjson

from homeserver.config import Config
from homeserver.outgoing import guarded_session, read_answer

_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 4096
_CONNECTIONS: Final = 20


class KeyChecks:
    """Asks at `key_validity_url`; `async with` opens and closes the connections."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = guarded_session(
            self._config,
            seconds=_SECONDS,
            connect_seconds=_CONNECT_SECONDS,
            connections=_CONNECTIONS,
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
                answer: Any = orjson.loads(await read_answer(response, _MAX_ANSWER))
                return (
                    response.status == 200
                    and isinstance(answer, dict)
                    and answer.get("valid") is True
                )
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return False
