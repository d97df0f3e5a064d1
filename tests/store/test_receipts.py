"""Moving receipts, and finding those that moved."""

import pytest

from homeserver.db.pool import Database
from homeserver.live.changes import Positioned
from homeserver.receipts.store import Move, Receipt, move, receipts_between


@pytest.fixture
async def room(database: Database) -> Database:
    """A room with events $1 … $5 at positions 1 … 5."""
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO rooms (room_nid, room_id, version) VALUES (1, '!r:x', '12')"
        )
        await tx.execute(
            """
            INSERT INTO events (event_nid, event_id, room_nid, position, depth, type,
                                sender, origin_server_ts, prev_nids, auth_nids)
            SELECT n, '$' || n, 1, n, n, 'm.x', '@a:x', 0, '{}', '{}'
              FROM generate_series(1, 5) AS n
            """
        )
    return database


def moved(
    at: int, event: int, *, user: str = "@a:x", known: bool = True, **more: object
) -> Positioned[Move]:
    receipt = Receipt(1, user, "m.read", f"${event}", 0, **more)
    return Positioned(at, Move(receipt, event if known else None, is_local=True))


async def stand(database: Database, *batches: list[Positioned[Move]]) -> dict:
    for batch in batches:
        async with database.transaction() as tx:
            await move(tx, batch)
    async with database.read() as tx:
        found = await receipts_between(tx, [1], "@a:x", 0, 2**62)
    return {(r.user_id, r.thread_id): r.event_id for r in found}


async def test_a_receipt_goes_forwards_and_never_back(room):
    assert await stand(room, [moved(10, 2)]) == {("@a:x", None): "$2"}
    assert await stand(room, [moved(11, 1)]) == {("@a:x", None): "$2"}
    assert await stand(room, [moved(12, 4)]) == {("@a:x", None): "$4"}
    assert await stand(room, [moved(13, 4)]) == {("@a:x", None): "$4"}


async def test_of_one_batch_the_furthest_stays(room):
    assert await stand(room, [moved(10, 3), moved(11, 5), moved(12, 1)]) == {
        ("@a:x", None): "$5"
    }


async def test_an_event_that_is_not_known_counts_as_the_newest(room):
    unknown = moved(11, 9, known=False)
    assert await stand(room, [moved(10, 5)], [unknown]) == {("@a:x", None): "$9"}
    # And nothing can be said against what comes after it.
    assert await stand(room, [moved(12, 3)]) == {("@a:x", None): "$3"}
    assert await stand(room, [moved(13, 2), moved(14, 8, known=False)]) == {
        ("@a:x", None): "$8"
    }


async def test_users_and_threads_do_not_touch_each_other(room):
    batch = [
        moved(10, 3),
        moved(11, 1, thread_id="main"),
        moved(12, 2, user="@b:x"),
        moved(13, 4, thread_id="$t"),
    ]
    assert await stand(room, batch) == {
        ("@a:x", None): "$3",
        ("@a:x", "main"): "$1",
        ("@b:x", None): "$2",
        ("@a:x", "$t"): "$4",
    }


async def test_only_what_moved_between_is_found(room):
    await stand(room, [moved(10, 1), moved(20, 1, user="@b:x")])

    async def between(since: int, upto: int) -> list[str]:
        async with room.read() as tx:
            found = await receipts_between(tx, [1], "@a:x", since, upto)
        return [each.user_id for each in found]

    assert await between(0, 20) == ["@a:x", "@b:x"]
    assert await between(10, 20) == ["@b:x"]
    assert await between(9, 19) == ["@a:x"]
    assert await between(20, 99) == []
