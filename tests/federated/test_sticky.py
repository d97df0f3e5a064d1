"""Sticky events between servers: who comes late gets them, and nobody is forgotten."""

import itertools

from homeserver.rooms import sticky
from tests.support.api import path
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.sites import Site, eventually

PARAMETER = "org.matrix.msc4354.sticky_duration_ms"
_txn_ids = itertools.count()


async def sticks(client: Client, room: str, key: str) -> str:
    where = path("rooms", room, "send", "m.rtc.member", f"sticky{next(_txn_ids)}")
    reply = await client.call(
        "PUT", where, {"msc4354_sticky_key": key}, query={PARAMETER: "600000"}
    )
    return str(reply["event_id"])


async def told(client: Client, room: str) -> set[str]:
    """What sticks, as an initial sync with the shortest timeline tells it."""
    query = {"filter": '{"room":{"timeline":{"limit":1}}}'}
    reply = await client.call("GET", path("sync"), query=query)
    section = reply["rooms"]["join"][room]
    found = section.get("msc4354_sticky", {"events": []})["events"]
    return {event["event_id"] for event in [*found, *section["timeline"]["events"]]}


async def test_a_server_that_joins_is_sent_what_sticks(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    wanted = {await sticks(alice, room, str(number)) for number in range(60)}
    for number in range(30):
        await alice.sends(room, f"between {number}")
    await bob.joins(room, via=alice)

    async def has_all() -> bool:
        return wanted <= await told(bob, room)

    await eventually(has_all, "bob's server got all that sticks")


async def test_a_server_that_was_away_for_long_gets_what_sticks(
    a: Site, b: Site, alice: Client, bob: Client, monkeypatch
) -> None:
    monkeypatch.setattr("homeserver.destinations.delivery.MAX_BACKLOG", 5)
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await b.stop()
    wanted = await sticks(alice, room, "in the middle")
    for number in range(40):
        await alice.sends(room, f"missed {number}")
    await b.start()
    bob = await b.back_again(bob)
    await bob.sends(room, "back")

    async def has_it() -> bool:
        return wanted in await told(bob, room)

    await eventually(has_it, "bob's server got what sticks", seconds=40)


async def test_what_was_soft_failed_comes_once_its_sender_may_speak(
    a: Site, alice: Client, peer: Peer
) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    room = await peer.joins(a, room_id, "mallory")
    levels = await alice.state_of(room_id, "m.room.power_levels")
    shut = levels | {"events": levels.get("events", {}) | {"m.rtc.member": 50}}
    await alice.sets_state(room_id, "m.room.power_levels", shut)
    # Sent before it was forbidden, as far as anybody can tell: it is soft-failed.
    event = room.event(
        "m.rtc.member",
        {"msc4354_sticky_key": "x"},
        msc4354_sticky={"duration_ms": 3_600_000},
        origin_server_ts=a.ctx.clock.ms(),
    )
    assert await room.pushes(event) == {event.event_id: None}
    await alice.syncs()
    since = alice.seen.since
    assert event.event_id not in await told(alice, room_id)
    await alice.sets_state(room_id, "m.room.power_levels", levels)
    await sticky.recheck(a.ctx.db, a.ctx.live, a.ctx.clock.ms())
    reply = await alice.call("GET", path("sync"), query={"since": since})
    section = reply["rooms"]["join"][room_id]["msc4354_sticky"]["events"]
    assert [each["event_id"] for each in section] == [event.event_id]
    assert event.event_id in await told(alice, room_id)
