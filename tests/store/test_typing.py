"""Who types, in the database."""

import asyncio

import pytest

from homeserver.db.pool import Database
from homeserver.live.changes import Positioned
from homeserver.typing import store
from homeserver.typing.store import RunOut, Typing


@pytest.fixture
async def members(database: Database) -> Database:
    """Room 1 with @a:x and @b:x joined and @c:x gone."""
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO rooms (room_nid, room_id, version) VALUES (1, '!r:x', '12')"
        )
        await tx.execute(
            """
            INSERT INTO events (event_nid, event_id, room_nid, depth, type, sender,
                                origin_server_ts, prev_nids, auth_nids)
            VALUES (1, '$1', 1, 1, 'm.x', '@a:x', 0, '{}', '{}')
            """
        )
        await tx.execute(
            """
            INSERT INTO memberships
            SELECT 1, '@' || name || ':x', membership, 1, 1, true
              FROM (VALUES ('a', 'join'), ('b', 'join'), ('c', 'leave'))
                     AS u (name, membership)
            """
        )
    return database


async def put(database: Database, *items: Typing) -> None:
    async with database.transaction() as tx:
        await store.put(tx, [Positioned(n, item) for n, item in enumerate(items, 1)])


async def types(database: Database, *room_nids: int) -> dict:
    async with database.read() as tx:
        return dict(await store.typing_in(tx, room_nids or (1,)))


async def test_members_type_until_they_stop(members):
    await put(members, Typing(1, "@a:x", 9000), Typing(1, "@b:x", 9000))
    assert await types(members) == {1: ["@a:x", "@b:x"]}
    await put(members, Typing(1, "@a:x", None), Typing(1, "@z:x", None))
    assert await types(members, 1, 2) == {1: ["@b:x"], 2: []}


async def test_who_is_not_in_the_room_does_not_type_there(members):
    await put(members, Typing(1, "@c:x", 9000), Typing(1, "@z:x", 9000))
    assert await types(members) == {1: []}


async def test_of_one_batch_the_last_word_counts(members):
    await put(members, Typing(1, "@a:x", None), Typing(1, "@a:x", 9000))
    assert await types(members) == {1: ["@a:x"]}
    await put(members, Typing(1, "@a:x", 9000), Typing(1, "@a:x", None))
    assert await types(members) == {1: []}


async def test_what_has_run_out_is_ended_unless_it_goes_on(members):
    await put(members, Typing(1, "@a:x", 1), Typing(1, "@b:x", 1))
    await asyncio.sleep(0.01)
    assert await types(members) == {1: []}
    async with members.read() as tx:
        assert len(await store.run_out(tx, 1)) == 1, "no more than asked for"
        over = await store.run_out(tx, 10)
    assert set(over) == {RunOut(1, "@a:x"), RunOut(1, "@b:x")}
    await put(members, Typing(1, "@b:x", 9000))
    async with members.transaction() as tx:
        await store.end(tx, [Positioned(1, each) for each in over])
    assert await types(members) == {1: ["@b:x"]}
    async with members.read() as tx:
        assert await store.run_out(tx, 10) == []
        assert await store.is_anybody(tx)
    await put(members, Typing(1, "@b:x", None))
    async with members.read() as tx:
        assert not await store.is_anybody(tx)
