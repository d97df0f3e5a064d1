"""A server is away for a while, or the two cannot reach each other."""

import asyncio

import pytest

from federation.room_versions import ROOM_VERSIONS
from tests.interop.agreement import agree, both_hear
from tests.interop.stage import VERSIONS, Stage
from tests.interop.test_history import said, whole_history
from tests.support.client import Client
from tests.support.homeserver import Homeserver

MISSED = 200
pytestmark = pytest.mark.timeout(400)
Rooms = list[tuple[Client, Client, str]]


async def rooms_of_all_versions(servers: tuple[Homeserver, Homeserver]) -> Rooms:
    """Alice, Bob and their room, in every version: one outage serves for all."""
    rooms: Rooms = []
    for version in VERSIONS:
        stage = Stage(*servers, ROOM_VERSIONS[version])
        alice, bob = await stage.people()
        room = await stage.open_room(
            alice, power_level_content_override={"events": {"m.room.topic": 0}}
        )
        await bob.joins(room, via=alice)
        await both_hear(room, alice, bob)
        rooms.append((alice, bob, room))
    return rooms


async def test_the_guest_catches_up_after_an_outage(
    servers: tuple[Homeserver, Homeserver],
) -> None:
    host, guest = servers
    rooms = await rooms_of_all_versions(servers)
    bodies = [f"missed {n}" for n in range(MISSED)]
    await guest.stop()
    for body in bodies:
        await asyncio.gather(*(alice.sends(room, body) for alice, _, room in rooms))
    await guest.start()
    for alice, bob, room in rooms:
        if host.kind == "synapse":
            # It tries again when there is something to send.
            await alice.sends(room, "are you there?")
        await bob.waits_for(
            room,
            lambda now: now.bodies()[-1:] in (bodies[-1:], ["are you there?"]),
            "what came last",
            180,  # Synapse takes in some 30 events a second
        )
        heard = said(await whole_history(bob, room))
        assert [body for body in heard if body.startswith("missed")] == bodies
        await both_hear(room, alice, bob)
        await agree(room, alice, bob)


async def test_both_go_on_alone_and_meet_again(
    servers: tuple[Homeserver, Homeserver],
) -> None:
    host, guest = servers
    rooms = await rooms_of_all_versions(servers)
    await guest.stop()
    for alice, _, room in rooms:
        await alice.sets_state(room, "m.room.topic", {"topic": "Alice alone"})
        for n in range(3):
            await alice.sends(room, f"Alice alone {n}")
    await host.stop()
    await guest.start()
    for _, bob, room in rooms:
        await bob.sets_state(room, "m.room.topic", {"topic": "Bob alone"})
        for n in range(3):
            await bob.sends(room, f"Bob alone {n}")
    await host.start()
    for alice, bob, room in rooms:
        await meet_again(room, alice, bob)
        for who in (alice, bob):
            heard = said(await whole_history(who, room))
            for n in range(3):
                assert f"Alice alone {n}" in heard
                assert f"Bob alone {n}" in heard
        await agree(room, alice, bob)


async def meet_again(room: str, alice: Client, bob: Client) -> None:
    """Talk until each has heard the other."""
    for n in range(30):
        hers = await alice.sends(room, f"Alice calls {n}")
        his = await bob.sends(room, f"Bob calls {n}")
        await asyncio.sleep(1)
        await alice.syncs()
        await bob.syncs()
        if bob.seen.room(room).event(hers) and alice.seen.room(room).event(his):
            return
    raise AssertionError(f"the two sides of {room} did not meet again")
