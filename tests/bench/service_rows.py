"""An application service with 10,000 users: how fast they talk, and it is told of it.

The service is in this process and only counts. It has a server of its own kind, so
that the other rows are measured without one.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import orjson
import yaml
from aiohttp import web

from tests.bench.client_rows import each, scaled
from tests.bench.field import Contender
from tests.bench.load import Connection, percentile
from tests.bench.rows import Figure, Row, Scale, body
from tests.support.child import cpu_seconds
from tests.support.client import Client
from tests.support.homeserver import HOST, Homeserver, free_port

PUPPETS: Final = 10_000
PORTALS: Final = 50
IN_PORTAL: Final = 10
SPEAKERS: Final = 16
_TOKEN: Final = "a_token_of_a_service_for_the_benchmark"
_LATENCIES: Final = 50
_WAIT_SECONDS: Final = 120.0
_HANGS_SECONDS: Final = 20.0
_txn_ids = itertools.count()


@dataclass
class Sink:
    """The service: it takes transactions and notes when it was told of each message."""

    port: int = field(default_factory=free_port)
    hangs: bool = False
    told: dict[str, float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, self.port).start()

    async def _take(self, request: web.Request) -> web.Response:
        now = time.perf_counter()
        for event in orjson.loads(await request.read() or b"{}").get("events", ()):
            self.told[event["event_id"]] = now
        self.news.set()
        if self.hangs:
            await asyncio.sleep(_HANGS_SECONDS)
        return web.json_response({})

    async def hears(self, event_ids: list[str]) -> float:
        """Wait until it was told of all; when it heard the last."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while not all(event_id in self.told for event_id in event_ids):
                self.news.clear()
                await self.news.wait()
        return max(self.told[event_id] for event_id in event_ids)


@dataclass
class Bridged:
    """A server with a service, and rooms in which its users are."""

    server: Homeserver
    sink: Sink
    puppet: Client
    # (room, user ID of a member), as many as speak.
    portals: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, target: str, user_id: str, content: object) -> bytes:
        async with Connection(self.puppet) as connection:
            query = f"?user_id={quote(user_id)}" if user_id else ""
            return await connection.call("POST", target + query, orjson.dumps(content))


async def make(contender: Contender, scale: Scale) -> Bridged:
    """A further server with the service, its users, and the rooms that they are in."""
    server = await contender.another("bridged")
    sink = Sink()
    await sink.start()
    file = server.directory / "service.yaml"
    registration = {
        "id": "bench",
        "url": f"http://{HOST}:{sink.port}",
        "as_token": _TOKEN,
        "hs_token": _TOKEN + "_back",
        "sender_localpart": "bench_bot",
        "rate_limited": False,
        "namespaces": {
            "users": [{"exclusive": True, "regex": "@bench_.*"}],
            "aliases": [],
            "rooms": [],
        },
    }
    file.write_text(yaml.safe_dump(registration))
    server.registrations = (file,)
    await server.start()
    puppet = Client(lambda: server.http, server.base_url, _TOKEN)
    bridged = Bridged(server, sink, puppet)
    users = [f"@bench_{n}:{server.name}" for n in range(scaled(scale, PUPPETS))]

    async def register(user_id: str) -> None:
        form = {
            "type": "m.login.application_service",
            "username": user_id[1:].partition(":")[0],
            "inhibit_login": True,
        }
        await bridged.call("/_matrix/client/v3/register", "", form)

    await each([lambda user_id=u: register(user_id) for u in users])  # type: ignore[misc]

    async def portal(number: int) -> None:
        first, *others = (
            users[(number * IN_PORTAL + n) % len(users)] for n in range(IN_PORTAL)
        )
        made = await bridged.call(
            "/_matrix/client/v3/createRoom", first, {"preset": "public_chat"}
        )
        room = str(orjson.loads(made)["room_id"])
        for user_id in others:
            await bridged.call(f"/_matrix/client/v3/join/{quote(room)}", user_id, {})
        bridged.portals += [(room, user_id) for user_id in (first, *others)]

    await each(
        [lambda number=n: portal(number) for n in range(scaled(scale, PORTALS))]  # type: ignore[misc]
    )
    return bridged


async def bridge(contender: Contender, scale: Scale) -> list[Figure]:
    """Puppets of 10,000 talk through one service, which is told of all of it."""
    fresh = "bridged" not in contender.prepared
    bridged = await contender.once("bridged", lambda: make(contender, scale))
    if not fresh:
        await bridged.server.start()
    try:
        return await _measure(bridged, scale)
    finally:
        await bridged.server.stop()


async def _measure(bridged: Bridged, scale: Scale) -> list[Figure]:
    sink = bridged.sink
    sent: list[str] = []
    end = time.perf_counter() + scale.seconds
    turns = itertools.cycle(bridged.portals)

    async def say(connection: Connection) -> tuple[str, float]:
        room, user_id = next(turns)
        target = (
            f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message"
            f"/s{next(_txn_ids)}?user_id={quote(user_id)}"
        )
        content = orjson.dumps({"msgtype": "m.text", "body": body()})
        began = time.perf_counter()
        reply = await connection.call("PUT", target, content)
        return str(orjson.loads(reply)["event_id"]), began

    async def speak() -> None:
        async with Connection(bridged.puppet) as connection:
            while time.perf_counter() < end:
                sent.append((await say(connection))[0])

    family = bridged.server.child.family()
    cpu = cpu_seconds(family)
    began = time.perf_counter()
    await asyncio.gather(*(speak() for _ in range(SPEAKERS)))
    last = await sink.hears(sent)
    cpu = cpu_seconds(family) - cpu
    took = []
    async with Connection(bridged.puppet) as connection:
        for _ in range(_LATENCIES):
            event_id, at = await say(connection)
            took.append(await sink.hears([event_id]) - at)
        alone = await _sends(connection, say)
        sink.hangs = True
        beside = await _sends(connection, say)
        sink.hangs = False
    return [
        Figure("told", len(sent) / (last - began), "/s", more_is_better=True),
        Figure("p50 to the service", percentile(took, 0.5) * 1000, "ms"),
        Figure("p50 of sends", percentile(alone, 0.5) * 1000, "ms"),
        Figure("p50 of sends while it hangs", percentile(beside, 0.5) * 1000, "ms"),
        Figure("server CPU", cpu / len(sent) * 1000, "ms"),
    ]


async def _sends(
    connection: Connection, say: Callable[[Connection], Awaitable[tuple[str, float]]]
) -> list[float]:
    """How long some sends took, one after the other."""
    took = []
    for _ in range(_LATENCIES):
        _, began = await say(connection)
        took.append(time.perf_counter() - began)
    return took


ROWS: Final[dict[str, Row]] = {"bridge": bridge}
