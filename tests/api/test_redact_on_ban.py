"""Kicks and bans that redact what the user has said (MSC4293)."""

import pytest

from tests.support.api import Json, RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FLAG = "org.matrix.msc4293.redact_events"


async def expels(
    client: Client, room: str, how: str, who: Client, **body: object
) -> None:
    where = path("rooms", room, how)
    await client.post(where, {"user_id": who.user_id, "reason": "spam", **body})


async def content(client: Client, room: str, event_id: str) -> Json:
    shown: Json = (await client.reads_event(room, event_id))["content"]
    return shown


@pytest.mark.parametrize("how", ["kick", "ban"])
@pytest.mark.parametrize("flag", ["redact_events", FLAG])
async def test_what_was_said_since_coming_in_is_redacted(alice, bob, how, flag):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    old = await bob.sends(room, "old")
    await bob.leaves(room)
    await bob.joins(room)
    first = await bob.sends(room, "spam")
    await bob.call(
        "PUT",
        path("rooms", room, "state", "m.room.member", bob.user_id),
        {"membership": "join", "displayname": "Bobby"},
    )
    second = await bob.sends(room, "more spam")
    mine = await alice.sends(room, "mine")
    since = (await alice.get(path("sync")))["next_batch"]
    await expels(alice, room, how, bob, **{flag: True})
    for event_id in (first, second):
        event = await alice.reads_event(room, event_id)
        assert event["content"] == {}
        because = event["unsigned"]["redacted_because"]
        assert because["type"] == "m.room.member"
        assert because["state_key"] == bob.user_id
        assert because["content"]["reason"] == "spam"
        assert because["content"][flag] is True
    assert (await content(alice, room, old))["body"] == "old"
    assert (await content(alice, room, mine))["body"] == "mine"
    reply = await alice.call("GET", path("sync"), query={"since": since})
    events = reply["rooms"]["join"][room]["timeline"]["events"]
    assert [event["type"] for event in events] == ["m.room.member"]


async def test_without_the_flag_or_as_no_expulsion_nothing_is_redacted(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await bob.sends(room, "hello")
    own = path("rooms", room, "state", "m.room.member", bob.user_id)
    await bob.put(own, {"membership": "leave", "redact_events": True})
    await bob.joins(room)
    await expels(alice, room, "kick", bob, redact_events=False)
    await bob.joins(room)
    await expels(alice, room, "ban", bob)
    await expels(alice, room, "unban", bob, redact_events=True)
    assert (await content(alice, room, event_id))["body"] == "hello"


async def test_who_has_no_power_to_redact_only_expels(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    for who in (bob, carol):
        await who.joins(room)
    await alice.sets_power(room, carol, 60)
    levels = await alice.state_of(room, "m.room.power_levels")
    levels["redact"] = 70
    await alice.sets_state(room, "m.room.power_levels", levels)
    event_id = await bob.sends(room, "hello")
    await expels(carol, room, "ban", bob, redact_events=True)
    assert (await content(alice, room, event_id))["body"] == "hello"
    await expels(carol, room, "unban", bob)
    levels["redact"] = 50
    levels["events"] = {**levels.get("events", {}), "m.room.redaction": 70}
    await alice.sets_state(room, "m.room.power_levels", levels)
    await bob.joins(room)
    event_id = await bob.sends(room, "again")
    await expels(carol, room, "kick", bob, redact_events=True)
    assert (await content(alice, room, event_id))["body"] == "again"


async def test_a_ban_written_as_state_redacts_as_well(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await bob.sends(room, "spam")
    where = path("rooms", room, "state", "m.room.member", bob.user_id)
    await alice.put(where, {"membership": "ban", FLAG: True})
    assert await content(alice, room, event_id) == {}


@pytest.mark.parametrize("flag", ["yes", 1, {}])
async def test_the_flag_is_true_or_false(alice, bob, flag):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    with pytest.raises(RefusedError) as error:
        await expels(alice, room, "ban", bob, redact_events=flag)
    assert (error.value.status, error.value.errcode) == (400, "M_BAD_JSON")
