"""`python -m tests.bench.capacity`: what a process holds, and how cost grows.

At three sizes each: members of a room, rooms at hand, people who wait. In one process
on a private PostgreSQL that syncs to disk; docs/capacity.md explains the figures.
"""

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from federation.canonical_json import JsonObject
from federation.ids import RoomId, UserId
from homeserver.db.embedded import EmbeddedPostgres
from homeserver.db.migrate import migrate
from homeserver.live.room import Room
from homeserver.rooms.build import NewEvent
from homeserver.rooms.send import send_event
from tests.support.app import Running, User, configuration, running
from tests.support.forks import Forked

SIZES: Final = (100, 1_000, 10_000)
ROOMS: Final = (50, 200, 800)
WAITING: Final = (100, 1_000, 5_000)
MESSAGES: Final = 1_000
AT_ONCE: Final = 20
KIB: Final = 1024
SAID: Final[JsonObject] = {
    "msgtype": "m.text",
    "body": "What one says in passing, or so.",
}


def resident() -> int:
    """Bytes in memory, once nothing more can be given back."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def cpu() -> float:
    """Seconds of this process, the database's not included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def stored(ctx: Any) -> int:
    """Bytes in the database."""
    async with ctx.db.read() as tx:
        return int(await tx.fetchval("SELECT pg_database_size(current_database())"))


async def written(ctx: Any) -> int:
    """Bytes of the database's log so far."""
    async with ctx.db.read() as tx:
        return int(await tx.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'"))


async def sends(ctx: Any, room: Room, sender: UserId, count: int) -> None:
    """So many messages, `AT_ONCE` at a time."""
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            new = NewEvent("m.room.message", sender, dict(SAID))
            await send_event(ctx, room, new)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def measured(ctx: Any, work: Callable[[], Awaitable[None]], count: int) -> str:
    """Rate, CPU, and bytes of rows and of log for each of `count`."""
    rows, log, used, began = await stored(ctx), await written(ctx), cpu(), time.time()
    await work()
    took, used = time.time() - began, cpu() - used
    rows, log = await stored(ctx) - rows, await written(ctx) - log
    return (
        f"{count / took:6.0f}/s  {used / count * 1e6:6.0f} µs CPU"
        f"  {rows / count:6.0f} B rows  {log / count:6.0f} B log"
    )


async def members(hearth: Running, say: Callable[[str], object]) -> None:
    ctx = hearth.ctx
    for size in SIZES:
        rows, memory = await stored(ctx), resident()
        forked = await Forked.make(ctx, size)
        rows = await stored(ctx) - rows
        room = forked.room
        memory = resident() - memory
        say(
            f"a room of {size:6} members: {room.cost / KIB:8.0f} KiB at hand"
            f" ({memory / KIB:.0f} with all that its making left),"
            f" {rows / size:6.0f} B of rows a member"
        )
        await sends(ctx, room, forked.us, 100)
        speed = await measured(
            ctx, partial(sends, ctx, room, forked.us, MESSAGES), MESSAGES
        )
        say(f"   messages there: {speed}")


async def rooms(hearth: Running, say: Callable[[str], object]) -> None:
    ctx = hearth.ctx
    owner = await hearth.registers()
    made: list[str] = []
    for size in ROOMS:
        while len(made) < size:
            made.append(await creates(owner, len(made)))
        cost = 0
        found = []
        for room_id in made:
            room = await ctx.live.room(RoomId(room_id))
            cost += room.cost
            found.append(room)
        each = max(1, MESSAGES // size)
        user = UserId(owner.user_id)

        async def everywhere(
            found: list[Room] = found, each: int = each, user: UserId = user
        ) -> None:
            for begin in range(0, len(found), AT_ONCE):
                some = found[begin : begin + AT_ONCE]
                await asyncio.gather(
                    *(one_after_another(ctx, room, user, each) for room in some)
                )

        speed = await measured(ctx, everywhere, each * size)
        say(f"{size:6} small rooms: {cost / size / KIB:6.1f} KiB each at hand; {speed}")


async def one_after_another(ctx: Any, room: Room, user: UserId, count: int) -> None:
    for _ in range(count):
        await send_event(ctx, room, NewEvent("m.room.message", user, dict(SAID)))


async def creates(owner: User, number: int) -> str:
    reply = await owner.post(
        "/_matrix/client/v3/createRoom", {"name": f"Room {number}"}
    )
    return str(reply["room_id"])


async def waiting(hearth: Running, say: Callable[[str], object]) -> None:
    idler = await hearth.registers()
    reply = await idler.get("/_matrix/client/v3/sync", set_presence="offline")
    port = hearth.server.addresses[0].port
    request = (
        f"GET /_matrix/client/v3/sync?timeout=600000&set_presence=offline"
        f"&since={reply['next_batch']} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {idler.access_token}\r\n\r\n"
    ).encode()
    pipes: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for size in WAITING:
        before, used = resident(), cpu()
        fresh = size - len(pipes)
        while len(pipes) < size:
            pipes.append(await asyncio.open_connection("127.0.0.1", port))
            pipes[-1][1].write(request)
        held = hearth.server.context.live.view.waiting
        while held.of(idler.user_id) < size:
            await asyncio.sleep(0.05)
        # Both ends are in this process: about half is the clients'.
        say(
            f"{size:6} long polls: {(resident() - before) / fresh / KIB:5.1f} KiB each,"
            f" both ends; {(cpu() - used) / fresh * 1e6:4.0f} µs CPU to begin"
        )
        used, began = cpu(), time.time()
        await asyncio.sleep(5)
        share = (cpu() - used) / (time.time() - began)
        say(f"   while nothing happens: {share:.1%} CPU")
    for _, writer in pipes:
        writer.transport.abort()


async def following(hearth: Running, dsn: str, say: Callable[[str], object]) -> None:
    """What others' messages cost the processes that only follow."""
    ctx = hearth.ctx
    owner = await hearth.registers()
    room_id = RoomId(await creates(owner, 0))
    room = await ctx.live.room(room_id)
    user = UserId(owner.user_id)
    async with AsyncExitStack() as stack:
        there = 0
        for others in (0, 1, 3):
            while there < others:
                there += 1
                other = await stack.enter_async_context(running(ctx.config, dsn))
                await other.ctx.live.room(room_id)
            speed = await measured(
                ctx, lambda: sends(ctx, room, user, 2 * MESSAGES), 2 * MESSAGES
            )
            say(f"{others} processes that follow, all in this one: {speed}")


async def main() -> None:
    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="hearth-capacity-") as made:
        place = Path(made)
        place.chmod(0o711)
        async with EmbeddedPostgres(place / "data") as postgres:
            await migrate(postgres.dsn)
            config = configuration(place / "hearth", database_pool_size=10)
            (place / "hearth").mkdir()
            async with running(config, postgres.dsn) as hearth:
                say(f"idle: {resident() / 2**20:.0f} MiB, the bench's own included")
                await members(hearth, say)
                await rooms(hearth, say)
                await following(hearth, postgres.dsn, say)
                await waiting(hearth, say)
                say(f"at the end: {resident() / 2**20:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
