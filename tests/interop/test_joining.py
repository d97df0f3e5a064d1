"""How people come into a room of another server, and that they hear one another."""

import pytest

from tests.interop.agreement import agree, both_hear
from tests.interop.stage import Stage
from tests.support.client import RefusedError


async def test_join_by_id_and_talk_both_ways(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice, name="Hall", topic="interoperation")
    await alice.sends(room, "before anybody came")
    assert await bob.joins(room, via=alice) == room
    await alice.sees_member(room, bob, "join")
    await alice.sends(room, "hello Bob")
    await bob.sees(room, "hello Bob", by=alice)
    await bob.sends(room, "hello Alice")
    await alice.sees(room, "hello Alice", by=bob)
    assert await bob.state_of(room, "m.room.name") == {"name": "Hall"}
    create = await bob.state_of(room, "m.room.create")
    assert create["room_version"] == stage.version.identifier
    await agree(room, alice, bob)


async def test_join_by_alias(stage: Stage) -> None:
    alice, bob = await stage.people()
    name = f"hall_{alice.user_id[1:].partition(':')[0]}"
    room = await stage.open_room(alice, room_alias_name=name)
    alias = f"#{name}:{alice.server_name}"
    found = await bob.resolves(alias)
    assert found["room_id"] == room
    assert alice.server_name in found["servers"]
    assert await bob.joins(alias) == room
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)


async def test_a_second_guest_joins_through_our_own_server(stage: Stage) -> None:
    alice, bob = await stage.people()
    carol = await stage.another_guest()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    await carol.joins(room)
    await alice.sees_member(room, carol, "join")
    await both_hear(room, alice, bob, carol)
    await agree(room, alice, carol)


async def test_leave_and_come_back(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await bob.is_shown(room, "join")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await bob.is_shown(room, "leave")
    # Nobody of the guest is left in the room: it is told nothing of this.
    await alice.sends(room, "while you were out")
    await alice.sets_state(room, "m.room.topic", {"topic": "changed meanwhile"})
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    topic = await bob.state_of(room, "m.room.topic")
    assert topic["topic"] == "changed meanwhile"
    await agree(room, alice, bob)


async def test_a_closed_room_stays_closed(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice, preset="private_chat")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


async def test_knock_and_be_let_in(stage: Stage) -> None:
    if not stage.version.knock:
        pytest.skip("this room version knows no knocking")
    alice, bob = await stage.people()
    rule = {"join_rule": "knock"}
    state = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room = await stage.open_room(alice, initial_state=state)
    await bob.knocks(room, via=alice)
    await alice.sees_member(room, bob, "knock")
    await bob.is_shown(room, "knock")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)


async def test_a_restricted_room_lets_in_members_of_another(stage: Stage) -> None:
    if not stage.version.restricted_joins:
        pytest.skip("this room version knows no restricted rooms")
    alice, bob = await stage.people()
    club = await stage.open_room(alice)
    allow = [{"type": "m.room_membership", "room_id": club}]
    rule = {"join_rule": "restricted", "allow": allow}
    state = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room = await stage.open_room(alice, initial_state=state)
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403
    await bob.joins(club, via=alice)
    await bob.joins(room, via=alice)
    member = await alice.state_of(room, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)
