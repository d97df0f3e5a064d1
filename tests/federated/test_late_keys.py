"""Events whose keys were not to be had when they were pushed are not lost."""

from typing import Any

from federation.signatures import SigningKey
from homeserver.rooms.unverified import MOST_OF_ROOM
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site, World, eventually

KEYS = "/_matrix/key/v2/server"


async def rotated(alice: Client, a: Site, peer: Peer, other: Peer) -> PeerRoom:
    """The room as the other peer knows it, which has a new key and no key server."""
    room = await shared(alice, a, peer)
    theirs = await other.joins(a, room.room_id, "trudy")
    other.key = SigningKey.generate("late")
    other.wire._key = other.key  # what it signs requests with
    other.answers[KEYS] = lambda _: (503, {"errcode": "M_UNKNOWN", "error": "down"})
    return theirs


async def waiting(a: Site) -> list[Any]:
    return await a.query("SELECT event_id, server FROM unverified_events")


async def test_an_event_is_taken_up_when_its_server_shows_its_key(
    a: Site, alice: Client, peer: Peer, world: World
) -> None:
    other = await world.peer()
    theirs = await rotated(alice, a, peer, other)
    late = [theirs.says("late"), theirs.says("later")]
    results = await peer.pushes(a, [event.json for event in late])
    assert all(results.values())
    assert {tuple(row) for row in await waiting(a)} == {
        (event.event_id, other.name) for event in late
    }
    # The room goes on meanwhile, and the event pushed again is kept once.
    await alice.sends(theirs.room_id, "meanwhile")
    await peer.pushes(a, [late[0].json])
    assert len(await waiting(a)) == 2
    del other.answers[KEYS]

    async def taken() -> bool:
        await other.pushes(a)  # a sign of life
        return not await waiting(a)

    await eventually(taken, "the events are taken up")
    await alice.sees(theirs.room_id, "late")
    await alice.sees(theirs.room_id, "later")
    assert alice.seen.room(theirs.room_id).bodies()[-2:] == ["late", "later"]


async def test_what_waits_outlives_a_restart_and_lies_are_dropped_in_the_end(
    a: Site, alice: Client, peer: Peer, world: World
) -> None:
    other = await world.peer()
    theirs = await rotated(alice, a, peer, other)
    honest = theirs.says("honest")
    forged = theirs.says("forged", keep=False)
    raw = dict(forged.json)
    raw["signatures"] = honest.json["signatures"]
    await peer.pushes(a, [honest.json, raw])
    assert len(await waiting(a)) == 2
    await a.stop()
    await a.start()
    del other.answers[KEYS]
    await a.query("UPDATE unverified_events SET due_at = now() RETURNING 1")

    async def settled() -> bool:
        return not await waiting(a)

    await eventually(settled, "both are judged")
    assert (await known(a, honest.event_id))["position"] is not None
    assert await known(a, forged.event_id) is None


async def test_only_so_many_are_kept_and_only_of_who_is_in_the_room(
    a: Site, alice: Client, peer: Peer, world: World
) -> None:
    other = await world.peer()
    theirs = await rotated(alice, a, peer, other)
    stranger = theirs.says(
        "from nowhere",
        sender="@x:nowhere.invalid",
        sign=False,
        keep=False,
        signatures={"nowhere.invalid": {"ed25519:x": "AAAA"}},
        hashes={"sha256": "x"},
    )
    await peer.pushes(a, [stranger.json])
    assert await waiting(a) == []
    many = [theirs.says(f"number {i}", keep=False) for i in range(MOST_OF_ROOM + 20)]
    for start in range(0, len(many), 40):
        await peer.pushes(a, [event.json for event in many[start : start + 40]])
    assert len(await waiting(a)) == MOST_OF_ROOM
    await alice.sends(theirs.room_id, "all is well")
