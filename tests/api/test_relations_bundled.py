"""What events come with: edits, threads, references, as far as the reader may see."""

import itertools
from typing import Any

import pytest

from tests.support.api import Json, path
from tests.support.client import Client
from tests.support.sliding import Sliding, one

PUBLIC = {"preset": "public_chat"}


async def relates(
    client: Client, room: str, rel_type: str, parent: str, body: str = "child"
) -> str:
    """Send a message that relates to another; its ID."""
    content: Json = {
        "msgtype": "m.text",
        "body": body,
        "m.relates_to": {"rel_type": rel_type, "event_id": parent},
    }
    return await client.sends_event(room, "m.room.message", content)


async def edits(
    client: Client, room: str, parent: str, body: str, **changes: Any
) -> str:
    """Send an edit, or what `changes` makes of it; its ID."""
    content: Json = {
        "msgtype": "m.text",
        "body": f"* {body}",
        "m.new_content": {"msgtype": "m.text", "body": body},
        "m.relates_to": {"rel_type": "m.replace", "event_id": parent},
    } | changes
    return await client.sends_event(room, "m.room.message", content)


async def ignores(client: Client, *others: Client) -> None:
    where = path("user", client.user_id, "account_data", "m.ignored_user_list")
    users: Json = {other.user_id: {} for other in others}
    await client.put(where, {"ignored_users": users})


async def told(client: Client, room: str, event_id: str) -> Json:
    """What the event comes with."""
    event = await client.reads_event(room, event_id)
    relations: Json = event["unsigned"].get("m.relations", {})
    return relations


