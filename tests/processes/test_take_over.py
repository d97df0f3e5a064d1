"""What a process was doing when it died, another takes up within ten seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from homeserver.claimed import CLAIM_SECONDS, LOOK_SECONDS, Claimed
from homeserver.db.pool import Database, Tx
from tests.processes.conftest import Pair
from tests.support.api import eventually, path

SECONDS = 10
# What a process that was killed leaves behind: rows that it had claimed, or held by a
# lease, as long as it would have kept them. (holder: none of those who live.)
LEFT = {
    "delayed": """
        INSERT INTO delayed_events (delay_id, user_id, room_id, type, content, delay_ms,
                                    scheduled_at, send_at, claimed_until)
        VALUES ('left', $1, $2, 'm.room.message', '{"body":"left","msgtype":"m.text"}',
                1, now(), now(), clock_timestamp() + $3 * interval '1 s')
        """,
    "farewells": """
        INSERT INTO farewells (user_id, claimed_until)
        SELECT $1, clock_timestamp() + $3 * interval '1 s' WHERE $2::text IS NOT NULL
        """,
    "tellings": """
        INSERT INTO profile_tellings (user_id, position, claimed_until)
        SELECT $1, 1, clock_timestamp() + $3 * interval '1 s' WHERE $2::text IS NOT NULL
        """,
    "partial": """
        INSERT INTO partial_rooms (room_nid, join_nid, servers, due_at)
        SELECT -1, -1, '{}', clock_timestamp() + $3 * interval '1 s'
         WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL
        """,
    "unverified": """
        INSERT INTO unverified_events (room_nid, event_id, origin, server, json, due_at)
        SELECT -1, '$left', 'left.test', 'left.test', '{}',
               clock_timestamp() + $3 * interval '1 s'
         WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL
        """,
}
TAKEN = """
    SELECT (SELECT count(*) FROM delayed_events WHERE finalised_at IS NULL)
         + (SELECT count(*) FROM farewells) + (SELECT count(*) FROM profile_tellings)
         + (SELECT count(*) FROM partial_rooms WHERE tries = 0)
         + (SELECT count(*) FROM unverified_events)
    """


async def test_claims_of_a_process_that_was_killed_are_taken_over(pair: Pair) -> None:
    alice = await pair.one.registers()
    gone = await pair.one.registers()
    reply = await alice.post(path("createRoom"), {})
    db: Database = pair.one.ctx.db
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with db.transaction() as tx:
        for kind, sql in LEFT.items():
            user = gone.user_id if kind == "farewells" else alice.user_id
            await tx.execute(sql, user, reply["room_id"], CLAIM_SECONDS)

    async def all_is_done() -> bool:
        async with db.read() as tx:
            return await tx.fetchval(TAKEN) == 0

    async with db.read() as tx:
        assert await tx.fetchval(TAKEN) == len(LEFT)
    await eventually(all_is_done, "what was left is taken over", seconds=20)
    assert CLAIM_SECONDS - 1 < loop.time() - began < SECONDS


@pytest.fixture
async def jobs(new_database: Callable[[], Awaitable[Database]]) -> Database:
    database = await new_database()
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE jobs (id int, until timestamptz, worker text)")
    return database


def worker(db: Database, name: str, work: Callable[[int], Awaitable[None]]) -> Any:
    async def claim(tx: Tx, seconds: float, most: int) -> list[int]:
        rows = await tx.fetch(
            """
            UPDATE jobs SET until = clock_timestamp() + $1 * interval '1 s', worker = $3
             WHERE id IN (SELECT id FROM jobs WHERE until < clock_timestamp()
                           ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING id
            """,
            seconds,
            most,
            name,
        )
        return [row["id"] for row in rows]

    async def renew(tx: Tx, ids: Sequence[int], seconds: float) -> None:
        await tx.execute(
            """
            UPDATE jobs SET until = clock_timestamp() + $2 * interval '1 s'
             WHERE id = ANY($1)
            """,
            ids,
            seconds,
        )

    return Claimed(db, name, claim=claim, renew=renew, work=work, at_once=3)


async def add_jobs(db: Database, count: int) -> None:
    async with db.transaction() as tx:
        await tx.execute(
            "INSERT INTO jobs SELECT n, now() FROM generate_series(1, $1) AS n", count
        )


async def end_job(db: Database, number: int) -> None:
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM jobs WHERE id = $1", number)


async def left(db: Database) -> int:
    async with db.read() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM jobs"))


async def test_each_piece_is_done_once_and_what_takes_long_stays_claimed(
    jobs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.claimed.CLAIM_SECONDS", 0.6)
    monkeypatch.setattr("homeserver.claimed._RENEW_SECONDS", 0.1)
    done: list[int] = []

    async def work(number: int) -> None:
        # Number 1 takes longer than a claim lasts, and than others take to look.
        await asyncio.sleep(LOOK_SECONDS + 1 if number == 1 else 0)
        done.append(number)
        await end_job(jobs, number)

    await add_jobs(jobs, 40)
    async with worker(jobs, "one", work), worker(jobs, "two", work):

        async def all_done() -> bool:
            return not await left(jobs)

        await eventually(all_done, "all is done")
    assert sorted(done) == list(range(1, 41))


async def test_who_stops_hands_back_and_a_failure_waits(
    jobs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.claimed._STOP_SECONDS", 0.1)
    begun = asyncio.Event()
    failed: list[int] = []

    async def hangs(_number: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def fails(number: int) -> None:
        failed.append(number)
        raise ValueError("a slip")

    await add_jobs(jobs, 1)
    async with worker(jobs, "hangs", hangs):
        await begun.wait()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with worker(jobs, "fails", fails):

        async def has_failed() -> bool:
            async with jobs.read() as tx:
                return bool(
                    await tx.fetchval(
                        "SELECT until > now() + interval '30 s' FROM jobs"
                    )
                )

        await eventually(has_failed, "it is put off")
    assert loop.time() - began < CLAIM_SECONDS  # it was handed back at once
    assert failed == [1]
