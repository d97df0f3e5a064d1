"""What a client waits for: first and later syncs of large accounts, history, search.

The sizes are those of the issue. `--rooms` scales them all: 20 of 200 is a tenth.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

import orjson

from tests.bench.field import Contender
from tests.bench.load import Connection, percentile
from tests.bench.rows import (
    ROOMS_OF_USER,
    Figure,
    Row,
    Scale,
    body,
    listen,
    new_device,
)
from tests.support.client import Client

T = TypeVar("T")

SYNCING_USERS: Final = 50
CROWDED_ROOMS: Final = 100
CROWD: Final = 100
CHANGING_ROOMS: Final = 500
LISTENERS: Final = 500
FOUND_AMONG: Final = 100_000
# Loading as many into Synapse would take it half an hour.
FOUND_AMONG_AT_SYNAPSE: Final = 5000
SLIDING_ROOMS: Final = 2000
PAGE: Final = 100

_AT_ONCE: Final = 8
_SPEAKERS: Final = 16
_EVERY: Final = 500  # in so many messages the rare word stands once
_SLIDING: Final = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
# The paper that demand.md quotes names three of its four profiles; the fourth is the
# missing pair of (timeline, members).
_PROFILES: Final[dict[str, tuple[int, bool]]] = {
    "timeline 1, lazy": (1, True),
    "Element Web": (20, True),
    "timeline 1, all members": (1, False),
    "timeline 20, all members": (20, False),
}


def scaled(scale: Scale, size: int, least: int = 2) -> int:
    return max(least, size * scale.rooms_of_user // ROOMS_OF_USER)


async def each(work: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do all of it, a few at a time; the results in order."""
    lock = asyncio.Semaphore(_AT_ONCE)

    async def one(part: Callable[[], Awaitable[T]]) -> T:
        async with lock:
            return await part()

    return await asyncio.gather(*map(one, work))


