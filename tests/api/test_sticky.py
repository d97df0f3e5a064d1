"""Sticky events: delivered to everybody for a while, whatever the timeline shows."""

import itertools
import json

import pytest

from homeserver.rooms import sticky
from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
PARAMETER = "org.matrix.msc4354.sticky_duration_ms"
EXTENSION = "org.matrix.msc4354.sticky_events"
TTL = "msc4354_sticky_duration_ttl_ms"
_txn_ids = itertools.count()


async def sticks(
    client: Client, room: str, key: str, duration_ms: object = 600_000
) -> str:
    """Send a sticky event; its ID."""
    where = path("rooms", room, "send", "m.rtc.member", f"sticky{next(_txn_ids)}")
    content = {"msc4354_sticky_key": key}
    query = {PARAMETER: str(duration_ms)}
    return str((await client.call("PUT", where, content, query=query))["event_id"])


async def look(client: Client, room: str, since: str = "", **filters: object) -> dict:
    """One sync with a timeline of one event: the room's section."""
    timeline = {"limit": 1, **filters}
    query = {"filter": json.dumps({"room": {"timeline": timeline}})}
    query |= {"since": since} if since else {}
    reply = await client.call("GET", path("sync"), query=query)
    section = reply["rooms"]["join"][room]
    return {
        "next": reply["next_batch"],
        "timeline": [event["event_id"] for event in section["timeline"]["events"]],
        "sticky": [e["event_id"] for e in section.get("msc4354_sticky", {})["events"]]
        if "msc4354_sticky" in section
        else [],
        "section": section,
    }


async def test_an_event_says_how_long_it_sticks(alice):
    room = await alice.creates_room()
    event_id = await sticks(alice, room, "laptop")
    event = await alice.reads_event(room, event_id)
    assert event["msc4354_sticky"] == {"duration_ms": 600_000}
    assert 590_000 < event["unsigned"][TTL] <= 600_000
    event = await alice.reads_event(room, await sticks(alice, room, "x", 0))
    assert event["msc4354_sticky"] == {"duration_ms": 0}
    assert TTL not in event["unsigned"]
    event = await alice.reads_event(room, await alice.sends(room, "plain"))
    assert "msc4354_sticky" not in event


@pytest.mark.parametrize("duration", ["3600001", "-1", "long", "1.5"])
async def test_a_duration_is_within_the_hour(alice, duration):
    room = await alice.creates_room()
    with pytest.raises(RefusedError) as error:
        await sticks(alice, room, "x", duration)
    assert (error.value.status, error.value.errcode) == (400, "M_INVALID_PARAM")


async def test_what_a_short_timeline_leaves_out_comes_beside_it_once(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    before = await look(bob, room)
    first = await sticks(alice, room, "1")
    second = await sticks(alice, room, "2")
    last = await alice.sends(room, "last")
    after = await look(bob, room, before["next"])
    assert after["timeline"] == [last]
    assert after["sticky"] == [first, second]
    shown = after["section"]["msc4354_sticky"]["events"][0]
    assert 590_000 < shown["unsigned"][TTL] <= 600_000
    assert "room_id" not in shown
    await alice.sends(room, "again")
    assert (await look(bob, room, after["next"]))["sticky"] == []
    # What stands in the timeline does not stand beside it as well.
    third = await sticks(alice, room, "3")
    whole = await look(bob, room)
    assert (whole["timeline"], whole["sticky"]) == ([third], [first, second])
    # Filters of the timeline do not keep it away.
    filtered = await look(bob, room, before["next"], not_types=["m.rtc.member"])
    assert set(filtered["sticky"]) == {first, second, third}


async def test_who_joins_gets_all_that_sticks_whatever_may_be_seen_of_history(
    alice, bob
):
    room = await alice.creates_room(preset="private_chat")
    content = {"history_visibility": "joined"}
    await alice.sets_state(room, "m.room.history_visibility", content)
    event_id = await sticks(alice, room, "in a call")
    await alice.sends(room, "not for those who come later")
    await alice.invites(room, bob)
    since = (await bob.syncs())["next_batch"]
    await bob.joins(room)
    assert (await look(bob, room, since))["sticky"] == [event_id]
    assert (await look(bob, room))["sticky"] == [event_id]


async def test_what_ran_out_or_was_redacted_sticks_no_longer(hearth, alice):
    room = await alice.creates_room()
    over = await sticks(alice, room, "over")
    redacted = await sticks(alice, room, "redacted")
    kept = await sticks(alice, room, "kept")
    await alice.redacts(room, redacted)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            """
            UPDATE sticky_events s SET until_ms = 1
              FROM events e WHERE e.event_nid = s.event_nid AND e.event_id = $1
            """,
            over,
        )
    assert (await look(alice, room))["sticky"] == [kept]
    assert "msc4354_sticky" not in await alice.reads_event(room, redacted)
    await sticky.forget_expired(hearth.ctx)
    async with hearth.ctx.db.read() as tx:
        assert not await tx.fetchval("SELECT true FROM sticky_events WHERE until_ms=1")


