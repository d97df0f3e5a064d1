"""A server in the test's own process, and people who call it as clients do."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import convert

from homeserver.app import Server
from homeserver.config import Config
from tests.support.api import Api, Json
from tests.support.contract import checking

NAME = "hearth.test"
PASSWORD = "correct horse battery staple"
_numbers = itertools.count(1)


@dataclass
class User(Api):
    """Somebody who is logged in."""

    user_id: str = ""
    device_id: str = ""
    refresh_token: str = ""

    def escaped(self) -> str:
        return self.user_id.replace("@", "%40").replace(":", "%3A")


@dataclass
class Running:
    """A server that runs, with its address and a session that checks replies."""

    server: Server
    session: aiohttp.ClientSession
    base_url: str
    nobody: Api = field(init=False)

    def __post_init__(self) -> None:
        self.nobody = self.client()

    @property
    def ctx(self) -> Any:
        return self.server.context

    def client(self, access_token: str = "") -> Api:
        """Calls with this token, or none."""
        return Api(lambda: self.session, self.base_url, access_token)

    def user(self, reply: Json) -> User:
        """Who a reply of log-in or registration is for."""
        return User(
            lambda: self.session,
            self.base_url,
            access_token=reply["access_token"],
            user_id=reply["user_id"],
            device_id=reply["device_id"],
            refresh_token=reply.get("refresh_token", ""),
        )

    async def registers(self, name: str | None = None, **more: object) -> User:
        """Somebody new."""
        reply = await self.nobody.post(
            "/_matrix/client/v3/register",
            {
                "username": name or f"user{next(_numbers)}",
                "password": PASSWORD,
                "auth": {"type": "m.login.dummy"},
                **more,
            },
        )
        return self.user(reply)

    async def logs_in(self, user_id: str, **more: object) -> User:
        """Somebody known, on one more device."""
        reply = await self.nobody.post(
            "/_matrix/client/v3/login",
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": user_id},
                "password": PASSWORD,
                **more,
            },
        )
        return self.user(reply)


def configuration(directory: Path, **changes: Any) -> Config:
    """A configuration for tests: registration is open, limits are off."""
    plain: dict[str, Any] = {
        "server_name": NAME,
        "data_dir": str(directory),
        "signing_key_file": str(directory / "signing.key"),
        "database_pool_size": 5,
        "listen": [{"bind": "127.0.0.1", "port": 0}],
        "registration": {"mode": "open", "shared_secret": "shared secret"},
        "limits": {"enabled": False},
        "memory": {"soft_limit": "0"},  # of one process, and the tests' is none of ours
    }
    return convert({**plain, **changes}, Config)


@asynccontextmanager
async def running(config: Config, dsn: str) -> AsyncIterator[Running]:
    """The server while it runs."""
    async with (
        Server(config, dsn) as server,
        aiohttp.ClientSession(trace_configs=checking()) as session,
    ):
        address = server.addresses[0]
        yield Running(server, session, f"http://127.0.0.1:{address.port}")
