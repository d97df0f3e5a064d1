"""Push gateways, as we speak to them.

Spec: push-gateway-api#homeserver-behaviour
"""

from typing import Final, Self

import aiohttp
import msgspec
import orjson

from federation.canonical_json import JsonObject
from homeserver.config import Config
from homeserver.outgoing import guarded_session, read_answer

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
        self._config = config
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = guarded_session(
            self._config,
            seconds=_SECONDS,
            connect_seconds=_CONNECT_SECONDS,
            connections=_CONNECTIONS,
            per_host=_PER_HOST,
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
                answer = await read_answer(response, _MAX_ANSWER)
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise GatewayFailed(str(error) or type(error).__name__) from error
        if status != 200:
            raise GatewayFailed(f"it answered {status}")
        try:
            return msgspec.json.decode(answer, type=_Answer).rejected
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GatewayFailed(f"its answer is malformed: {error}") from error
