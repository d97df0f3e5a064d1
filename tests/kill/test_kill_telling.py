"""A server that is killed while it tells a service and a gateway tells them again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from homeserver.db import owner
from tests.support.api import eventually, path
from tests.support.appservice import Service
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST

NOTIFY = "/_matrix/push/v1/notify"
LONG = 60

pytestmark = pytest.mark.timeout(180)


@dataclass
class Gateway:
    """A push gateway; it answers only while `answers` is set."""

    told: list[str] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((await request.json())["notification"].get("event_id", ""))
        await self.answers.wait()
        return web.json_response({"rejected": []})


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    found.answers.set()
    app = web.Application()
    app.router.add_post(NOTIFY, found.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    found.url = f"http://{HOST}:{runner.addresses[0][1]}{NOTIFY}"
    yield found
    await runner.cleanup()


def pusher(url: str) -> dict[str, Any]:
    return {
        "app_id": "org.example.app",
        "pushkey": "key",
        "kind": "http",
        "app_display_name": "An App",
        "device_display_name": "A Phone",
        "lang": "en",
        "data": {"url": url},
    }


async def test_what_was_being_told_is_told_again(
    tmp_path: Path, gateway: Gateway
) -> None:
    server = Hearth(tmp_path / "hearth", CertificateAuthority.create())
    async with Service(tmp_path) as service:
        server.registrations = (service.file,)
        async with server:
            await goes_on(server, service, gateway)


async def leases_run_out(server: Hearth) -> None:
    """Have the time pass in which nobody else may go on."""
    running = owner.running(server.directory / "data")
    assert running is not None
    connection = await asyncpg.connect(running.dsn)
    await connection.execute("UPDATE pushers SET until = now()")
    await connection.close()


async def goes_on(server: Hearth, service: Service, gateway: Gateway) -> None:
    alice, bob = [await server.registers(name) for name in ("alice", "bob")]
    bot = Client(
        lambda: server.http,
        server.base_url,
        service.token,
        user_id=f"@irc_bot:{server.name}",
    )
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    await bot.joins(room)
    await bob.post(path("pushers", "set"), pusher(gateway.url))
    sent = [await alice.sends(room, "before")]
    await service.hears_body("before")

    async def told(event_id: str, times: int = 1) -> None:
        async def is_told() -> bool:
            return gateway.told.count(event_id) >= times

        await eventually(is_told, f"{event_id} is told", seconds=LONG)

    await told(sent[0])
    # Both have it, and the server does not know.
    service.status = None
    gateway.answers.clear()
    before = service.tries
    sent.append(await alice.sends(room, "in the middle"))
    await service.hears(lambda: service.tries > before, "what is in the middle")
    await told(sent[1])
    await server.kill()
    interrupted = service.begun[-1]
    service.status = 200
    gateway.answers.set()
    await server.start()
    await leases_run_out(server)
    sent.append(await alice.sends(room, "after"))

    async def all_told() -> bool:
        return "after" in service.bodies

    await eventually(all_told, "the service hears the rest", seconds=LONG)
    # Under its old name, so that the service can see that it has it already.
    assert service.begun.count(interrupted) >= 2
    assert service.bodies == ["before", "in the middle", "after"]
    await told(sent[1], times=2)
    await told(sent[2])
    assert [each for each in dict.fromkeys(gateway.told) if each in sent] == sent
    assert gateway.told.count(sent[1]) == 2
