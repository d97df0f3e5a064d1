"""A second crypto stack: matrix-nio, with itself and with matrix-js-sdk.

Alice is on our server; Bob is on another of ours, or on a real Synapse. The two stacks
do not verify each other: nio begins a verification without asking first, which
matrix-js-sdk does not show to anybody.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.interop.conftest import LogIn
from tests.interop.test_encryption import new_user
from tests.support.homeserver import Homeserver
from tests.support.nio_person import NioPerson

NioLogIn = Callable[[Homeserver, str, str], Awaitable[NioPerson]]


@pytest.fixture
async def nio_log_in(tmp_path: Path) -> AsyncIterator[NioLogIn]:
    async with AsyncExitStack() as stack:

        async def one(server: Homeserver, user: str, device: str) -> NioPerson:
            store = tmp_path / f"{user} {device}"
            person = await NioPerson.logs_in(server, user, device, store)
            stack.push_async_callback(person.quits)
            return person

        yield one


async def test_two_of_them_meet_verify_each_other_and_read_each_other(
    ours: Homeserver, other: Homeserver, nio_log_in: NioLogIn
) -> None:
    alice = await nio_log_in(ours, await new_user(ours, "alice"), "laptop")
    bob = await nio_log_in(other, await new_user(other, "bob"), "phone")
    room = await alice.makes_room(bob.user_id)
    await bob.joins(room)
    await alice.sees_member(room, bob.user_id)
    # It does not wait for the keys of who has just come in.
    for one, two in ((alice, bob), (bob, alice)):
        await one.knows_devices(two.user_id, two.device_id)
    await bob.reads(await alice.sends(room, "Is anybody there?"), "Is anybody there?")
    await alice.reads(await bob.sends(room, "I am."), "I am.")
    await alice.verifies(bob)
    await bob.reads(await alice.sends(room, "Now I am sure."), "Now I am sure.")


async def test_it_and_matrix_js_sdk_read_each_other_at_devices_that_come_and_go(
    ours: Homeserver, other: Homeserver, log_in: LogIn, nio_log_in: NioLogIn
) -> None:
    alice = await log_in(ours, await new_user(ours, "alice"), "browser")
    name = await new_user(other, "bob")
    bob = await nio_log_in(other, name, "bot")
    room = await alice.makes_room(bob.user_id)
    await bob.joins(room)
    await alice.does("sees_member", room=room, user=bob.user_id, membership="join")
    early = await alice.sends(room, "To one device.")
    await bob.reads(early, "To one device.")
    await bob.knows_devices(alice.user_id, alice.device_id)
    await bob.sends(room, "From a bot.")
    await alice.reads(room, "From a bot.")

    # A device that comes late reads what comes after it.
    late = await nio_log_in(other, name, "second bot")
    await late.cannot_read(early)
    await bob.verifies(late)
    await alice.does(
        "knows_devices", user=bob.user_id, devices=[bob.device_id, late.device_id]
    )
    both = await alice.sends(room, "To two devices.")
    for device in (bob, late):
        await device.reads(both, "To two devices.")
    await late.knows_devices(alice.user_id, alice.device_id)
    await late.sends(room, "From another.")
    await alice.reads(room, "From another.")

    # What is said after a device has gone is not for it.
    third = await nio_log_in(other, name, "third bot")
    await bob.deletes_device(third.device_id)
    await late.logs_out()
    await alice.does("knows_devices", user=bob.user_id, devices=[bob.device_id])
    last = await alice.sends(room, "To one again.")
    await bob.reads(last, "To one again.")
    assert last not in late.read
    assert last not in third.read
