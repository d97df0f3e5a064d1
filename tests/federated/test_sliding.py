"""Sliding sync of rooms that live on another server."""

from tests.support.client import Client
from tests.support.sites import Site
from tests.support.sliding import Sliding, bodies, one

ENCRYPTION = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1"}}


async def until(sliding, room, membership, **asked):
    """Ask until the room is told with that membership; its section."""
    while True:
        reply = await sliding.asks(wait=20, **asked)
        section = reply["rooms"].get(room, {})
        if section.get("membership") == membership:
            return section


async def test_an_invite_from_elsewhere_shows_what_it_is_for(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    lists = {
        name: {"timeline_limit": 5, "required_state": [], "filters": filters}
        for name, filters in (
            ("plain", {"room_types": [None], "is_encrypted": False}),
            ("spaces", {"room_types": ["m.space"], "is_encrypted": True}),
        )
    }
    sliding = Sliding(bob)
    await sliding.asks(lists=lists)
    room = await alice.creates_room(
        name="Guild",
        creation_content={"type": "m.space"},
        initial_state=[ENCRYPTION],
    )
    await alice.invites(room, bob)
    section = await until(sliding, room, "invite", lists=lists)
    told = {e["type"]: e["content"] for e in section["invite_state"]}
    assert told["m.room.name"] == {"name": "Guild"}
    assert section["lists"] == ["spaces"]
    await bob.joins(room, via=alice)
    section = await until(sliding, room, "join", lists=lists)
    assert section["initial"] is True
    assert section["name"] == "Guild"
    assert section["joined_count"] == 2
    await alice.sends(room, "welcome")
    section = one(await sliding.asks(lists=lists, wait=20), room)
    assert bodies(section) == ["welcome"]


async def test_an_invite_from_elsewhere_can_be_refused_or_taken_back(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    sliding = Sliding(bob)
    await sliding.asks()
    refused = await alice.creates_room(name="One")
    await alice.invites(refused, bob)
    await until(sliding, refused, "invite")
    await bob.leaves(refused)
    section = await until(sliding, refused, "leave")
    (own,) = section["required_state"]
    assert own["content"]["membership"] == "leave"
    taken_back = await alice.creates_room(name="Two")
    await alice.invites(taken_back, bob)
    await until(sliding, taken_back, "invite")
    await alice.kicks(taken_back, bob)
    section = await until(sliding, taken_back, "leave")
    assert section["required_state"][-1]["sender"] == alice.user_id
    # To a new connection there never was anything.
    reply = await Sliding(bob, "new").asks()
    assert (reply["rooms"], reply["lists"]["all"]["count"]) == ({}, 0)
