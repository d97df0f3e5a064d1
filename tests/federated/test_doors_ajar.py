"""Rooms that admit some and let others knock; and doors while a server is away."""

import pytest

from tests.federated.test_doors import FORBIDDEN, refusal
from tests.support.client import Client
from tests.support.sites import Site, World, agree


async def _knock_restricted(owner: Client, gate: str, version: str) -> str:
    content = {
        "join_rule": "knock_restricted",
        "allow": [{"type": "m.room_membership", "room_id": gate}],
    }
    return await owner.creates_room(
        room_version=version,
        initial_state=[
            {"type": "m.room.join_rules", "state_key": "", "content": content}
        ],
    )


@pytest.mark.parametrize("version", ["10", "12"])
@pytest.mark.parametrize("is_ours", [True, False])
async def test_members_of_another_room_come_in_and_others_knock(
    a: Site, b: Site, alice: Client, bob: Client, version: str, *, is_ours: bool
) -> None:
    owner, guest = (alice, bob) if is_ours else (bob, alice)
    far = b if is_ours else a
    gate = await owner.creates_room(preset="public_chat", room_version=version)
    room = await _knock_restricted(owner, gate, version)
    assert await refusal(guest.joins(room, via=owner)) == FORBIDDEN
    await guest.knocks(room, via=owner)
    await owner.sees_member(room, guest, "knock")
    # Another one from there is a member of the gate and need not knock.
    member = await far.person("member")
    await member.joins(gate, via=owner)
    await owner.sees_member(gate, member, "join")
    await member.joins(room, via=owner)
    joined = await owner.state_of(room, "m.room.member", member.user_id)
    assert joined["join_authorised_via_users_server"] == owner.user_id
    await owner.invites(room, guest)
    await guest.is_shown(room, "invite")
    await guest.joins(room)
    await owner.sees_member(room, guest, "join")
    # Who has left the gate since is not admitted any more, not even by the own server.
    await member.leaves(room)
    await owner.sees_member(room, member, "leave")
    await member.leaves(gate)
    await owner.sees_member(gate, member, "leave")
    assert await refusal(member.joins(room, via=owner)) == FORBIDDEN
    await agree(room, a, b)


async def test_an_invite_taken_back_while_its_server_is_away_is_gone_after_it(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room()
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    world.part(a, b)
    await alice.kicks(room, bob)
    world.heal()
    await bob.profile_of(alice)  # b shows that it is back
    await bob.is_shown(room, "leave", seconds=60)
    assert await refusal(bob.joins(room, via=alice)) == FORBIDDEN


async def test_a_knock_can_be_taken_back_while_its_server_is_away(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room = await alice.creates_room(initial_state=[rules])
    await bob.knocks(room, via=alice)
    await bob.is_shown(room, "knock")
    world.part(a, b)
    await bob.leaves(room)
    await bob.is_shown(room, "leave")
    await bob.leaves(room)  # once more does no harm
    world.heal()
    # The room has not heard of it, and takes the knock that comes after.
    await bob.knocks(room, via=alice)
    await bob.is_shown(room, "knock")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await agree(room, a, b)


async def test_who_comes_back_at_once_has_said_goodbye_before(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    """The server that could not be told is thought to be away, but the user insists."""
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    world.part(a, b)
    await bob.leaves(room)
    # Nobody is to send it on its own, so that it is not told just in time.
    told = [list(process.ctx.on_sign_of_life) for process in b.processes]
    for process in b.processes:
        process.ctx.wire.backoff.failed(a.name, process.ctx.clock.ms() / 1000)
        process.ctx.on_sign_of_life.clear()
    world.heal()
    await bob.joins(room, via=alice)
    for process, listeners in zip(b.processes, told, strict=True):
        process.ctx.on_sign_of_life.extend(listeners)
    await bob.sends(room, "back again")
    await alice.sees(room, "back again")
    joined = await alice.state_of(room, "m.room.member", bob.user_id)
    assert joined["membership"] == "join"
    await agree(room, a, b)
