"""Joins of crowded rooms of another server, and what they cost everybody else.

The other server is scripted (`tests.support.resident`), so both contenders join the
same room, which answers at once. Meanwhile somebody sends to another room each 5 ms:
how long that takes at worst is what a join costs the others.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Self

from tests.bench.field import Contender
from tests.bench.load import Connection, percentile
from tests.bench.rows import Figure, Row, Scale, body
from tests.support.api import path
from tests.support.child import resident_bytes
from tests.support.client import Client
from tests.support.resident import Resident

INTERVAL: Final = 0.005
CONNECTIONS: Final = 100
MANY: Final = 20_000
FEWER: Final = 2000
_LOOK: Final = 0.05
_SECONDS: Final = 300
_WARM: Final = 3.0


@dataclass
class Probe:
    """Sends to a room of its own each 5 ms, whether or not the last was answered."""

    contender: Contender
    took: list[float] = field(default_factory=list)
    peak: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        person = await self.contender.server.registers(f"probe{time.time_ns()}")
        room = await person.creates_room(preset="private_chat")
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            connection = Connection(person)
            await connection.__aenter__()
            free.put_nowait(connection)
        self._tasks = [
            asyncio.create_task(self._send(room, free)),
            asyncio.create_task(self._weigh()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, room: str, free: asyncio.Queue[Connection]) -> None:
        async def one(due: float) -> None:
            connection = await free.get()
            await connection.send(room, body())
            self.took.append(time.perf_counter() - due)
            free.put_nowait(connection)

        due = time.perf_counter()
        async with asyncio.TaskGroup() as sends:
            while True:
                due = max(due + INTERVAL, time.perf_counter())
                await asyncio.sleep(due - time.perf_counter())
                sends.create_task(one(due))

    async def _weigh(self) -> None:
        while True:
            self.peak = max(
                self.peak, resident_bytes(self.contender.server.child.family())
            )
            await asyncio.sleep(_LOOK)


async def _is_complete(guest: Client, room: str) -> None:
    """Return when all members are there.

    Asks for members who are not joined, since a long answer would delay the others too.
    """
    where = path("rooms", room, "members") + "?not_membership=join"
    async with asyncio.timeout(_SECONDS):
        while True:
            status, _ = await guest.answer("GET", where, seconds=_SECONDS)
            if status == 200:
                return
            await asyncio.sleep(_LOOK)


async def _resident(contender: Contender, members: int, *, can_omit: bool) -> Resident:
    async def make() -> Resident:
        name = f"resident-{contender.kind}-{members}-{can_omit}"
        resident = Resident(
            contender.directory / name,
            contender.authority,
            members,
            can_omit=can_omit,
        )
        return await resident.__aenter__()

    return await contender.once(f"resident {members} {can_omit}", make)


async def _join(contender: Contender, members: int, *, can_omit: bool) -> list[Figure]:
    resident = await _resident(contender, members, can_omit=can_omit)
    other = await contender.another("joining")
    async with other:
        joining = Contender(
            "", contender.directory, contender.cluster, contender.authority
        )
        joining.kind, joining.server = contender.kind, other
        guest = await other.registers("guest")
        async with Probe(joining) as before:
            await asyncio.sleep(_WARM)
        async with Probe(joining) as probe:
            began = time.perf_counter()
            await guest.joins(resident.room_id, via=resident.name)
            await guest.sends(resident.room_id, body())
            can_send = time.perf_counter() - began
            await _is_complete(guest, resident.room_id)
            complete = time.perf_counter() - began
            await asyncio.sleep(_LOOK)
    return [
        Figure("can send", can_send * 1000, "ms"),
        Figure("complete", complete * 1000, "ms"),
        Figure("worst send meanwhile", max(probe.took) * 1000, "ms"),
        Figure(
            "p99 meanwhile", percentile(probe.took, 0.99) * 1000, "ms", judged=False
        ),
        Figure("worst without", max(before.took) * 1000, "ms", judged=False),
        Figure("memory", (probe.peak - before.peak) / 1e6, "MB", judged=False),
    ]


async def join_fewer(contender: Contender, _scale: Scale) -> list[Figure]:
    """Join a room of 2,000 members; its server can leave them out at first."""
    return await _join(contender, FEWER, can_omit=True)


async def join_many(contender: Contender, _scale: Scale) -> list[Figure]:
    """The same with 20,000 members."""
    return await _join(contender, MANY, can_omit=True)


async def join_many_whole(contender: Contender, _scale: Scale) -> list[Figure]:
    """20,000 members, all of them in the answer to the join."""
    return await _join(contender, MANY, can_omit=False)


ROWS: Final[dict[str, Row]] = {
    "join_2000": join_fewer,
    "join_20000": join_many,
    "join_20000_whole": join_many_whole,
}
