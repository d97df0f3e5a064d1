"""Push gateways, as we speak to them.

Spec: push-gateway-api#homeserver-behaviour
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
_TOO_MANY: Final = 429
_LONGEST_WAIT: Final = 86_400.0
_DIGITS: Final = 9


class GatewayFailed(Exception):  # noqa: N818 - reads as what happened
    """A gateway cannot be reached or did not take a notification.

    `retry_after_s`: how long it wants to be left alone at least.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


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
        headers = {"Content-Type": "application/json"}
        status, answer = await self.post(url, body, headers)
        if status != 200:
            raise GatewayFailed(f"it answered {status}")
        try:
            return msgspec.json.decode(answer, type=_Answer).rejected
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GatewayFailed(f"its answer is malformed: {error}") from error

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """What is answered: the status and the body. Raises: GatewayFailed."""
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = await read_answer(response, _MAX_ANSWER)
                status = response.status
                wanted = response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise GatewayFailed(str(error) or type(error).__name__) from error
        if status == _TOO_MANY:
            raise GatewayFailed("it is asked too often", _seconds(wanted))
        return status, answer


def _seconds(retry_after: str) -> float:
    """How long `Retry-After` asks to wait, within reason. RFC 9110, 10.2.3."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:_DIGITS]), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    left = (until - datetime.now(UTC)).total_seconds()
    return min(max(left, 0.0), _LONGEST_WAIT)
