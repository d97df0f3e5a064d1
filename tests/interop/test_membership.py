"""Invites, kicks and bans across servers, in both directions."""

import pytest

from tests.interop.agreement import agree, both_hear
from tests.interop.stage import Stage
from tests.support.client import RefusedError


async def test_an_invite_is_accepted(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice, preset="private_chat", name="Secret")
    await alice.invites(room, bob)
    shown = await bob.is_shown(room, "invite")
    assert shown.stripped["m.room.name", ""]["content"] == {"name": "Secret"}
    invite = shown.stripped["m.room.member", bob.user_id]
    assert (invite["sender"], invite["content"]["membership"]) == (
        alice.user_id,
        "invite",
    )
    await bob.joins(room)
    await alice.sees_member(room, bob, "join")
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)


async def test_an_invite_is_refused(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice, preset="private_chat")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await bob.is_shown(room, "leave")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403


async def test_an_invite_is_taken_back(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice, preset="private_chat")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await alice.kicks(room, bob, "wrong Bob")
    await alice.sees_member(room, bob, "leave")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403


async def test_a_guest_invites_a_host(stage: Stage) -> None:
    alice, bob = await stage.people()
    carol = await stage.another_host()
    room = await stage.open_room(alice, preset="private_chat", invite=[bob.user_id])
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await bob.invites(room, carol)
    await carol.is_shown(room, "invite")
    await carol.joins(room)
    await both_hear(room, alice, bob, carol)
    await agree(room, alice, bob)


async def test_a_direct_chat(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(
        alice,
        preset="trusted_private_chat",
        is_direct=True,
        invite=[bob.user_id],
    )
    shown = await bob.is_shown(room, "invite")
    content = shown.stripped["m.room.member", bob.user_id]["content"]
    assert content["is_direct"] is True
    await bob.joins(room)
    await bob.sets_state(room, "m.room.name", {"name": "ours"})
    await alice.sees_state(room, "m.room.name", {"name": "ours"})
    await agree(room, alice, bob)


async def test_kick_ban_and_unban(stage: Stage) -> None:
    alice, bob = await stage.people()
    carol = await stage.another_guest()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    await carol.joins(room, via=alice)
    await bob.is_shown(room, "join")
    await alice.kicks(room, bob, "too loud")
    await bob.is_shown(room, "leave")
    await carol.sees_member(room, bob, "leave")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await alice.bans(room, bob, "far too loud")
    await carol.sees_member(room, bob, "ban")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403
    with pytest.raises(RefusedError) as refused:
        await bob.sends(room, "LOUD")
    assert refused.value.status == 403
    await alice.unbans(room, bob)
    await carol.sees_member(room, bob, "leave")
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob, carol)
    await agree(room, alice, carol)


async def test_a_guest_with_power_kicks_and_bans_a_host(stage: Stage) -> None:
    alice, bob = await stage.people()
    carol = await stage.another_host()
    room = await stage.open_room(alice)
    await carol.joins(room)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    levels = await alice.state_of(room, "m.room.power_levels")
    await alice.sets_power(room, bob, 50)
    levels.setdefault("users", {})[bob.user_id] = 50
    await bob.sees_state(room, "m.room.power_levels", {"users": levels["users"]})
    await bob.kicks(room, carol)
    await alice.sees_member(room, carol, "leave")
    await bob.bans(room, carol)
    await alice.sees_member(room, carol, "ban")
    with pytest.raises(RefusedError) as refused:
        await carol.joins(room)
    assert refused.value.status == 403
    await agree(room, alice, bob)
