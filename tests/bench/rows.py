"""What is measured. A row is a function; it prepares once and measures each round."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tests.bench.field import Contender, Used
from tests.bench.load import Connection, Tally, percentile, sends_for
from tests.support.api import path
from tests.support.client import Client, log_in
from tests.support.homeserver import Homeserver

Done = TypeVar("Done")

SECONDS: Final = 5.0
SENDERS: Final = 16
ROOMS: Final = 50
LISTENERS: Final = 20
LATENCY_RATE: Final = 10
ROOMS_OF_USER: Final = 200
MESSAGES_OF_ROOM: Final = 12
REMOTE_MEMBERS: Final = 2000

_bodies = itertools.count()


@dataclass(frozen=True)
class Figure:
    """One number of one round. `more_is_better` says which way is good."""

    name: str
    value: float
    unit: str
    more_is_better: bool = False
    judged: bool = True  # the issue asks for three times better


@dataclass(frozen=True)
class Scale:
    """How large the workloads are; the issue's sizes unless the caller says less."""

    seconds: float = SECONDS
    rooms_of_user: int = ROOMS_OF_USER
    remote_members: int = REMOTE_MEMBERS


Row = Callable[[Contender, Scale], Awaitable[list[Figure]]]


def body() -> str:
    """A new text: equal ones may become one event."""
    return f"message {next(_bodies)} of a usual length, as people write them in chats"


def cost_per_call(tally: Tally, used: Used) -> list[Figure]:
    calls = len(tally.took)
    return [
        Figure("server CPU", used.server_cpu / calls * 1000, "ms"),
        Figure("database CPU", used.database_cpu / calls * 1000, "ms", judged=False),
        Figure("load CPU", used.load_cpu / used.wall, "cores", judged=False),
    ]


async def send_one_room(contender: Contender, scale: Scale) -> list[Figure]:
    """16 members of one new room send as fast as they are answered."""
    people = await contender.once(
        "senders", lambda: contender.people("sender", SENDERS)
    )
    room = await people[0].creates_room(preset="public_chat")
    for person in people[1:]:
        await person.joins(room)
    return await rate_of(contender, scale, [(person, room) for person in people])


async def send_fifty_rooms(contender: Contender, scale: Scale) -> list[Figure]:
    """50 users send, each in a room of their own with a second member."""

    async def make() -> list[tuple[Client, str]]:
        people = await contender.people("author", ROOMS)
        rooms = []
        for n, person in enumerate(people):
            room = await person.creates_room(preset="public_chat")
            await people[n - 1].joins(room)
            rooms.append((person, room))
        return rooms

    return await rate_of(contender, scale, await contender.once("fifty", make))


async def rate_of(
    contender: Contender, scale: Scale, senders: list[tuple[Client, str]]
) -> list[Figure]:
    await sends_for(scale.seconds / 5, senders, body)
    tally, used = await contender.cost(lambda: sends_for(scale.seconds, senders, body))
    return [
        Figure("rate", tally.rate, "/s", more_is_better=True),
        Figure("p50", percentile(tally.took, 0.5) * 1000, "ms"),
        Figure("p99", percentile(tally.took, 0.99) * 1000, "ms"),
        *cost_per_call(tally, used),
    ]


async def delivery(contender: Contender, scale: Scale) -> list[Figure]:
    """From the PUT to /sync of 20 others, at 10 messages a second."""

    async def make() -> tuple[str, list[Client]]:
        people = await contender.people("listener", LISTENERS + 1)
        room = await people[0].creates_room(preset="public_chat")
        for person in people[1:]:
            await person.joins(room)
        return room, people

    room, (speaker, *listeners) = await contender.once("delivery", make)
    sent_at: dict[str, float] = {}
    took: list[float] = []
    count = int(scale.seconds * LATENCY_RATE)
    heard = [
        asyncio.create_task(listen(person, room, sent_at, took, count))
        for person in listeners
    ]
    await asyncio.sleep(1)
    async with Connection(speaker) as connection:
        for n in range(count):
            began = time.perf_counter()
            text = f"{body()} {n}"
            sent_at[text] = began
            await connection.send(room, text)
            spent = time.perf_counter() - began
            await asyncio.sleep(max(0, 1 / LATENCY_RATE - spent))
    async with asyncio.timeout(60):
        await asyncio.gather(*heard)
    return [
        Figure("p50", percentile(took, 0.5) * 1000, "ms"),
        Figure("p99", percentile(took, 0.99) * 1000, "ms"),
    ]


async def listen(
    person: Client, room: str, sent_at: dict[str, float], took: list[float], count: int
) -> None:
    """Long-poll until `count` messages came."""
    heard = 0
    async with Connection(person) as connection:
        since = (await connection.sync())["next_batch"]
        while heard < count:
            reply = await connection.sync(since, wait_ms=30_000, limit=100)
            now = time.perf_counter()
            since = reply["next_batch"]
            part = reply.get("rooms", {}).get("join", {}).get(room, {})
            for event in part.get("timeline", {}).get("events", []):
                began = sent_at.get(event["content"].get("body", ""))
                if began is not None:
                    took.append(now - began)
                    heard += 1


async def user_of_many_rooms(contender: Contender, scale: Scale) -> list[Client]:
    """A reader who is in 200 rooms, and the friend who writes there."""

    async def make() -> list[Client]:
        reader, friend = await contender.people("reader", 2)
        for n in range(scale.rooms_of_user):
            room = await friend.creates_room(
                preset="public_chat", name=f"Room {n}", topic="one of many"
            )
            await reader.joins(room)
            async with Connection(friend) as connection:
                for _ in range(MESSAGES_OF_ROOM):
                    await connection.send(room, body())
        return [reader, friend]

    return await contender.once("many rooms", make)


