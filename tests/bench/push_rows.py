"""Push: how soon a gateway is told, what unwell gateways cost, and a crowded room."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson
from aiohttp import web

from tests.bench.client_rows import each, scaled, timed
from tests.bench.field import Contender
from tests.bench.load import Connection, percentile, sends_for
from tests.bench.rows import Figure, Row, Scale, body
from tests.support.api import path
from tests.support.child import cpu_seconds
from tests.support.client import Client
from tests.support.homeserver import HOST

MEMBERS: Final = 5000
LISTENED_TO: Final = 10  # members of the crowded room with a pusher
UNWELL: Final = 20
SPEAKERS: Final = 4
COUNTED: Final = 20
_LATENCIES: Final = 50
_NOTIFY: Final = "/_matrix/push/v1/notify"
_WAIT_SECONDS: Final = 300.0


@dataclass
class Gateway:
    """A push gateway that notes when each push key was told of each event."""

    answers: bool = True
    port: int = 0
    told: dict[tuple[str, str], float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post(_NOTIFY, self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self.port = runner.addresses[0][1]

    async def _take(self, request: web.Request) -> web.Response:
        now = time.perf_counter()
        told = orjson.loads(await request.read())["notification"]
        for device in told["devices"]:
            key = (device["pushkey"], told.get("event_id", ""))
            self.told.setdefault(key, now)
        self.news.set()
        if not self.answers:
            await asyncio.sleep(3600)
        return web.json_response({"rejected": []})

    async def hears(self, pushkeys: list[str], event_id: str) -> float:
        """Wait until all were told of an event; when the last was."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while not all((key, event_id) in self.told for key in pushkeys):
                self.news.clear()
                await self.news.wait()
        return max(self.told[key, event_id] for key in pushkeys)

    async def serves(self, person: Client, pushkey: str) -> None:
        data = {"url": f"http://{HOST}:{self.port}{_NOTIFY}"}
        pusher = {
            "app_id": "org.example.bench",
            "pushkey": pushkey,
            "kind": "http",
            "app_display_name": "An App",
            "device_display_name": "A Phone",
            "lang": "en",
            "data": {**data, "format": "event_id_only"},
        }
        await person.post(path("pushers", "set"), pusher)


# ── How soon ─────────────────────────────────────────────────────────────────────────


async def push(contender: Contender, scale: Scale) -> list[Figure]:
    """An idle server, from the PUT to the gateway; then with 20 gateways that hang."""
    gateway, unwell, room, people = await contender.once(
        "push", partial(_make_idle, contender)
    )
    took = []
    async with Connection(people[0]) as connection:
        for _ in range(_LATENCIES):
            began = time.perf_counter()
            event_id = await connection.send(room, body())
            took.append(await gateway.hears(["well"], event_id) - began)
            await asyncio.sleep(0.05)
    speaker = [(people[0], room)]
    alone = await sends_for(scale.seconds / 2, speaker, body)
    for number, person in enumerate(people[2:]):
        await unwell.serves(person, f"unwell{number}")
    await sends_for(scale.seconds / 5, speaker, body)
    beside = await sends_for(scale.seconds / 2, speaker, body)
    for number, person in enumerate(people[2:]):
        gone = {"app_id": "org.example.bench", "pushkey": f"unwell{number}"}
        await person.post(path("pushers", "set"), {**gone, "kind": None})
    return [
        Figure("p50 to the gateway", percentile(took, 0.5) * 1000, "ms"),
        Figure("p99 to the gateway", percentile(took, 0.99) * 1000, "ms"),
        Figure("p50 of sends", percentile(alone.took, 0.5) * 1000, "ms"),
        Figure(
            "p50 of sends beside gateways that hang",
            percentile(beside.took, 0.5) * 1000,
            "ms",
        ),
    ]


async def _make_idle(
    contender: Contender,
) -> tuple[Gateway, Gateway, str, list[Client]]:
    gateway, unwell = Gateway(), Gateway(answers=False)
    await gateway.start()
    await unwell.start()
    people = await contender.people("pushed", 2 + UNWELL)
    room = await people[0].creates_room(preset="public_chat")
    for person in people[1:]:
        await person.joins(room)
    await gateway.serves(people[1], "well")
    return gateway, unwell, room, people


# ── A crowded room ───────────────────────────────────────────────────────────────────


@dataclass
class Crowd:
    """A room in which all are of this server; some have pushers and rules."""

    gateway: Gateway
    room: str
    people: list[Client]
    pushkeys: list[str]


async def _make_crowd(contender: Contender, scale: Scale) -> Crowd:
    number = scaled(scale, MEMBERS, 50)
    people = await each(
        [partial(contender.server.registers, f"crowd{n}") for n in range(number)]
    )
    room = await people[0].creates_room(preset="public_chat")
    await each([partial(person.joins, room) for person in people[1:]])
    gateway = Gateway()
    await gateway.start()
    crowd = Crowd(gateway, room, people, [])
    for n, person in enumerate(people[-LISTENED_TO:]):
        # A rule of their own, so that they are judged one by one.
        rule = {"pattern": "cake", "actions": ["notify", {"set_tweak": "highlight"}]}
        await person.put(path("pushrules", "global", "content", "cake"), rule)
        await gateway.serves(person, f"crowd{n}")
        crowd.pushkeys.append(f"crowd{n}")
    return crowd


async def push_room(contender: Contender, scale: Scale) -> list[Figure]:
    """5,000 members, each to be judged for each event; 10 have pushers and rules.

    It ends when all pushers were told of the last event. Then some others ask how much
    they have not read.
    """
    crowd = await contender.once("crowd", partial(_make_crowd, contender, scale))
    speakers = crowd.people[:SPEAKERS]
    sent = 0
    last = ""
    end = time.perf_counter() + scale.seconds

    async def speak(person: Client) -> None:
        nonlocal sent, last
        async with Connection(person) as connection:
            while time.perf_counter() < end:
                last = await connection.send(crowd.room, body())
                sent += 1

    family = contender.server.child.family()
    cpu = cpu_seconds(family)
    began = time.perf_counter()
    await asyncio.gather(*map(speak, speakers))
    async with Connection(speakers[0]) as connection:
        last = await connection.send(crowd.room, body())
        sent += 1
    took = await crowd.gateway.hears(crowd.pushkeys, last) - began
    cpu = cpu_seconds(family) - cpu
    judged = sent * len(crowd.people)

    async def count(person: Client) -> int:
        async with Connection(person) as connection:
            told = await connection.sync(limit=1)
        unread = told["rooms"]["join"][crowd.room]["unread_notifications"]
        return int(unread["notification_count"])

    asked = random.sample(crowd.people[SPEAKERS:], COUNTED)
    counted = [await timed(partial(count, person)) for person in asked]
    assert min(number for number, _ in counted) >= sent, "not all has been judged"
    return [
        Figure("evaluations", judged / took, "/s", more_is_better=True),
        Figure("server CPU per event", cpu / sent * 1000, "ms"),
        Figure(
            "p50 of a sync with the count",
            percentile([ms for _, ms in counted], 0.5),
            "ms",
        ),
    ]


ROWS: Final[dict[str, Row]] = {"push": push, "push room": push_room}
