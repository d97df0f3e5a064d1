"""Plain calls to a homeserver's client API, and the error that a refusal becomes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

# A reply as tests read it: keys are asserted, not parsed.
Json: TypeAlias = dict[str, Any]


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, call: str, status: int, body: Json) -> None:
        self.status = status
        self.errcode = str(body.get("errcode", ""))
        self.body = body
        super().__init__(f"{call} -> {status} {json.dumps(body)[:500]}")


def path(*parts: str) -> str:
    """`/_matrix/client/v3/…` with every part escaped."""
    return "/_matrix/client/v3/" + "/".join(quote(part, safe="") for part in parts)


@dataclass
class Api:
    """Calls as one user, or as nobody while there is no token.

    `http` answers with the connections to use, so that they may be made anew when the
    server has been restarted.
    """

    http: Callable[[], aiohttp.ClientSession]
    base_url: str
    access_token: str = ""
    # Every call whose reply took part in this user's story, for a failure's text.
    calls: int = field(default=0, repr=False)

    async def call(
        self,
        method: str,
        where: str,
        body: object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> Json:
        """One call; its reply. Raises: RefusedError when it is not 200."""
        self.calls += 1
        status, reply = await self.answer(
            method, where, body, query=query, seconds=seconds
        )
        if status != 200:
            raise RefusedError(f"{method} {where}", status, reply)
        return reply

    async def answer(
        self,
        method: str,
        where: str,
        body: object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> tuple[int, Json]:
        """One call; its status and JSON, whatever they are."""
        data = None if body is None else json.dumps(body).encode()
        url = self.base_url + where + ("?" + urlencode(query) if query else "")
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if self.access_token:
            headers["Authorization"] = f"Bearer {self.access_token}"
        async with self.http().request(
            method,
            URL(url, encoded=True),
            data=data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as reply:
            text = await reply.text()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = {"not_json": text[:1000]}
        return reply.status, parsed if isinstance(parsed, dict) else {"value": parsed}

    async def get(self, where: str, **query: str | int) -> Json:
        return await self.call(
            "GET", where, query={k: str(v) for k, v in query.items()}
        )

    async def post(self, where: str, body: object | None = None) -> Json:
        return await self.call("POST", where, {} if body is None else body)

    async def put(self, where: str, body: object) -> Json:
        return await self.call("PUT", where, body)

    async def delete(self, where: str) -> Json:
        return await self.call("DELETE", where)


async def eventually(
    attempt: Callable[[], Awaitable[bool]],
    why: str,
    *,
    seconds: float = 20,
    pause: float = 0.1,
) -> None:
    """Repeat until `attempt` says yes; for what another server does in its own time.

    Raises: AssertionError with `why` after `seconds`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await attempt():
        if loop.time() > deadline:
            raise AssertionError(f"after {seconds} s still not: {why}")
        await asyncio.sleep(pause)