async def new_device(contender: Contender, person: Client) -> Client:
    """The same user anew: a server may remember what it told a device."""
    server = contender.server
    return await log_in(lambda: server.http, server.base_url, person.user_id)


async def initial_sync(contender: Contender, scale: Scale) -> list[Figure]:
    """The first /sync of a user in 200 rooms: just after a start, and then again."""
    reader, _ = await user_of_many_rooms(contender, scale)
    await contender.server.stop()
    await contender.server.start()
    took = []
    size = 0
    for _ in range(4):
        device = await new_device(contender, reader)
        async with Connection(device) as connection:
            began = time.perf_counter()
            size = len(await connection.sync_bytes())
            took.append(time.perf_counter() - began)
    cold, *warm = took
    return [
        Figure("cold", cold * 1000, "ms"),
        Figure("warm", percentile(warm, 0.5) * 1000, "ms"),
        Figure("size", size / 1e6, "MB", judged=False),
    ]


async def incremental_sync(contender: Contender, scale: Scale) -> list[Figure]:
    """/sync of a user in 200 rooms in which nothing, or one message, is new."""
    reader, friend = await user_of_many_rooms(contender, scale)
    rooms = await friend.joined_rooms()
    async with Connection(reader) as connection:
        since = (await connection.sync())["next_batch"]
        before = await contender.transactions()
        idle, used = await contender.cost(
            lambda: idle_syncs(connection, since, scale.seconds / 2)
        )
        asked = await contender.transactions() - before
        async with Connection(friend) as speaker:
            one = []
            for n in range(20):
                await speaker.send(rooms[n % len(rooms)], body())
                began = time.perf_counter()
                reply = await connection.sync(since)
                one.append(time.perf_counter() - began)
                assert len(reply["rooms"]["join"]) == 1
                since = reply["next_batch"]
    return [
        Figure("idle", percentile(idle.took, 0.5) * 1000, "ms"),
        Figure("idle CPU", used.server_cpu / len(idle.took) * 1000, "ms"),
        # With what goes on in the background meanwhile.
        Figure("idle transactions", asked / len(idle.took), "a request"),
        Figure("one message", percentile(one, 0.5) * 1000, "ms"),
    ]


async def idle_syncs(connection: Connection, since: str, seconds: float) -> Tally:
    tally = Tally()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        # As clients do: on from where the last answer ended.
        since = (await connection.sync(since))["next_batch"]
        tally.took.append(time.perf_counter() - began)
    tally.seconds = seconds
    return tally


async def remote_join(contender: Contender, scale: Scale) -> list[Figure]:
    """A new server joins a room of 2,000 members over TLS."""
    host, room = await crowded_room(contender, scale.remote_members)
    other = await contender.another("remote")
    async with other:
        guest = await other.registers("guest")
        began = time.perf_counter()
        await guest.joins(room, via=host)
        joined = time.perf_counter() - began
        await is_complete(other, guest, room, scale.remote_members + 1)
        complete = time.perf_counter() - began
    return [
        # Synapse answers before it has the state, and is busy until `complete`.
        Figure("joined", joined * 1000, "ms"),
        Figure("complete", complete * 1000, "ms"),
    ]


async def crowded_room(contender: Contender, members: int) -> tuple[Client, str]:
    """A new room: in one of an earlier round there are servers that are gone by now."""

    async def register() -> list[Client]:
        return await few_at_once(
            contender.server.registers(f"member{n}") for n in range(members)
        )

    host, *others = await contender.once("crowd", register)
    room = await host.creates_room(preset="public_chat")
    await few_at_once(each.joins(room) for each in others)
    return host, room


async def few_at_once(calls: Iterable[Awaitable[Done]]) -> list[Done]:
    lock = asyncio.Semaphore(8)

    async def do(call: Awaitable[Done]) -> Done:
        async with lock:
            return await call

    return await asyncio.gather(*map(do, calls))


async def is_complete(
    server: Homeserver, guest: Client, room: str, members: int
) -> None:
    where = path("rooms", room, "joined_members")
    for _ in range(6000):
        # Synapse holds the answer back until it has the whole state.
        status, reply = await guest.answer("GET", where, seconds=300)
        if status == 200 and len(reply["joined"]) >= members:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{server.name} never knew all members")


async def memory(contender: Contender, scale: Scale) -> list[Figure]:
    """Resident memory of the server now, after the rows before."""
    await asyncio.sleep(scale.seconds / 10)
    return [Figure("resident", contender.resident() / 1e6, "MB")]


ROWS: Final[dict[str, Row]] = {
    "send_one_room": send_one_room,
    "send_fifty_rooms": send_fifty_rooms,
    "delivery": delivery,
    "initial_sync": initial_sync,
    "incremental_sync": incremental_sync,
    "remote_join": remote_join,
    "memory": memory,
}


def title_of(name: str) -> str:
    """A row's first line of documentation, for the table."""
    return (ROWS[name].__doc__ or name).strip().splitlines()[0]


def chosen(names: Sequence[str]) -> list[str]:
    """Check row names. Raises: ValueError naming those there are."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise ValueError(f"no such row: {unknown}; there are {', '.join(ROWS)}")
    return [name for name in ROWS if name in names]