async def timed(work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """What it gives, and how many milliseconds it took."""
    began = time.perf_counter()
    result = await work()
    return result, (time.perf_counter() - began) * 1000


async def registered(contender: Contender, label: str, count: int) -> list[Client]:
    names = [f"{label}{n}" for n in range(count)]
    return await each(partial(contender.server.registers, name) for name in names)


async def initial_profiles(contender: Contender, scale: Scale) -> list[Figure]:
    """First /sync of 50 users, 8 at a time, in 100 rooms of 100 members: all of them"""

    async def make() -> list[Client]:
        people = await registered(contender, "crowd", scaled(scale, CROWD))
        for n in range(scaled(scale, CROWDED_ROOMS)):
            room = await people[0].creates_room(preset="public_chat", name=f"Crowd {n}")
            await each(partial(person.joins, room) for person in people[1:])
            async with Connection(people[n % len(people)]) as connection:
                for _ in range(20):
                    await connection.send(room, body())
        return people

    people = await contender.once("crowds", make)
    syncing = people[: scaled(scale, SYNCING_USERS)]
    figures = []
    for name, (limit, is_lazy) in _PROFILES.items():
        devices = await each(partial(new_device, contender, who) for who in syncing)
        first = partial(first_sync, limit=limit, is_lazy=is_lazy)
        work = partial(each, [partial(first, device) for device in devices])
        _, took = await timed(work)
        figures.append(Figure(name, took / 1000, "s"))
    return figures


async def first_sync(who: Client, *, limit: int, is_lazy: bool) -> int:
    chosen = {
        "room": {
            "timeline": {"limit": limit},
            "state": {"lazy_load_members": is_lazy},
        }
    }
    target = f"/_matrix/client/v3/sync?filter={quote(orjson.dumps(chosen))}"
    async with Connection(who) as connection:
        return len(await connection.call("GET", target))


async def one_of_many_changed(contender: Contender, scale: Scale) -> list[Figure]:
    """/sync of a user in 500 rooms, one of which has a new message"""
    reader, friend, rooms = await in_rooms(
        contender, "changing", scaled(scale, CHANGING_ROOMS)
    )
    took = []
    async with Connection(reader) as connection, Connection(friend) as speaker:
        since = (await connection.sync())["next_batch"]
        for n in range(40):
            await speaker.send(rooms[n * 7 % len(rooms)], body())
            reply, ms = await timed(partial(connection.sync, since))
            assert len(reply["rooms"]["join"]) == 1
            took.append(ms)
            since = reply["next_batch"]
    return [
        Figure("p50", percentile(took, 0.5), "ms"),
        Figure("worst", max(took), "ms", judged=False),
    ]


async def in_rooms(
    contender: Contender, label: str, count: int
) -> tuple[Client, Client, list[str]]:
    """A reader in so many rooms, the friend who writes there, and the rooms."""

    async def make() -> tuple[Client, Client, list[str]]:
        reader, friend = await registered(contender, label, 2)

        async def one(n: int) -> str:
            room = await friend.creates_room(preset="public_chat", name=f"Room {n}")
            await reader.joins(room)
            await friend.sends(room, body())
            return room

        rooms = await each(partial(one, n) for n in range(count))
        return reader, friend, rooms

    return await contender.once(label, make)


async def fan_out(contender: Contender, scale: Scale) -> list[Figure]:
    """From the PUT to the /sync of 500 who wait in one room"""

    async def make() -> tuple[str, list[Client]]:
        count = scaled(scale, LISTENERS) + 1
        people = await registered(contender, "waiting", count)
        room = await people[0].creates_room(preset="public_chat")
        await each(partial(person.joins, room) for person in people[1:])
        return room, people

    room, (speaker, *listeners) = await contender.once("fan out", make)
    count = max(3, int(scale.seconds))
    sent_at: dict[str, float] = {}
    took: list[float] = []
    heard = [
        asyncio.create_task(listen(person, room, sent_at, took, count))
        for person in listeners
    ]
    await asyncio.sleep(3)
    async with Connection(speaker) as connection:
        for n in range(count):
            text = body()
            sent_at[text] = time.perf_counter()
            await connection.send(room, text)
            async with asyncio.timeout(60):
                while len(took) < (n + 1) * len(listeners):
                    await asyncio.sleep(0.02)
    await asyncio.gather(*heard)
    return [
        Figure("p50", percentile(took, 0.5) * 1000, "ms"),
        Figure("last", max(took) * 1000, "ms"),
    ]


async def long_room(contender: Contender, scale: Scale) -> tuple[Client, str]:
    """A room with 100,000 messages (5,000 at Synapse), and who is in it."""

    async def make() -> tuple[Client, str]:
        people = await registered(contender, "talker", _SPEAKERS)
        room = await people[0].creates_room(preset="public_chat")
        await each(partial(person.joins, room) for person in people[1:])
        among = FOUND_AMONG if contender.kind == "hearth" else FOUND_AMONG_AT_SYNAPSE
        numbers = iter(range(scaled(scale, among, least=1000)))

        async def talk(person: Client) -> None:
            async with Connection(person) as connection:
                for n in numbers:
                    rare = "heliotrope " if n % _EVERY == 0 else ""
                    await connection.send(room, rare + body())

        await asyncio.gather(*map(talk, people))
        return people[0], room

    return await contender.once("long room", make)


async def history_pages(contender: Contender, scale: Scale) -> list[Figure]:
    """/messages backwards, 100 events a page, one reader and then 8 at a time"""
    reader, room = await long_room(contender, scale)
    pages = 10
    await history(reader, room, pages)
    _, alone = await timed(partial(history, reader, room, pages))
    work = partial(each, [partial(history, reader, room, pages)] * _AT_ONCE)
    _, together = await timed(work)
    return [
        Figure("alone", pages * 1000 / alone, "/s", more_is_better=True),
        Figure("together", pages * 8000 / together, "/s", more_is_better=True),
    ]


async def history(who: Client, room: str, pages: int) -> None:
    target = f"/_matrix/client/v3/rooms/{quote(room)}/messages?dir=b&limit={PAGE}"
    start = ""
    async with Connection(who) as connection:
        for _ in range(pages):
            reply = orjson.loads(await connection.call("GET", target + start))
            assert len(reply["chunk"]) == PAGE
            start = f"&from={quote(reply['end'])}"


async def search(contender: Contender, scale: Scale) -> list[Figure]:
    """Search in 100,000 messages (Synapse: in 5,000): a rare word, one in them all"""
    reader, _ = await long_room(contender, scale)
    figures = []
    async with Connection(reader) as connection:
        for word in ("heliotrope", "usual"):
            took = []
            for order in ("recent", "rank") * 5:
                found, ms = await timed(partial(searched, connection, word, order))
                assert found
                took.append(ms)
            figures.append(Figure(word, percentile(took, 0.5), "ms"))
    return figures


async def searched(connection: Connection, word: str, order: str) -> int:
    wanted = {"search_term": word, "order_by": order, "filter": {"limit": 10}}
    content = orjson.dumps({"search_categories": {"room_events": wanted}})
    reply = await connection.call("POST", "/_matrix/client/v3/search", content)
    return len(orjson.loads(reply)["search_categories"]["room_events"]["results"])


async def sliding_first(contender: Contender, scale: Scale) -> list[Figure]:
    """First sliding sync of a user in 2,000 rooms: after a start, and then again"""
    count = scaled(scale, SLIDING_ROOMS)
    reader, _, _ = await in_rooms(contender, "sliding", count)
    await contender.server.stop()
    await contender.server.start()
    took = []
    for _ in range(6):
        device = await new_device(contender, reader)
        async with Connection(device) as connection:
            content = orjson.dumps(_as_element_x_asks())
            work = partial(connection.call, "POST", f"{_SLIDING}?timeout=0", content)
            reply, ms = await timed(work)
            assert orjson.loads(reply)["lists"]["all_rooms"]["count"] == count
            took.append(ms)
    cold, *warm = took
    return [
        Figure("cold", cold, "ms"),
        Figure("warm", percentile(warm, 0.5), "ms"),
    ]


def _as_element_x_asks() -> dict[str, Any]:
    state = [
        ["m.room.name", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.topic", ""],
        ["m.room.create", ""],
        ["m.room.power_levels", ""],
    ]
    return {
        "conn_id": "room-list",
        "lists": {
            "all_rooms": {
                "ranges": [[0, 19]],
                "timeline_limit": 1,
                "required_state": state,
                "filters": {"not_room_types": ["m.space"]},
            }
        },
        "extensions": {
            "account_data": {"enabled": True},
            "receipts": {"enabled": True, "rooms": ["*"]},
            "to_device": {"enabled": True},
            "e2ee": {"enabled": True},
        },
    }


ROWS: Final[dict[str, Row]] = {
    "initial_profiles": initial_profiles,
    "one_of_many_changed": one_of_many_changed,
    "fan_out": fan_out,
    "history_pages": history_pages,
    "search": search,
    "sliding_first": sliding_first,
}
