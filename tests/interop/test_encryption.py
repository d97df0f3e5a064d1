"""Real end-to-end encryption: matrix-js-sdk with its Rust crypto on both sides.

Alice is on our server; Bob is on another of ours, or on a real Synapse.
"""

import asyncio
import itertools

from tests.interop.conftest import LogIn
from tests.support.homeserver import Homeserver
from tests.support.javascript import Person, all_read, verify

_numbers = itertools.count(1)


async def new_user(server: Homeserver, name: str) -> str:
    client = await server.registers(f"{name}-with-keys{next(_numbers)}")
    return client.user_id.partition(":")[0].removeprefix("@")


async def meet(alice: Person, bob: Person) -> str:
    """A room of Alice's in which both see each other."""
    room = await alice.makes_room(bob.user_id)
    await bob.does("join", room=room)
    for one, two in ((alice, bob), (bob, alice)):
        await one.does("sees_member", room=room, user=two.user_id, membership="join")
    return room


async def test_two_people_meet_verify_each_other_and_read_each_other(
    ours: Homeserver, other: Homeserver, log_in: LogIn
) -> None:
    alice = await log_in(ours, await new_user(ours, "alice"), "laptop")
    bob = await log_in(other, await new_user(other, "bob"), "phone")
    room = await meet(alice, bob)
    await alice.sends(room, "Is anybody there?")
    await bob.reads(room, "Is anybody there?")
    await bob.sends(room, "I am.")
    await alice.reads(room, "I am.")
    await asyncio.gather(alice.does("set_up_recovery"), bob.does("set_up_recovery"))
    await verify(alice, bob, room=room)
    for one, two in ((alice, bob), (bob, alice)):
        await one.does("trusts", user=two.user_id)
        await one.does("trusts", user=two.user_id, device=two.device_id)


async def test_a_late_device_is_verified_and_restores_what_was_said_before(
    ours: Homeserver, other: Homeserver, log_in: LogIn
) -> None:
    name = await new_user(ours, "alice")
    alice = await log_in(ours, name, "laptop")
    bob = await log_in(other, await new_user(other, "bob"), "phone")
    room = await meet(alice, bob)
    before = await bob.sends(room, "Before your time.")
    await alice.reads(room, "Before your time.")
    key = await alice.does("set_up_recovery")
    await alice.does("backed_up", count=1)

    late = await log_in(ours, name, "tablet")
    await late.cannot_read(room, before)
    await bob.does(
        "knows_devices",
        user=alice.user_id,
        devices=[alice.device_id, late.device_id],
    )
    await bob.sends(room, "To both of you.")
    await all_read(room, (alice, late), "To both of you.")

    assert (await late.does("recover", key=key))["imported"] >= 1
    await late.reads(room, "Before your time.")
    await verify(alice, late)
    await alice.does("trusts", user=late.user_id, device=late.device_id)
    assert await late.unreadable(room) == []


async def test_what_is_said_after_a_device_is_gone_is_not_for_it(
    ours: Homeserver, other: Homeserver, log_in: LogIn
) -> None:
    name = await new_user(ours, "alice")
    alice = await log_in(ours, name, "laptop")
    lost = await log_in(ours, name, "lost phone")
    left = await log_in(ours, name, "left browser")
    bob = await log_in(other, await new_user(other, "bob"), "phone")
    room = await meet(alice, bob)
    await bob.sends(room, "To three devices.")
    await all_read(room, (alice, lost, left), "To three devices.")
    await alice.does("delete_device", device=lost.device_id)
    await left.does("log_out")
    await bob.does("knows_devices", user=alice.user_id, devices=[alice.device_id])
    await bob.sends(room, "To one.")
    await alice.reads(room, "To one.")
    bodies = [each["body"] for each in await lost.does("messages", room=room)]
    assert "To one." not in bodies


async def test_a_device_picks_up_what_came_while_nobody_was_logged_in(
    ours: Homeserver, other: Homeserver, log_in: LogIn
) -> None:
    name = await new_user(ours, "alice")
    alice = await log_in(ours, name, "laptop")
    bob = await log_in(other, await new_user(other, "bob"), "phone")
    room = await meet(alice, bob)
    await bob.does("set_up_recovery")
    key = await alice.does("set_up_recovery")
    await alice.does("dehydrate")
    await alice.does("log_out")
    await bob.does("knows_dehydrated_device", user=alice.user_id)
    await bob.sends(room, "Read me tomorrow.")

    back = await log_in(ours, name, "laptop again")
    await back.does("recover", key=key)
    await back.does("rehydrate")
    await back.reads(room, "Read me tomorrow.")


async def test_who_is_invited_with_the_history_can_read_it(
    ours: Homeserver, other: Homeserver, log_in: LogIn
) -> None:
    alice = await log_in(ours, await new_user(ours, "alice"), "laptop")
    await alice.does("set_up_recovery")
    bob = await log_in(other, await new_user(other, "bob"), "phone")
    await bob.does("set_up_recovery")
    room = await alice.makes_room()
    await alice.sends(room, "What happened so far.")
    await alice.does("invite", room=room, user=bob.user_id, with_history=True)
    await bob.does("join", room=room, with_history=True)
    await bob.does("page_back", room=room)
    await bob.reads(room, "What happened so far.")