async def test_the_latest_valid_edit_is_told_and_the_content_stays(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await alice.sends(room, "first")
    assert await told(bob, room, event_id) == {}
    await edits(alice, room, event_id, "second")
    last = await edits(alice, room, event_id, "third")
    event = await bob.reads_event(room, event_id)
    assert event["content"]["body"] == "first"
    edit = event["unsigned"]["m.relations"]["m.replace"]
    assert (edit["event_id"], edit["content"]["body"]) == (last, "* third")
    assert edit["room_id"] == room
    assert "age" in edit["unsigned"]


async def test_what_is_no_valid_edit_is_not_told(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await alice.sends(room, "first")
    await edits(bob, room, event_id, "not yours")
    await edits(alice, room, event_id, "no content", **{"m.new_content": "text"})
    content = {"m.relates_to": {"rel_type": "m.replace", "event_id": event_id}}
    await alice.sends_event(room, "org.other", content | {"m.new_content": {}})
    await alice.sets_state(room, "m.room.message", content | {"m.new_content": {}})
    assert await told(alice, room, event_id) == {}
    edit = await edits(alice, room, event_id, "second")
    await edits(alice, room, edit, "of an edit")
    assert await told(alice, room, edit) == {}
    assert (await told(alice, room, event_id))["m.replace"]["event_id"] == edit


async def test_of_state_nothing_is_told(alice):
    room = await alice.creates_room()
    state = await alice.sets_state(room, "org.test", {"a": 1})
    await relates(alice, room, "m.thread", state)
    await relates(alice, room, "m.reference", state)
    assert await told(alice, room, state) == {}


async def test_redaction_takes_relations_apart(alice):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "first")
    older = await edits(alice, room, event_id, "second")
    newer = await edits(alice, room, event_id, "third")
    reply = await relates(alice, room, "m.thread", event_id)
    await alice.redacts(room, newer)
    assert (await told(alice, room, event_id))["m.replace"]["event_id"] == older
    await alice.redacts(room, event_id)
    left = await told(alice, room, event_id)
    assert list(left) == ["m.thread"]
    await alice.redacts(room, reply)
    assert await told(alice, room, event_id) == {}


async def test_a_thread_tells_its_latest_event_with_what_that_comes_with(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await bob.sends(room, "root")
    await relates(bob, room, "m.thread", root, "1")
    last = await relates(bob, room, "m.thread", root, "2")
    edit = await edits(bob, room, last, "two")
    thread = (await told(alice, room, root))["m.thread"]
    assert thread["count"] == 2
    assert thread["current_user_participated"] is False
    assert thread["latest_event"]["event_id"] == last
    assert thread["latest_event"]["room_id"] == room
    inner = thread["latest_event"]["unsigned"]["m.relations"]
    assert inner["m.replace"]["event_id"] == edit
    assert (await told(bob, room, root))["m.thread"]["current_user_participated"]
    await relates(alice, room, "m.thread", root, "3")
    thread = (await told(alice, room, root))["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (3, True)


async def test_references_are_listed_in_order(alice):
    room = await alice.creates_room()
    poll = await alice.sends(room, "poll")
    votes = [await relates(alice, room, "m.reference", poll) for _ in range(3)]
    chunk = (await told(alice, room, poll))["m.reference"]["chunk"]
    assert chunk == [{"event_id": vote} for vote in votes]


async def test_reactions_are_not_summed_up(alice):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "hello")
    content = {"rel_type": "m.annotation", "event_id": event_id, "key": "+1"}
    await alice.sends_event(room, "m.reaction", {"m.relates_to": content})
    assert await told(alice, room, event_id) == {}


async def test_those_who_are_ignored_do_not_count(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    root = await alice.sends(room, "root")
    first = await relates(bob, room, "m.thread", root)
    await relates(carol, room, "m.thread", root)
    await relates(carol, room, "m.reference", root)
    await ignores(alice, carol)
    seen = await told(alice, room, root)
    assert list(seen) == ["m.thread"]
    assert seen["m.thread"]["count"] == 1
    assert seen["m.thread"]["latest_event"]["event_id"] == first
    assert (await told(bob, room, root))["m.thread"]["count"] == 2
    await ignores(alice, carol, bob)
    assert await told(alice, room, root) == {}


async def test_what_was_said_behind_closed_doors_does_not_count(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await alice.sends(room, "root")
    await relates(alice, room, "m.thread", root, "seen by bob")
    await alice.sets_state(
        room, "m.room.history_visibility", {"history_visibility": "joined"}
    )
    await bob.leaves(room)
    await relates(alice, room, "m.thread", root, "not seen")
    await relates(alice, room, "m.reference", root)
    left = await told(bob, room, root)
    assert list(left) == ["m.thread"]
    assert left["m.thread"]["count"] == 1
    await bob.joins(room)
    back = (await told(bob, room, root))["m.thread"]
    assert (back["count"], back["latest_event"]["content"]["body"]) == (
        1,
        "seen by bob",
    )
    await relates(alice, room, "m.thread", root, "seen again")
    assert (await told(bob, room, root))["m.thread"]["count"] == 2


async def test_every_place_that_shows_history_tells_them(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)

    def count(events: list[Json]) -> int:
        shown = next(event for event in events if event["event_id"] == root)
        thread: int = shown["unsigned"]["m.relations"]["m.thread"]["count"]
        return thread

    assert count((await alice.messages(room))["chunk"]) == 1
    where = path("rooms", room, "context", reply)
    assert count((await alice.get(where))["events_before"]) == 1
    around = await alice.get(path("rooms", room, "context", root))
    assert count([around["event"]]) == 1
    whole = (await alice.get(path("sync")))["rooms"]["join"][room]
    assert count(whole["timeline"]["events"]) == 1
    section = one(await Sliding(alice).asks(timeline_limit=5), room)
    assert count(section["timeline"]) == 1


async def test_a_sync_without_a_gap_leaves_counting_to_the_client(alice):
    room = await alice.creates_room()
    before = await alice.get(path("sync"))
    root = await alice.sends(room, "root")
    await relates(alice, room, "m.thread", root)
    after = await alice.call("GET", path("sync"), query={"since": before["next_batch"]})
    events = after["rooms"]["join"][room]["timeline"]["events"]
    assert events[0]["event_id"] == root
    assert "m.relations" not in events[0]["unsigned"]
    for number in range(9):
        await alice.sends(room, str(number))
    query = {"since": before["next_batch"]}
    events = (await alice.call("GET", path("sync"), query=query))["rooms"]["join"]
    assert events[room]["timeline"]["limited"]
    first = events[room]["timeline"]["events"][0]
    assert "m.relations" not in first["unsigned"], "the root is in the gap"


async def test_a_room_that_one_left_tells_them_too(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await alice.sends(room, "root")
    await relates(alice, room, "m.thread", root)
    before = (await bob.get(path("sync")))["next_batch"]
    for number in range(6):
        await alice.sends(room, str(number))
    await edits(alice, room, await alice.sends(room, "a"), "b")
    await bob.leaves(room)
    reply = await bob.call("GET", path("sync"), query={"since": before})
    events = reply["rooms"]["leave"][room]["timeline"]["events"]
    texts = {e["content"].get("body"): e["unsigned"] for e in events}
    assert texts["a"]["m.relations"]["m.replace"]["content"]["body"] == "* b"


async def test_another_process_knows_of_new_children(alice, another_process):
    room = await alice.creates_room()
    elsewhere = another_process.client(alice.access_token)
    root = await alice.sends(room, "root")
    where = path("rooms", room, "event", root)
    assert "m.relations" not in (await elsewhere.get(where))["unsigned"]
    await relates(alice, room, "m.thread", root)
    text = path("rooms", room, "send", "m.room.message", "so that it has caught up")
    await elsewhere.put(text, {"msgtype": "m.text", "body": "x"})
    unsigned = (await elsewhere.get(where))["unsigned"]
    assert unsigned["m.relations"]["m.thread"]["count"] == 1


@pytest.mark.parametrize(
    "relation",
    [
        "text",
        {"rel_type": 1, "event_id": "$x"},
        {"rel_type": "m.thread"},
        {"rel_type": "m.thread", "event_id": ["$x"]},
        {"rel_type": "m.\0thread", "event_id": "$x"},
        {"rel_type": "m.thread", "event_id": ""},
        {"rel_type": "x" * 5000, "event_id": "$" + "y" * 5000},
        {"rel_type": "é" * 200, "event_id": "$x"},
    ],
    ids=itertools.count(),
)
async def test_a_relation_of_no_shape_is_none(alice, relation):
    room = await alice.creates_room()
    content = {"msgtype": "m.text", "body": "x", "m.relates_to": relation}
    event_id = await alice.sends_event(room, "m.room.message", content)
    event = await alice.reads_event(room, event_id)
    assert event["content"]["m.relates_to"] == relation
