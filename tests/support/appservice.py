"""An application service for tests: a real HTTP server that can be unwell."""

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from tests.support.api import Api, Json, eventually
from tests.support.app import Running

APP = "/_matrix/app/v1"


@dataclass
class Service(AbstractAsyncContextManager["Service"]):
    """A bridge for the users `@{name}_…`; it keeps what it is told."""

    directory: Path
    name: str = "irc"
    more: Json = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    hs_token: str = field(default_factory=lambda: secrets.token_hex(16))
    # What it answers to transactions; None: it hangs.
    status: int | None = 200
    delay: float = 0.0
    port: int = 0
    transactions: list[tuple[str, Json]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    on_query: Callable[[str, str], Any] | None = None
    protocols: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    tries: int = 0
    begun: list[str] = field(default_factory=list)  # the IDs of all tries

    async def __aenter__(self) -> Self:
        await self.starts()
        self.writes_registration()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stops()

    async def starts(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stops(self) -> None:
        await self._runner.cleanup()

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.yaml"

    def writes_registration(self, **more: Any) -> None:
        name = self.name
        registration = {
            "id": f"{name} bridge",
            "url": f"http://127.0.0.1:{self.port}",
            "as_token": self.token,
            "hs_token": self.hs_token,
            "sender_localpart": f"{name}_bot",
            "rate_limited": False,
            "namespaces": {
                "users": [{"regex": f"@{name}_.*", "exclusive": True}],
                "aliases": [{"regex": f"#{name}_.*", "exclusive": True}],
                "rooms": None,
            },
            **self.more,
            **more,
        }
        self.file.write_text(yaml.safe_dump(registration))

    # ── What it is told ──────────────────────────────────────────────────────────

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.hs_token}":
            return web.json_response({"errcode": "M_FORBIDDEN"}, status=403)
        path = request.path
        if path.startswith(f"{APP}/transactions/"):
            return await self._transaction(request)
        self.asked.append(f"{request.method} {request.path}")
        kind, _, name = path.removeprefix(f"{APP}/").partition("/")
        if kind in ("users", "rooms") and self.on_query is not None:
            if await self.on_query(kind, name):
                return web.json_response({})
            return web.json_response({"errcode": "M_NOT_FOUND"}, status=404)
        answer = self.answers.get(path.removeprefix(APP))
        if callable(answer):
            answer = answer(await request.json())
        if answer is not None:
            return web.json_response(answer)
        return web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404)

    async def _transaction(self, request: web.Request) -> web.Response:
        self.tries += 1
        self.begun.append(request.path.rpartition("/")[2])
        body = json.loads(await request.read())
        status = self.status
        if status is None:
            await asyncio.sleep(600)
        await asyncio.sleep(self.delay)
        if status == 200:
            self.transactions.append((request.path.rpartition("/")[2], body))
        return web.json_response({}, status=status or 500)

    @property
    def events(self) -> list[Json]:
        """All events it took, in order; of a transaction that came twice once."""
        once = dict(self.transactions)
        return [event for body in once.values() for event in body["events"]]

    @property
    def bodies(self) -> list[str]:
        return [e["content"]["body"] for e in self.events if "body" in e["content"]]

    def ephemeral(self, kind: str) -> list[Json]:
        return [
            event
            for _, body in self.transactions
            for event in body.get("ephemeral", ())
            if event["type"] == kind
        ]

    async def hears(self, is_there: Callable[[], Any], what: str) -> None:
        async def attempt() -> bool:
            return bool(is_there())

        await eventually(attempt, f"{self.name} is told of {what}", pause=0.02)

    async def hears_body(self, body: str) -> None:
        await self.hears(lambda: body in self.bodies, repr(body))

    # ── What it does ─────────────────────────────────────────────────────────────

    def api(self, server: Running) -> Api:
        return server.client(self.token)

    async def registers(self, server: Running, localpart: str, **more: Any) -> Json:
        return await self.api(server).post(
            "/_matrix/client/v3/register",
            {
                "type": "m.login.application_service",
                "username": localpart,
                "inhibit_login": True,
                **more,
            },
        )
