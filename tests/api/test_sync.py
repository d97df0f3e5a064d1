"""GET /sync, as clients live with it."""

import asyncio
import json
import time
from dataclasses import replace

import aiohttp
import pytest

from tests.support.api import RefusedError, path

PUBLIC = {"preset": "public_chat"}


def timeline(reply, room):
    return reply["rooms"]["join"][room]["timeline"]


def bodies(section):
    return [e["content"].get("body") for e in section["events"]]


async def fresh(client, **query):
    """A sync that leaves the client's own place alone."""
    query = {"set_presence": "offline", **query}
    return await client.call("GET", path("sync"), query=query)


async def test_an_initial_sync_has_the_room_its_state_and_its_newest_events(alice):
    room = await alice.creates_room(**PUBLIC, name="Hall", topic="t")
    for number in range(25):
        await alice.sends(room, str(number))
    reply = await fresh(alice)
    joined = reply["rooms"]["join"][room]
    assert bodies(joined["timeline"]) == [str(n) for n in range(15, 25)]
    assert joined["timeline"]["limited"] is True
    kinds = {e["type"] for e in joined["state"]["events"]}
    assert {"m.room.create", "m.room.name", "m.room.power_levels"} <= kinds
    assert joined["summary"]["m.joined_member_count"] == 1
    assert all("room_id" not in e for e in joined["timeline"]["events"])


async def test_state_in_a_short_room_stands_in_the_timeline_only(alice):
    room = await alice.creates_room()
    wide = json.dumps({"room": {"timeline": {"limit": 50}}})
    joined = (await fresh(alice, filter=wide))["rooms"]["join"][room]
    assert joined["state"]["events"] == []
    assert joined["timeline"]["limited"] is False
    assert joined["timeline"]["events"][0]["type"] == "m.room.create"


