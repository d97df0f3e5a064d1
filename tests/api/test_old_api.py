"""What clients used before /sync: /initialSync and /events."""

import asyncio

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

READABLE = {
    "type": "m.room.history_visibility",
    "content": {"history_visibility": "world_readable"},
}


def bodies(events: list[dict]) -> list[str]:
    return [e["content"]["body"] for e in events if "body" in e["content"]]


async def status_of(call) -> int:
    with pytest.raises(RefusedError) as refused:
        await call
    return refused.value.status


async def snapshot(client: Client, room: str, **query) -> dict:
    return await client.get(path("rooms", room, "initialSync"), **query)


async def test_a_room_at_a_glance(alice, bob):
    room = await alice.creates_room(preset="public_chat", visibility="public", name="N")
    for body in "abc":
        await alice.sends(room, body)
    tags = path("user", alice.user_id, "rooms", room, "tags", "m.favourite")
    await alice.put(tags, {"order": 0.5})
    seen = await snapshot(alice, room, limit=2)
    assert bodies(seen["messages"]["chunk"]) == ["b", "c"]
    assert (seen["membership"], seen["visibility"]) == ("join", "public")
    assert {"m.room.create", "m.room.name"} <= {e["type"] for e in seen["state"]}
    assert [e["type"] for e in seen["account_data"]] == ["m.tag"]
    back = await alice.get(
        path("rooms", room, "messages"), dir="b", **{"from": seen["messages"]["start"]}
    )
    assert bodies(back["chunk"]) == ["a"]
    assert await status_of(snapshot(bob, room)) == 403


async def test_who_left_sees_the_room_as_it_was(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    await alice.sends(room, "before")
    await bob.leaves(room)
    await alice.sends(room, "after")
    seen = await snapshot(bob, room)
    assert bodies(seen["messages"]["chunk"]) == ["before"]
    assert seen["membership"] == "leave"


async def test_all_rooms_at_a_glance(alice, bob):
    joined = await alice.creates_room(preset="public_chat")
    await alice.sends(joined, "hello")
    invite = await bob.creates_room()
    await bob.invites(invite, alice)
    left = await alice.creates_room()
    await alice.leaves(left)
    await alice.put(path("user", alice.user_id, "account_data", "m.x"), {"y": 1})
    reply = await alice.get(path("initialSync"))
    rooms = {room["room_id"]: room for room in reply["rooms"]}
    assert rooms.keys() == {joined, invite}
    assert bodies(rooms[joined]["messages"]["chunk"]) == ["hello"]
    assert rooms[invite]["invite"]["state_key"] == alice.user_id
    assert {"type": "m.x", "content": {"y": 1}} in reply["account_data"]
    reply = await alice.get(path("initialSync"), archived="true", limit=0)
    rooms = {room["room_id"]: room for room in reply["rooms"]}
    assert rooms[left]["membership"] == "leave"
    assert rooms[joined]["messages"]["chunk"] == []


async def test_events_come_as_they_happen(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    end = (await bob.get(path("initialSync")))["end"]
    await bob.joins(room)
    reply = await bob.get(path("events"), **{"from": end, "timeout": 0})
    assert bodies(reply["chunk"]) == []
    assert reply["chunk"][-1]["state_key"] == bob.user_id
    end = reply["end"]
    waiting = asyncio.create_task(
        bob.get(path("events"), **{"from": end, "timeout": 20_000})
    )
    await alice.sends(room, "news")
    reply = await waiting
    assert reply["start"] == end
    assert bodies(reply["chunk"]) == ["news"]
    assert reply["chunk"][0]["room_id"] == room
    nothing = await bob.get(path("events"), **{"from": reply["end"], "timeout": 0})
    assert nothing["chunk"] == []
    invite = await alice.creates_room()
    await alice.invites(invite, bob)
    await alice.kicks(room, bob)
    reply = await bob.get(path("events"), **{"from": nothing["end"], "timeout": 0})
    assert [e["content"]["membership"] for e in reply["chunk"]] == ["invite", "leave"]


async def test_many_events_come_in_parts(alice):
    room = await alice.creates_room()
    end = (await alice.get(path("initialSync")))["end"]
    for i in range(105):
        await alice.sends(room, str(i))
    found: list[str] = []
    for _ in range(2):
        reply = await alice.get(path("events"), **{"from": end, "timeout": 0})
        found += bodies(reply["chunk"])
        end = reply["end"]
    assert found == [str(i) for i in range(105)]


async def test_looking_into_a_room_that_the_world_may_read(alice, bob):
    room = await alice.creates_room(initial_state=[READABLE])
    seen = await snapshot(bob, room)
    assert "membership" not in seen
    end = seen["messages"]["end"]
    where = path("events")
    query = {"from": end, "timeout": 20_000, "room_id": room}
    waiting = asyncio.create_task(bob.get(where, **query))
    said = await alice.sends(room, "to all")
    reply = await waiting
    assert [e["event_id"] for e in reply["chunk"]] == [said]
    private = await alice.creates_room()
    assert await status_of(bob.get(where, room_id=private, timeout=0)) == 403


async def test_one_event_by_its_id(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    said = await alice.sends(room, "hello")
    found = await alice.get(path("events", said))
    assert (found["event_id"], found["room_id"]) == (said, room)
    assert await status_of(bob.get(path("events", said))) == 404
    assert await status_of(alice.get(path("events", "$" + "a" * 43))) == 404


async def test_bad_tokens(alice):
    for token in ("x", "s999999999999"):
        reply = await alice.answer("GET", path("events") + f"?from={token}&timeout=0")
        assert reply[0] == 400
        if token == "x":
            assert reply[1]["errcode"] == "M_INVALID_PARAM"
