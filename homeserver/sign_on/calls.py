"""Calls to a provider over HTTP.

Its own host is the operator's choice, and may be in the operator's network. Whatever
else it names leads only to where the public internet is.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from homeserver.config import Config
from homeserver.outgoing import guarded_session, open_session, read_answer
from homeserver.sign_on.identity import NotIdentified

_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 5.0
_CONNECTIONS: Final = 20
_MAX_ANSWER: Final = 1024 * 1024
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Calls:
    """The connections to one provider."""

    def __init__(self, config: Config, url: str) -> None:
        self._config = config
        self._host = urlsplit(url).hostname

    async def __aenter__(self) -> Self:
        self._own = open_session(
            self._config, seconds=_SECONDS, connections=_CONNECTIONS
        )
        self._others = guarded_session(
            self._config,
            seconds=_SECONDS,
            connect_seconds=_CONNECT_SECONDS,
            connections=_CONNECTIONS,
        )
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._own.close()
        await self._others.close()

    async def ask(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, str]:
        """Status, body and content type; POST with a form, else GET.

        Raises: NotIdentified.
        """
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in _LOOPBACK
        )
        if not is_safe:
            raise NotIdentified(f"{url} is not https")
        session = self._own if parts.hostname == self._host else self._others
        try:
            async with session.request(
                "GET" if form is None else "POST",
                url,
                data=form,
                headers={"Accept": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as reply:
                body = await read_answer(reply, _MAX_ANSWER)
                return reply.status, body, reply.content_type
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise NotIdentified(f"{url}: {type(error).__name__}: {error}") from None

    async def ask_json(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The object that is answered. Raises: NotIdentified."""
        status, body, _ = await self.ask(url, form=form, headers=headers)
        found = parse_object(body)
        if status != 200 or found is None:
            code = found.get("error") if found else None
            said = f", {code[:100]}" if isinstance(code, str) else ""
            raise NotIdentified(f"{url} answers {status}{said}")
        return found

    async def ask_file(self, url: str) -> tuple[bytes, str]:
        """A file and its content type. Raises: NotIdentified."""
        status, body, kind = await self.ask(url, headers={"Accept": "*/*"})
        if status != 200:
            raise NotIdentified(f"{url} answers {status}")
        return body, kind


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object; None when it is none."""
    try:
        found = orjson.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