async def test_another_process_knows_what_sticks(alice, another_process):
    room = await alice.creates_room()
    elsewhere = Client(
        alice.http, another_process.base_url, alice.access_token, user_id=alice.user_id
    )
    first = await sticks(alice, room, "1")
    await alice.sends(room, "x")
    await elsewhere.syncs()
    assert (await look(elsewhere, room))["sticky"] == [first]
    second = await sticks(alice, room, "2")
    last = await alice.sends(room, "y")
    await elsewhere.sees_id(room, last)
    assert (await look(elsewhere, room))["sticky"] == [first, second]


async def test_ignored_users_stay_unheard(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await sticks(alice, room, "x")
    await alice.sends(room, "x")
    await bob.put(
        path("user", bob.user_id, "account_data", "m.ignored_user_list"),
        {"ignored_users": {alice.user_id: {}}},
    )
    assert (await look(bob, room))["sticky"] == []


async def test_state_can_be_sticky_and_delayed_events_too(alice):
    room = await alice.creates_room()
    where = path("rooms", room, "state", "m.x", "key")
    first = await alice.call("PUT", where, {"a": 1}, query={PARAMETER: "5000"})
    again = await alice.call("PUT", where, {"a": 1}, query={PARAMETER: "5000"})
    assert first != again  # it sticks anew
    where = path("rooms", room, "send", "m.x", "later")
    query = {PARAMETER: "5000", "org.matrix.msc4140.delay": "60000"}
    delayed = (await alice.call("PUT", where, {}, query=query))["delay_id"]
    base = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"
    await alice.post(f"{base}/{delayed}/send")
    sent = await alice.get(f"{base}/{delayed}")
    event = await alice.reads_event(room, sent["event_id"])
    assert event["msc4354_sticky"] == {"duration_ms": 5000}


async def test_sliding_sync_has_an_extension(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    first = await sticks(alice, room, "1")
    await alice.sends(room, "x")
    sliding = Sliding(bob)
    on = {"extensions": {EXTENSION: {"enabled": True}}}

    async def told(**more: object) -> list[str]:
        reply = await sliding.asks(**more)
        found = reply["extensions"].get(EXTENSION, {"rooms": {}})["rooms"]
        return [e["event_id"] for e in found.get(room, {"events": []})["events"]]

    assert await told(**on) == [first]
    assert await told(**on) == []
    second = await sticks(alice, room, "2")
    await alice.sends(room, "y")
    # Without the extension it is not told, and not lost.
    assert await told() == []
    assert await told(**on) == [second]
    third = await sticks(alice, room, "3")
    assert await told(**on) == []  # it stood in the timeline
    other = await alice.creates_room(**PUBLIC)
    fourth = await sticks(alice, other, "4")
    await alice.sends(other, "z")
    await bob.joins(other)
    reply = await sliding.asks(**on)
    events = reply["extensions"][EXTENSION]["rooms"][other]["events"]
    assert [event["event_id"] for event in events] == [fourth]
    assert third != fourth