async def test_a_message_comes_to_who_waits_within_moments(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.syncs()
    waiting = asyncio.create_task(bob.syncs(wait=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    started = time.monotonic()
    sent = await alice.sends(room, "now")
    reply = await waiting
    assert time.monotonic() - started < 2
    (event,) = timeline(reply, room)["events"]
    assert event["event_id"] == sent
    assert event["unsigned"]["membership"] == "join"


async def test_nothing_new_means_waiting_and_then_an_empty_answer(alice):
    await alice.syncs()
    started = time.monotonic()
    reply = await alice.syncs(wait=0.4)
    assert time.monotonic() - started >= 0.4
    assert "rooms" not in reply
    assert reply["next_batch"] == alice.seen.since


async def test_only_the_sending_device_gets_the_transaction_id(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await alice.sends(room, "mine", txn_id="txn-7")
    mine = await alice.sees_id(room, sent)
    theirs = await bob.sees_id(room, sent)
    assert mine["unsigned"]["transaction_id"] == "txn-7"
    assert "transaction_id" not in theirs["unsigned"]


async def test_a_gap_is_limited_and_its_state_is_told(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.syncs()
    since = bob.seen.since
    await alice.sets_state(room, "m.room.topic", {"topic": "in the gap"})
    for number in range(30):
        await alice.sends(room, str(number))
    joined = (await fresh(bob, since=since))["rooms"]["join"][room]
    assert joined["timeline"]["limited"] is True
    assert bodies(joined["timeline"]) == [str(n) for n in range(20, 30)]
    (topic,) = joined["state"]["events"]
    assert topic["content"] == {"topic": "in the gap"}
    page = await bob.messages(room, start=joined["timeline"]["prev_batch"], limit=20)
    assert bodies({"events": page["chunk"]}) == [str(n) for n in range(19, -1, -1)]


async def test_state_after_tells_the_state_at_the_end(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.syncs()
    await alice.sets_state(room, "m.room.topic", {"topic": "new"})
    await alice.sends(room, "after it")
    for prefix in ("", "org.matrix.msc4222."):
        asked = {f"{prefix}use_state_after": "true"}
        reply = await fresh(bob, since=bob.seen.since, **asked)
        joined = reply["rooms"]["join"][room]
        # In the dialect that was asked, and in no other.
        assert {"state", "state_after", "org.matrix.msc4222.state_after"} & set(
            joined
        ) == {f"{prefix}state_after"}
        (topic,) = joined[f"{prefix}state_after"]["events"]
        assert topic["content"] == {"topic": "new"}
    joined = (await fresh(bob, since=bob.seen.since))["rooms"]["join"][room]
    assert joined["state"]["events"] == []


async def test_a_join_after_the_token_brings_the_whole_state(alice, bob):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    for number in range(20):
        await alice.sends(room, str(number))
    await bob.syncs()
    since = bob.seen.since
    await bob.joins(room)
    joined = (await fresh(bob, since=since))["rooms"]["join"][room]
    kinds = {e["type"] for e in joined["state"]["events"]}
    assert {"m.room.create", "m.room.name", "m.room.join_rules"} <= kinds
    assert joined["timeline"]["events"][-1]["state_key"] == bob.user_id


async def test_invites_come_with_stripped_state_and_go_when_refused(alice, bob):
    await bob.syncs()
    room = await alice.creates_room(name="Secret", invite=[bob.user_id])
    seen = await bob.is_shown(room, "invite")
    assert seen.stripped["m.room.name", ""]["content"] == {"name": "Secret"}
    invite = seen.stripped["m.room.member", bob.user_id]
    assert invite["content"]["membership"] == "invite"
    assert invite["sender"] == alice.user_id
    initial = await fresh(bob)
    assert room in initial["rooms"]["invite"]
    await bob.leaves(room)
    seen = await bob.is_shown(room, "leave")
    assert seen.timeline[-1]["content"]["membership"] == "leave"
    assert room not in (await fresh(bob))["rooms"].get("leave", {})


async def test_who_is_kicked_is_told_and_sees_no_more(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.sees_member(room, bob, "join")
    await alice.sends(room, "last words")
    await alice.kicks(room, bob, "enough")
    await alice.sends(room, "he is gone")
    seen = await bob.is_shown(room, "leave")
    assert "last words" in seen.bodies()
    assert "he is gone" not in seen.bodies()
    assert seen.timeline[-1]["content"]["reason"] == "enough"
    left = await fresh(bob, filter=json.dumps({"room": {"include_leave": True}}))
    section = left["rooms"]["leave"][room]
    assert section["timeline"]["events"][-1]["state_key"] == bob.user_id
    await bob.forgets(room)
    left = await fresh(bob, filter=json.dumps({"room": {"include_leave": True}}))
    assert room not in left["rooms"].get("leave", {})


async def test_history_from_before_an_invite_only_room_was_joined(alice, bob):
    room = await alice.creates_room(
        preset="private_chat",
        initial_state=[
            {
                "type": "m.room.history_visibility",
                "content": {"history_visibility": "joined"},
            }
        ],
    )
    await alice.sends(room, "before")
    await alice.invites(room, bob)
    await bob.joins(room)
    await alice.sends(room, "after")
    seen = await bob.sees(room, "after")
    assert seen
    assert "before" not in bob.seen.room(room).bodies()
    assert "before" not in [e["content"].get("body") for e in await bob.history(room)]


async def test_a_redaction_takes_the_content_everywhere(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await alice.sends(room, "oops")
    await bob.sees(room, "oops")
    redaction = await alice.redacts(room, sent, "typo")
    told = await bob.sees_id(room, redaction)
    assert told["redacts"] == told["content"]["redacts"] == sent
    event = await bob.reads_event(room, sent)
    assert event["content"] == {}
    assert event["unsigned"]["redacted_because"]["event_id"] == redaction
    initial = timeline(await fresh(bob), room)["events"]
    shown = next(e for e in initial if e["event_id"] == sent)
    assert shown["content"] == {}


async def test_state_events_say_what_they_replaced(alice):
    room = await alice.creates_room(name="old")
    await alice.sets_state(room, "m.room.name", {"name": "new"})
    event = await alice.sees_state(room, "m.room.name", {"name": "new"})
    assert event["unsigned"]["prev_content"] == {"name": "old"}
    assert event["unsigned"]["replaces_state"].startswith("$")


async def test_lazy_members_come_once_and_again_when_an_answer_was_lost(person, alice):
    room = await alice.creates_room(**PUBLIC)
    others = [await person() for _ in range(4)]
    for other in others:
        await other.joins(room)
    for number in range(12):
        await alice.sends(room, str(number))
    lazy = json.dumps({"room": {"state": {"lazy_load_members": True}}})

    def members(reply):
        events = reply["rooms"]["join"][room]["state"]["events"]
        return {e["state_key"] for e in events if e["type"] == "m.room.member"}

    initial = await fresh(alice, filter=lazy)
    heroes = set(initial["rooms"]["join"][room]["summary"]["m.heroes"])
    assert members(initial) == {alice.user_id} | heroes
    speaker = next(o for o in others if o.user_id)
    since = initial["next_batch"]
    await speaker.sends(room, "hello")
    first = await fresh(alice, filter=lazy, since=since)
    again = await fresh(alice, filter=lazy, since=since)
    assert members(first) == members(again)
    await speaker.sends(room, "once more")
    after = await fresh(alice, filter=lazy, since=first["next_batch"])
    assert members(after) == set()
    redundant = json.dumps(
        {"room": {"state": {"lazy_load_members": True, "include_redundant_members": 1}}}
    )
    with pytest.raises(RefusedError) as refused:
        await fresh(alice, filter=redundant)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ({"types": ["m.room.message"]}, ["one", "two"]),
        ({"types": ["m.room.*"], "not_types": ["m.room.message"]}, []),
        ({"not_senders": ["ALICE"]}, []),
        ({"senders": ["ALICE"], "types": ["*message"]}, ["one", "two"]),
        ({"limit": 1}, ["two"]),
        ({"limit": 0}, []),
        ({"not_rooms": ["!other:hearth.test"], "types": ["m.room.message"]}, None),
        ({"contains_url": True}, []),
    ],
)
async def test_timeline_filters(alice, wanted, shown):
    room = await alice.creates_room()
    await alice.sends(room, "one")
    await alice.sends(room, "two")
    given = json.dumps({"room": {"timeline": wanted}}).replace("ALICE", alice.user_id)
    joined = (await fresh(alice, filter=given))["rooms"]["join"][room]
    texts = [b for b in bodies(joined["timeline"]) if b]
    assert texts == (["one", "two"] if shown is None else shown)


async def test_a_stored_filter_event_fields_and_federation_format(alice):
    room = await alice.creates_room()
    await alice.sends(room, "one")
    stored = await alice.post(
        path("user", alice.user_id, "filter"),
        {"event_fields": ["type", "content.body"]},
    )
    # Not the shape of the specification's schema, so not checked against it.
    async with aiohttp.ClientSession() as unchecked:
        asker = replace(alice, http=lambda: unchecked)
        reply = await fresh(asker, filter=stored["filter_id"])
        raw = await fresh(asker, filter=json.dumps({"event_format": "federation"}))
    assert timeline(reply, room)["events"][-1] == {
        "type": "m.room.message",
        "content": {"body": "one"},
    }
    assert "hashes" in timeline(raw, room)["events"][-1]


@pytest.mark.parametrize(
    "query",
    [
        {"since": "nonsense"},
        {"since": "s99999999"},
        {"filter": "{not json"},
        {"filter": "77"},
        {"filter": '{"room":[]}'},
        {"filter": '{"event_format":"other"}'},
        {"timeout": "soon"},
        {"timeout": "-1"},
        {"full_state": "perhaps"},
        {"set_presence": "asleep"},
    ],
)
async def test_malformed_requests_are_refused(alice, query, monkeypatch):
    monkeypatch.setattr("homeserver.sync.client_api._PATIENCE_SECONDS", 0.1)
    with pytest.raises(RefusedError) as refused:
        await fresh(alice, **query)
    assert refused.value.status == 400
    assert refused.value.errcode in {"M_INVALID_PARAM", "M_NOT_JSON", "M_BAD_JSON"}


async def test_full_state_repeats_the_state_of_all_rooms(alice):
    room = await alice.creates_room(name="Hall")
    await alice.syncs()
    reply = await fresh(alice, since=alice.seen.since, full_state="true")
    joined = reply["rooms"]["join"][room]
    assert joined["timeline"]["events"] == []
    assert ("m.room.name") in {e["type"] for e in joined["state"]["events"]}


async def test_account_data_comes_once_and_per_room(alice):
    room = await alice.creates_room()
    await alice.syncs()
    where = path("user", alice.user_id, "account_data", "org.example.global")
    await alice.put(where, {"a": 1})
    where = path("user", alice.user_id, "rooms", room, "account_data", "org.example.r")
    await alice.put(where, {"b": 2})
    await alice.syncs()
    assert alice.seen.account_data["org.example.global"] == {"a": 1}
    assert alice.seen.room(room).account_data["org.example.r"] == {"b": 2}
    assert "rooms" not in await alice.syncs()


async def test_a_token_works_on_another_process(hearth, another, alice):
    room = await alice.creates_room()
    await alice.syncs()
    await alice.sends(room, "written here")
    other = await another(dsn=hearth.server._dsn)
    elsewhere = replace(alice, base_url=other.base_url)
    reply = await fresh(elsewhere, since=alice.seen.since)
    assert bodies(timeline(reply, room)) == ["written here"]
    await elsewhere.syncs()
    waiting = asyncio.create_task(elsewhere.syncs(wait=20))
    await asyncio.sleep(0.2)
    await alice.sends(room, "from the first process")
    assert bodies(timeline(await waiting, room)) == ["from the first process"]


async def test_a_shutdown_answers_who_waits(another, person):
    one = await another()
    somebody = await person(one)
    await somebody.syncs()
    waiting = asyncio.create_task(somebody.syncs(wait=30))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await one.server.__aexit__(None, None, None)
    reply = await waiting
    assert time.monotonic() - started < 5
    assert reply["next_batch"]


async def test_members_are_the_same_where_they_are_not_at_hand(hearth, person, alice):
    room = await alice.creates_room(preset="public_chat")
    crowd = [await person() for _ in range(22)]
    for one in crowd:
        await one.joins(room)
    state = path("rooms", room, "state")
    for one, name in ((crowd[0], 'Zoë "\\\\" 😀\n'), (crowd[1], "to be redacted")):
        own = {"membership": "join", "displayname": name, "more": {"big": 2**53 - 1}}
        await one.put(f"{state}/m.room.member/{one.user_id}", own)
    members = (await alice.get(path("rooms", room, "members")))["chunk"]
    event_ids = {each["state_key"]: each["event_id"] for each in members}
    await alice.redacts(room, event_ids[crowd[1].user_id])
    for n in range(20):  # what was said last is at hand in any case
        await alice.sends(room, f"message {n}")
    at_hand = await members_told(alice, room)
    loaded = await hearth.ctx.live.room(room)
    for member in loaded.members.values():
        hearth.ctx.live.events.forget(member.event_nid)
    told = await members_told(alice, room)
    assert len(told) == 23
    assert told == at_hand
    assert told[crowd[0].user_id]["content"]["displayname"].startswith("Zoë")
    assert "displayname" not in told[crowd[1].user_id]["content"]
    assert "redacted_because" in told[crowd[1].user_id]["unsigned"]


async def members_told(client, room: str, **query: str) -> dict:
    """The members in an initial sync, by their IDs, without what time changes."""
    chosen = json.dumps({"room": {"timeline": {"limit": 1}}})
    reply = await client.get(path("sync"), filter=chosen, **query)
    section = reply["rooms"]["join"][room]
    told = {}
    for event in [*section["state"]["events"], *section["timeline"]["events"]]:
        if event["type"] == "m.room.member":
            assert event["unsigned"].pop("age") >= 0
            told[event["state_key"]] = event
    return told
