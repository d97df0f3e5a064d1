"""The live view and the committer: two processes on one database always agree."""

import asyncio
import random

import asyncpg
import pytest

from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey
from homeserver.bounded import MIB, LruCache
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.rooms.build import NewEvent
from homeserver.rooms.create import NewRoom, make_room
from homeserver.rooms.send import send_event

ALICE = "@alice:a.test"
BOB = "@bob:a.test"
KEY = SigningKey.generate("1")


class Process:
    """One process of a.test, as far as rooms go."""

    def __init__(self, db):
        self.db = db
        self.live = Live(db, "a.test")
        self.ctx = Context(
            config=Config(),
            server_name="a.test",
            db=db,
            key=KEY,
            wire=None,
            live=self.live,
            clock=Clock(),
            known_keys=LruCache("server keys", MIB, 300),
        )

    async def room(self, room_id):
        return await self.live.room(room_id)

    async def says(self, room_id, sender, body, txn=None):
        room = await self.room(room_id)
        content = {"msgtype": "m.text", "body": body}
        return await send_event(
            self.ctx, room, NewEvent("m.room.message", sender, content, txn=txn)
        )

    async def sets(self, room_id, sender, kind, content, state_key=""):
        room = await self.room(room_id)
        return await send_event(
            self.ctx, room, NewEvent(kind, sender, content, state_key)
        )


@pytest.fixture
async def two(new_dsn):
    dsn = await new_dsn()
    processes = []
    for _ in range(2):
        process = Process(await Database.connect(dsn, size=5))
        await process.live.start()
        processes.append(process)
    yield processes
    for process in processes:
        await process.live.stop()
        await process.db.close()


async def make(process, version="12"):
    room_version = ROOM_VERSIONS[version]
    content = {"room_version": version}
    if not room_version.creator_is_sender:
        content["creator"] = ALICE
    users = {} if room_version.privileged_creators else {ALICE: 100}
    room, _ = await make_room(
        process.ctx,
        NewRoom(
            room_version,
            ALICE,
            content,
            [
                NewEvent("m.room.member", ALICE, {"membership": "join"}, ALICE),
                NewEvent("m.room.power_levels", ALICE, {"users": users}, ""),
                NewEvent("m.room.join_rules", ALICE, {"join_rule": "public"}, ""),
            ],
        ),
    )
    return room.room_id


def picture(room):
    """Everything the view says of a room."""
    return (
        room.head,
        room.state,
        room.members,
        room.joined,
        room.joined_local,
        dict(room.servers),
        room.position,
    )


@pytest.mark.parametrize("version", ["1", "3", "6", "10", "12"])
async def test_two_processes_write_to_one_room_and_agree(two, version):
    one, other = two
    room_id = await make(one, version)
    for user in range(6):
        name = f"@u{user}:a.test"
        await two[user % 2].sets(
            room_id, name, "m.room.member", {"membership": "join"}, name
        )

    async def chatter(process, user):
        for number in range(15):
            if number % 4 == 3:
                content = {"membership": "join", "displayname": f"{user} {number}"}
                await process.sets(room_id, user, "m.room.member", content, user)
            else:
                await process.says(room_id, user, f"{number}")

    await asyncio.gather(*(chatter(two[u % 2], f"@u{u}:a.test") for u in range(6)))
    for process in two:
        await process.live.follower.pull()
    first, second = await one.room(room_id), await other.room(room_id)
    assert picture(first) == picture(second)
    stored = await one.live.states.items(first.head.state_root)
    assert stored == first.state
    async with one.db.read() as tx:
        positions = await tx.fetch("SELECT position FROM events ORDER BY position")
    assert len(positions) == len({p for (p,) in positions}) == 4 + 6 + 90


async def test_a_process_that_starts_later_sees_the_same(two, new_dsn):
    one, other = two
    room_id = await make(one)
    for number in range(100):
        await one.says(room_id, ALICE, str(number))
    first, second = await one.room(room_id), await other.room(room_id)
    assert second is not first
    assert first.recent == second.recent
    assert picture(first)[:6] == picture(second)[:6]


async def test_events_of_one_moment_share_a_batch_and_form_a_line(two):
    one, _ = two
    room_id = await make(one)
    said = await asyncio.gather(*(one.says(room_id, ALICE, str(n)) for n in range(50)))
    events = await one.live.events.by_ids(said)
    room = await one.room(room_id)
    assert room.head.extremities == (events[said[-1]].nid,)
    assert [e.pdu.depth for e in events.values()] == list(range(5, 55))


