"""What one process and two reach, and how near that is to what can be reached."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Final

from federation.pdu import Pdu
from tests.bench.bare import Bare
from tests.bench.field import Contender
from tests.bench.load import Connection, percentile, sends_for
from tests.bench.rows import (
    LISTENERS,
    SENDERS,
    Figure,
    Row,
    Scale,
    body,
    listen,
)
from tests.support.api import path
from tests.support.client import Client
from tests.support.peer import Peer, PeerRoom

OLD: Final = 10_000
# Synapse takes minutes for as many.
OLD_AT_SYNAPSE: Final = 1000
FEDERATED_ROOMS: Final = 10
FEDERATED_EVENTS: Final = 400  # in each room
FEDERATED_EVENTS_AT_SYNAPSE: Final = 40
TRANSACTION: Final = 50  # events, the most that one may have
IDLE_SECONDS: Final = 12.0
_LOOK: Final = 0.01
_PATIENCE: Final = 300


def sized(contender: Contender, ours: int, theirs: int) -> int:
    return ours if contender.kind == "hearth" else theirs


async def senders_in(contender: Contender, label: str) -> list[tuple[Client, str]]:
    """16 users and a new room of theirs."""
    people = await contender.once(label, lambda: contender.people(label, SENDERS))
    room = await people[0].creates_room(preset="public_chat")
    for person in people[1:]:
        await person.joins(room)
    return [(person, room) for person in people]


async def send_old_room(contender: Contender, scale: Scale) -> list[Figure]:
    """One room that is new, and one with 10,000 messages (Synapse: 1,000) before"""
    old = await senders_in(contender, "ancient")
    fresh = await senders_in(contender, "fresh")
    left = iter(range(sized(contender, OLD, OLD_AT_SYNAPSE)))

    async def fill(person: Client, room: str) -> None:
        async with Connection(person) as connection:
            for _ in left:
                await connection.send(room, body())

    await asyncio.gather(*(fill(*each) for each in old))
    rates: dict[str, list[float]] = {"fresh": [], "old": []}
    for _ in range(3):  # in turns, as the machine has its moods
        for name, senders in (("fresh", fresh), ("old", old)):
            tally = await sends_for(scale.seconds / 3, senders, body)
            rates[name].append(tally.rate)
    new, aged = (statistics.median(rates[name]) for name in ("fresh", "old"))
    return [
        Figure("fresh", new, "/s", more_is_better=True),
        Figure("old", aged, "/s", more_is_better=True),
        Figure("old for fresh", aged / new * 100, "%", more_is_better=True),
    ]


async def delivery_under_load(contender: Contender, scale: Scale) -> list[Figure]:
    """From the PUT to /sync of 20 others, while 16 send to another room all the time"""

    async def make() -> tuple[str, list[Client]]:
        people = await contender.people("attentive", LISTENERS + 1)
        room = await people[0].creates_room(preset="public_chat")
        for person in people[1:]:
            await person.joins(room)
        return room, people

    room, (speaker, *listeners) = await contender.once("attentive", make)
    noise = await senders_in(contender, "noise")
    count = max(5, int(scale.seconds * 4))
    sent_at: dict[str, float] = {}
    took: list[float] = []
    heard = [
        asyncio.create_task(listen(person, room, sent_at, took, count))
        for person in listeners
    ]
    noisy = asyncio.create_task(sends_for(_PATIENCE, noise, body))
    await asyncio.sleep(1)
    async with Connection(speaker) as connection, asyncio.timeout(_PATIENCE):
        for _ in range(count):
            text = body()
            sent_at[text] = time.perf_counter()
            await connection.send(room, text)
            await asyncio.sleep(0.2)
        await asyncio.gather(*heard)
    noisy.cancel()
    await asyncio.gather(noisy, return_exceptions=True)
    return [
        Figure("p50", percentile(took, 0.5) * 1000, "ms"),
        Figure("p99", percentile(took, 0.99) * 1000, "ms"),
    ]


# ── Beside what can be reached ───────────────────────────────────────────────────────


async def share_of_limit(contender: Contender, scale: Scale) -> list[Figure]:
    """One room, over what bare aiohttp does with one durable commit for each batch"""
    senders = await senders_in(contender, "limited")
    await sends_for(scale.seconds / 5, senders, body)
    ours = await sends_for(scale.seconds, senders, body)
    dsn = await contender.cluster.create(f"{contender.kind}_bare")
    async with Bare(dsn, contender.directory / "bare.log") as bare:
        anybody = Client(lambda: contender.server.http, bare.base_url, "nobody")
        same = [(anybody, room) for _, room in senders]
        await sends_for(scale.seconds / 5, same, body)
        limit = await sends_for(scale.seconds, same, body)
    return [
        Figure("limit", limit.rate, "/s", more_is_better=True, judged=False),
        Figure("share", ours.rate / limit.rate * 100, "%", more_is_better=True),
    ]


async def two_processes(contender: Contender, scale: Scale) -> list[Figure]:
    """Messages in 50 rooms by two processes on one database, and by one (ours only)"""
    if contender.kind != "hearth":
        return []
    rates = []
    for count in (1, 2):
        server = await contender.another(f"of{count}")
        server.child.argv += ["--processes", str(count)]
        async with server:
            people = [await server.registers(f"many{n}") for n in range(50)]
            rooms = [await each.creates_room(preset="public_chat") for each in people]
            senders = list(zip(people, rooms, strict=True))
            await sends_for(scale.seconds / 2, senders, body)
            rates.append((await sends_for(scale.seconds, senders, body)).rate)
    one, two = rates
    return [
        Figure("one", one, "/s", more_is_better=True, judged=False),
        Figure("two", two, "/s", more_is_better=True, judged=False),
        Figure("times one", two / one, "", more_is_better=True),
    ]


# ── From another server ──────────────────────────────────────────────────────────────


async def federation_in(contender: Contender, scale: Scale) -> list[Figure]:
    """Messages of another server, in 10 rooms, 50 in a transaction: until all are in"""
    count = sized(contender, FEDERATED_EVENTS, FEDERATED_EVENTS_AT_SYNAPSE)
    async with AsyncExitStack() as stack:
        directory = contender.directory / f"peer{time.time_ns()}"
        peer = Peer(contender.authority, directory)
        await peer.start()
        stack.push_async_callback(peer.stop)
        (host,) = await contender.people(f"host{time.time_ns()}", 1)
        rooms: list[tuple[PeerRoom, list[Pdu]]] = []
        for _ in range(FEDERATED_ROOMS):
            room_id = await host.creates_room(preset="public_chat")
            room = await peer.joins(contender.server, room_id, "talker")
            rooms.append((room, [room.says(body()) for _ in range(count)]))
        waiting = [
            event for turn in zip(*(e for _, e in rooms), strict=True) for event in turn
        ]

        async def push() -> None:
            for start in range(0, len(waiting), TRANSACTION):
                part = [event.json for event in waiting[start : start + TRANSACTION]]
                await peer.pushes(contender.server, part)
            await asyncio.gather(
                *(is_there(host, r, events[-1]) for r, events in rooms)
            )

        _, used = await contender.cost(push)
    return [
        Figure("rate", len(waiting) / used.wall, "/s", more_is_better=True),
        Figure("server CPU", used.server_cpu / len(waiting) * 1000, "ms"),
        Figure(
            "database CPU", used.database_cpu / len(waiting) * 1000, "ms", judged=False
        ),
    ]


async def is_there(reader: Client, room: PeerRoom, event: Pdu) -> None:
    """Return when the event can be read: Synapse answers before it looks at it."""
    where = path("rooms", room.room_id, "event", event.event_id)
    async with asyncio.timeout(_PATIENCE):
        while True:
            status, _ = await reader.answer("GET", where)
            if status == 200:
                return
            await asyncio.sleep(_LOOK)


# ── Memory ───────────────────────────────────────────────────────────────────────────


async def idle_memory(contender: Contender, scale: Scale) -> list[Figure]:
    """Resident memory of a server that has just started and has nothing to do"""
    server = await contender.another("idle")
    async with server:
        await asyncio.sleep(min(IDLE_SECONDS, 2 * scale.seconds))
        used = sum(p.memory_info().rss for p in server.child.family())
    return [Figure("resident", used / 2**20, "MiB")]


ROWS: Final[dict[str, Row]] = {
    "send_old_room": send_old_room,
    "delivery_under_load": delivery_under_load,
    "share_of_limit": share_of_limit,
    "two_processes": two_processes,
    "federation_in": federation_in,
    "idle_memory": idle_memory,
}
