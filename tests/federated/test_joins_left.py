"""A room that is left before its members have arrived is not asked for without end.

Spec: MSC3902
"""

import asyncio

import pytest

from tests.federated.test_joins_partial import (
    HeldBack,
    _is_whole,
    _large_room,
)
from tests.support.client import Client
from tests.support.sites import Site, World, agree, eventually


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of two counts as large."""
    monkeypatch.setattr("homeserver.rooms.server_api.handover.FEW_MEMBERS", 0)


@pytest.fixture
async def a(world: World) -> Site:
    return await world.site(1)


async def _gone(b: Site) -> bool:
    return await b.query("SELECT 1 FROM partial_rooms") == []


async def test_who_has_left_is_done_with_it_and_can_come_back(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await _large_room(a, alice)
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    await bob.sends(room, "hello")
    await alice.sees(room, "hello", by=bob)
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    # A few attempts more are made; then it is over.
    asked = held.asked
    await b.query("UPDATE partial_rooms SET tries = 2, due_at = now() RETURNING 1")

    async def asked_again() -> bool:
        return held.asked > asked

    await eventually(asked_again, "b asks for the members")
    assert not await _gone(b)
    await b.query("UPDATE partial_rooms SET tries = 20, due_at = now() RETURNING 1")
    await eventually(lambda: _gone(b), "nobody waits for the members")
    # Nobody waits for members that will not come.
    assert bob.user_id in await asyncio.wait_for(bob.members(room), 10)
    assert "hello" in [e["content"].get("body") for e in await bob.history(room)]
    # Back again, with all members this time.
    held.let.set()
    await bob.joins(room, via=alice)
    await _is_whole(b, room=room)
    await agree(room, a, b)
    await alice.sends(room, "welcome back")
    await bob.sees(room, "welcome back")


async def test_a_row_that_nobody_needs_is_cleared_away(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await _large_room(a, alice)
    await bob.joins(room, via=alice)
    await _is_whole(b, room=room)
    await eventually(lambda: _gone(b), "the members are there")
    await b.query(
        """
        INSERT INTO partial_rooms (room_nid, join_nid, servers)
        SELECT room_nid, 999999, ARRAY['nowhere.invalid'] FROM rooms
        UNION SELECT 999999, 999999, ARRAY['nowhere.invalid'] RETURNING 1
        """
    )
    await eventually(lambda: _gone(b), "both rows are gone")
    await bob.sends(room, "all is well")