async def test_a_repeated_transaction_id_gives_the_first_event(two):
    one, other = two
    room_id = await make(one)
    first = await one.says(room_id, ALICE, "hello", txn=("D", "1"))
    assert await one.says(room_id, ALICE, "hello", txn=("D", "1")) == first
    assert await other.says(room_id, ALICE, "hello", txn=("D", "1")) == first
    assert await one.says(room_id, ALICE, "hello", txn=("D", "2")) != first


async def test_one_bad_member_of_a_batch_fails_alone(two):
    one, _ = two
    room_id = await make(one)
    first = await one.says(room_id, ALICE, "hello", txn=("D", "1"))
    answers = await asyncio.gather(
        *(one.says(room_id, ALICE, f"n{n}", txn=("D", str(n))) for n in range(1, 20)),
        one.live.commit(broken, None, Change(Kind.ACCOUNT_DATA, user_id=ALICE)),
        return_exceptions=True,
    )
    assert answers[0] == first
    assert isinstance(answers[-1], asyncpg.PostgresError)
    assert len({*answers[:-1]}) == 19
    events = await one.live.events.by_ids(answers[:-1])
    assert all(event.position for event in events.values())


async def broken(tx, batch):
    await tx.execute("SELECT 1 / 0")


async def test_a_room_that_is_loaded_while_others_write_misses_nothing(two):
    one, other = two
    room_id = await make(one)

    async def writer():
        for number in range(60):
            if number % 3:
                await one.says(room_id, ALICE, str(number))
            else:
                await one.sets(room_id, ALICE, "m.room.topic", {"topic": str(number)})

    async def reader():
        for _ in range(20):
            other.live.view.reset(other.live.position)
            await other.room(room_id)
            await asyncio.sleep(random.random() / 200)

    await asyncio.gather(writer(), reader())
    await other.live.follower.pull()
    first, second = await one.room(room_id), await other.room(room_id)
    assert first.state == second.state
    assert first.head == second.head
    assert list(first.recent)[-10:] == list(second.recent)[-10:]


async def test_commits_survive_lost_connections(two, administrator):
    one, other = two
    room_id = await make(one)
    acknowledged = []

    async def sender(user):
        for number in range(40):
            while True:
                try:
                    said = await one.says(
                        room_id, ALICE, f"{user} {number}", txn=(user, str(number))
                    )
                except Exception:  # noqa: BLE001 - whatever: try again
                    await asyncio.sleep(0.01)
                else:
                    break
            acknowledged.append(said)

    async def cutter():
        for _ in range(8):
            await asyncio.sleep(0.05)
            await administrator.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = $1 AND pid <> pg_backend_pid()
                """,
                await one_database(one),
            )

    await asyncio.gather(*(sender(f"d{n}") for n in range(4)), cutter())
    await asyncio.sleep(0.3)  # the pool learns of its last dead connections
    async with one.db.read() as tx:
        stored = await tx.fetch(
            "SELECT event_id FROM events WHERE type = 'm.room.message'"
        )
    assert sorted(acknowledged) == sorted(event_id for (event_id,) in stored)
    for process in two:
        await process.live.follower.pull()
    assert picture(await one.room(room_id)) == picture(await other.room(room_id))


async def one_database(process):
    async with process.db.read() as tx:
        return await tx.fetchval("SELECT current_database()")


async def test_waiting_ends_when_the_users_room_moves_and_not_before(two):
    one, other = two
    room_id = await make(one)
    await one.sets(room_id, BOB, "m.room.member", {"membership": "join"}, BOB)
    await other.live.follower.pull()
    user = await other.live.user(BOB)
    since = other.live.position
    waiting = asyncio.create_task(other.live.wait(user, since, 20))
    await asyncio.sleep(0.05)
    elsewhere = await make(one)
    await one.says(elsewhere, ALICE, "not for bob")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await one.says(room_id, ALICE, "for bob")
    await asyncio.wait_for(waiting, 2)


async def test_a_view_that_is_too_far_behind_begins_anew(two):
    one, other = two
    room_id = await make(one)
    before = await other.room(room_id)
    await other.live.follower.stop()
    await one.says(room_id, ALICE, "unheard")
    async with one.db.transaction() as tx:
        await tx.execute("DELETE FROM changes")
        await tx.execute("UPDATE sequencer SET trimmed_to = position")
    await other.live.follower.pull()
    after = await other.room(room_id)
    assert after is not before
    assert picture(after)[:6] == picture(await one.room(room_id))[:6]
