"""Filters by relations: which kind an event has, and what relates to it."""

import json

import pytest

from tests.api.test_relations import reacts
from tests.api.test_relations_bundled import relates
from tests.support.api import Json, RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}


async def page(client: Client, room: str, **wanted: object) -> list[str]:
    """What a filter leaves of the messages: their IDs, the newest first."""
    query = {
        "dir": "b",
        "limit": "50",
        "filter": json.dumps({"types": ["m.room.message", "m.reaction"], **wanted}),
    }
    reply = await client.call("GET", path("rooms", room, "messages"), query=query)
    return [event["event_id"] for event in reply["chunk"]]


async def test_events_are_found_by_what_relates_to_them(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    first, second, third = [await alice.sends(room, text) for text in "abc"]
    await relates(bob, room, "m.thread", first)
    await relates(alice, room, "m.thread", second)
    gone = await reacts(bob, room, third)
    await reacts(bob, room, second)
    by_thread = {"related_by_rel_types": ["m.thread"]}
    by_bob = {"related_by_senders": [bob.user_id]}
    assert await page(alice, room, **by_thread) == [second, first]
    assert await page(alice, room, **by_bob) == [third, second, first]
    await alice.redacts(room, gone)
    assert await page(alice, room, **by_bob) == [second, first]
    assert await page(alice, room, **by_bob, **by_thread) == [first]
    kinds = {"related_by_rel_types": ["m.thread", "m.annotation"]}
    assert await page(alice, room, **by_bob, **kinds) == [second, first]
    assert await page(alice, room, related_by_senders=[]) == []


@pytest.mark.parametrize("prefix", ["", "org.matrix.msc3874."])
async def test_events_are_found_by_their_kind_of_relation(alice, prefix):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)
    reaction = await reacts(alice, room, root)
    kinds, others = f"{prefix}rel_types", f"{prefix}not_rel_types"
    assert await page(alice, room, **{kinds: ["m.thread"]}) == [reply]
    both = {kinds: ["m.thread", "m.annotation"]}
    assert await page(alice, room, **both) == [reaction, reply]
    assert await page(alice, room, **both, **{others: ["m.thread"]}) == [reaction]
    assert await page(alice, room, **{others: ["m.thread"]}) == [reaction, root]
    await alice.redacts(room, reply)
    assert await page(alice, room, **{kinds: ["m.thread"]}) == []


async def test_they_count_in_sync_and_around_an_event(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    other = await alice.sends(room, "other")
    reply = await relates(alice, room, "m.thread", root)

    async def timeline(**wanted: object) -> list[str]:
        query = {"filter": json.dumps({"room": {"timeline": wanted}})}
        rooms = (await alice.call("GET", path("sync"), query=query))["rooms"]["join"]
        return [event["event_id"] for event in rooms[room]["timeline"]["events"]]

    assert await timeline(related_by_rel_types=["m.thread"]) == [root]
    assert await timeline(rel_types=["m.thread"]) == [reply]
    wanted = {"related_by_rel_types": ["m.thread"]}
    where = path("rooms", room, "context", other)
    query = {"filter": json.dumps(wanted)}
    around: Json = await alice.call("GET", where, query=query)
    assert [event["event_id"] for event in around["events_before"]] == [root]
    assert around["events_after"] == []
    assert around["state"] == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"related_by_senders": ["bob"]},
        {"related_by_senders": "@bob:hearth.test"},
        {"related_by_rel_types": [1]},
        {"rel_types": "m.thread"},
        {"not_rel_types": ["x"] * 2001},
    ],
)
async def test_malformed_ones_are_refused(alice, wanted):
    room = await alice.creates_room()
    with pytest.raises(RefusedError) as error:
        await page(alice, room, **wanted)
    assert (error.value.status, error.value.errcode) == (400, "M_INVALID_PARAM")


async def test_they_count_in_search(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "relationword one")
    reply = await relates(alice, room, "m.thread", root, "relationword two")

    async def found(**wanted: object) -> list[str]:
        asked = {"search_term": "relationword", "filter": wanted}
        body = {"search_categories": {"room_events": asked}}
        answer = await alice.post(path("search"), body)
        results = answer["search_categories"]["room_events"]["results"]
        return [each["result"]["event_id"] for each in results]

    assert sorted(await found()) == sorted([root, reply])
    assert await found(related_by_rel_types=["m.thread"]) == [root]
    assert await found(rel_types=["m.thread"]) == [reply]
