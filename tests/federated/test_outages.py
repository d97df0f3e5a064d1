"""Servers that go away and come back: nothing is lost, and nobody waits for long."""

import asyncio

import pytest

from homeserver.db.errors import DatabaseUnavailable
from tests.support.client import Client
from tests.support.sites import Site, World, agree, eventually


async def room_of_two(alice: Client, bob: Client) -> str:
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await alice.sends(room, "hello")
    await bob.sees(room, "hello")
    return room


async def failing(site: Site, other: Site) -> bool:
    rows = await site.query(
        "SELECT failing_since FROM destinations WHERE server_name = $1", other.name
    )
    return bool(rows) and rows[0]["failing_since"] is not None


async def test_a_server_that_was_down_gets_what_it_missed_in_order(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await room_of_two(alice, bob)
    await b.stop()
    for i in range(200):
        await alice.sends(room, f"missed {i}")
    await eventually(lambda: failing(a, b), "a notices that b is gone")
    await b.start()
    bob = await b.back_again(bob)
    # A sign of life ends the pause: b says something.
    await bob.sends(room, "back")
    await bob.sees(room, "missed 199", seconds=30)
    bodies = [e for e in bob.seen.room(room).bodies() if e.startswith("missed")]
    assert bodies == [f"missed {i}" for i in range(200)]
    await agree(room, a, b)
    assert not await failing(a, b)


async def test_what_is_queued_survives_a_restart(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await room_of_two(alice, bob)
    a.unreachable.add(b.name)
    for i in range(5):
        await alice.sends(room, f"kept {i}")
    await eventually(lambda: failing(a, b), "a notices that b is gone")
    await a.stop()
    a.unreachable.clear()
    await a.start()
    await bob.sees(room, "kept 4", seconds=30)
    assert bob.seen.room(room).bodies()[-5:] == [f"kept {i}" for i in range(5)]


async def test_a_destination_that_is_gone_is_let_go_and_found_again(
    a: Site,
    b: Site,
    alice: Client,
    bob: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeserver.destinations.delivery.SHORT_PAUSE_SECONDS", 0.0)
    room = await room_of_two(alice, bob)
    a.unreachable.add(b.name)
    await alice.sends(room, "into the void")

    async def is_free() -> bool:
        rows = await a.query(
            "SELECT holder, retry_at FROM destinations WHERE server_name = $1", b.name
        )
        return rows[0]["holder"] is None and rows[0]["retry_at"] is not None

    await eventually(is_free, "nobody holds the destination")
    a.unreachable.clear()
    # Nobody sends anything more: the sweep finds it when its time has come.
    await bob.sees(room, "into the void", seconds=30)


async def test_one_process_takes_over_when_the_other_dies(
    a: Site,
    b: Site,
    alice: Client,
    bob: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeserver.destinations.sender.LEASE_SECONDS", 1.5)
    room = await room_of_two(alice, bob)
    dead = next(p for p in a.processes if p.base_url == alice.base_url)
    other = next(p for p in a.processes if p is not dead)

    def no_connection(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the process is dead")

    # Nothing of it can write or renew any more, and nothing leaves it.
    dead.ctx.db.transaction = no_connection
    dead.ctx.db.read = no_connection

    async def cut(_: object) -> None:
        await asyncio.sleep(3600)

    dead.ctx.wire._deliver = cut
    alice = Client(
        lambda: other.session, other.base_url, alice.access_token, user_id=alice.user_id
    )
    for i in range(3):
        await alice.sends(room, f"by the other {i}")
    await bob.sees(room, "by the other 2", seconds=40)
    del dead.ctx.db.transaction, dead.ctx.db.read


async def test_two_processes_do_not_send_twice(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await room_of_two(alice, bob)
    dora = await a.person("dora")
    await dora.joins(room)
    await asyncio.gather(
        *(alice.sends(room, f"a{i}") for i in range(20)),
        *(dora.sends(room, f"d{i}") for i in range(20)),
    )

    async def has_all() -> bool:
        await bob.syncs(wait=0.2)
        return len(set(bob.seen.room(room).bodies())) == 41

    await eventually(has_all, "all forty messages")
    bodies = bob.seen.room(room).bodies()
    assert len(bodies) == len(set(bodies))
    holders = await a.query("SELECT DISTINCT holder FROM destinations")
    assert len(holders) == 1
    for who, prefix in ((alice, "a"), (dora, "d")):
        mine = [body for body in bodies if body.startswith(prefix)]
        assert len(mine) == 20, who.user_id


async def test_a_dead_server_delays_nobody_else(
    world: World, a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    room = await room_of_two(alice, bob)
    await carol.joins(room, via=alice)
    await alice.sees_member(room, carol, "join")
    await b.stop()
    loop = asyncio.get_running_loop()
    for i in range(5):
        started = loop.time()
        await alice.sends(room, f"to carol {i}")
        await carol.sees(room, f"to carol {i}")
        assert loop.time() - started < 2


async def test_typing_and_receipts_cross_and_stay_private_where_they_should(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await room_of_two(alice, bob)
    await bob.sets_typing(room)
    await alice.sees_typing(room, bob)
    await bob.sets_typing(room, typing=False)
    await alice.sees_typing(room)
    message = await alice.sends(room, "read this")
    await bob.sees_id(room, message)
    await bob.post(f"/_matrix/client/v3/rooms/{room}/receipt/m.read.private/{message}")
    await bob.marks_read(room, message)
    await alice.sees_receipt(room, message, bob)
    rows = await a.query("SELECT receipt_type FROM receipts WHERE NOT local")
    assert {row["receipt_type"] for row in rows} == {"m.read"}


async def test_receipts_given_during_an_outage_arrive_after_it(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await room_of_two(alice, bob)
    message = await alice.sends(room, "read this")
    await bob.sees_id(room, message)
    b.unreachable.add(a.name)
    await bob.marks_read(room, message)
    await eventually(lambda: failing(b, a), "b notices that a is gone")
    b.unreachable.clear()
    await alice.sees_receipt(room, message, bob, seconds=30)
