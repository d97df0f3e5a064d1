"""What a message and a change of state cost the database, in bytes and transactions."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from tests.bench.field import Contender
from tests.bench.load import Connection
from tests.bench.rows import SENDERS, Figure, Row, Scale, body
from tests.bench.speed_rows import senders_in, sized
from tests.support.api import path
from tests.support.client import Client
from tests.support.resident import Resident

MESSAGES: Final = 3000
MESSAGES_AT_SYNAPSE: Final = 600
ALONE: Final = 200  # one after the other, each a batch of its own
CROWD: Final = 10_000
# It takes Synapse many minutes to join as many.
CROWD_AT_SYNAPSE: Final = 1000
CHANGES: Final = 300
_SETTLED: Final = 2.5  # seconds until PostgreSQL has counted, and indexers are done


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a database holds and has done."""

    tables: int
    nodes: int
    wal: int
    transactions: int

    def since(self, before: "Sizes", count: int) -> "tuple[float, float, float, float]":
        """For each: bytes of tables, of state nodes, and of WAL; transactions."""
        return (
            (self.tables - before.tables) / count,
            (self.nodes - before.nodes) / count,
            (self.wal - before.wal) / count,
            (self.transactions - before.transactions) / count,
        )


async def sizes(contender: Contender) -> Sizes:
    """Measure, after a checkpoint: pages that are touched first cost WAL anew."""
    await asyncio.sleep(_SETTLED)
    connection = await asyncpg.connect(contender.server.database)
    try:
        await connection.execute("CHECKPOINT")
        row: Any = await connection.fetchrow(
            """
            SELECT (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                   )::bigint AS tables,
                   coalesce(pg_total_relation_size(to_regclass('state_nodes')), 0)
                       AS nodes,
                   (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal,
                   (SELECT xact_commit + xact_rollback FROM pg_stat_database
                     WHERE datname = current_database()) AS transactions
            """
        )
    finally:
        await connection.close()
    return Sizes(**row)


async def database(contender: Contender, scale: Scale) -> list[Figure]:
    """Bytes and transactions of a message; of a state change among 10,000 members"""
    count = int(
        sized(contender, MESSAGES, MESSAGES_AT_SYNAPSE) * min(1, scale.seconds / 3)
    )
    senders = await senders_in(contender, "measured")
    before = await sizes(contender)
    await asyncio.gather(*(_send(*each, count // SENDERS) for each in senders))
    together = await sizes(contender)
    await _send(*senders[0], ALONE)
    alone = await sizes(contender)
    message, _, wal, _ = together.since(before, count // SENDERS * SENDERS)
    _, _, _, transactions = alone.since(together, ALONE)

    guest, room = await _in_a_crowd(contender)
    before = await sizes(contender)
    for n in range(CHANGES):
        content = {"membership": "join", "displayname": f"Guest number {n}"}
        where = path("rooms", room, "state", "m.room.member", guest.user_id)
        await guest.call("PUT", where, content)
    change, nodes, _, _ = (await sizes(contender)).since(before, CHANGES)
    figures = [
        Figure("message", message, "bytes"),
        Figure("WAL per message", wal / 1000, "kB"),
        # With a write of its own each; those of indexers and the like included.
        Figure("transactions", transactions, "a message"),
        Figure("state change", change, "bytes"),
    ]
    if contender.kind == "hearth":
        figures.append(Figure("state nodes", nodes, "bytes a change"))
    return figures


async def _send(person: Client, room: str, count: int) -> None:
    async with Connection(person) as connection:
        for _ in range(count):
            await connection.send(room, body())


async def _in_a_crowd(contender: Contender) -> tuple[Client, str]:
    """A user in a room of 10,000 members (Synapse: 1,000), all of another server."""

    async def make() -> tuple[Client, str]:
        crowd = sized(contender, CROWD, CROWD_AT_SYNAPSE)
        directory = contender.directory / "resident-of-crowd"
        resident = Resident(directory, contender.authority, crowd, can_omit=False)
        (guest,) = await contender.people("guest-of-crowd", 1)
        async with resident:
            await guest.joins(resident.room_id, via=resident.name)
            async with asyncio.timeout(600):
                while len(await _joined(guest, resident.room_id)) < crowd:
                    await asyncio.sleep(0.5)
                # User directories and the like take the members in a while later.
                before, now = -1, (await sizes(contender)).tables
                while now != before:
                    before, now = now, (await sizes(contender)).tables
        return guest, resident.room_id

    made: tuple[Client, str] = await contender.once("crowd of another", make)
    return made


async def _joined(guest: Client, room: str) -> Any:
    status, reply = await guest.answer(
        "GET", path("rooms", room, "joined_members"), seconds=300
    )
    return reply["joined"] if status == 200 else {}


ROWS: Final[dict[str, Row]] = {"database": database}
