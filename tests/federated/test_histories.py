"""What was said before a server came, and what it missed."""

import pytest

from tests.support.client import Client
from tests.support.sites import Site, agree, eventually


def said(events: list[dict]) -> list[str]:
    return [e["content"]["body"] for e in events if e["type"] == "m.room.message"]


@pytest.mark.parametrize("version", ["1", "10", "12"])
async def test_history_from_before_the_join_is_fetched_page_by_page(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(preset="public_chat", room_version=version)
    bodies = [f"message {i}" for i in range(250)]
    for i, body in enumerate(bodies):
        await alice.sends(room, body)
        if i % 50 == 20:
            await alice.sets_state(room, "m.room.topic", {"topic": f"topic {i}"})
    await bob.joins(room, via=alice)
    history = await bob.history(room)
    assert said(history) == bodies
    assert history[0]["type"] == "m.room.create"
    ids = [event["event_id"] for event in history]
    assert len(ids) == len(set(ids))
    theirs = [event["event_id"] for event in await alice.history(room)]
    assert set(theirs) == set(ids)
    # All of it is history now: nothing is asked of a any more.
    b.unreachable.add(a.name)
    assert said(await bob.history(room)) == bodies
    await agree(room, a, b)


async def test_who_joins_elsewhere_is_told_that_there_is_more(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await alice.sends(room, "before")
    await bob.syncs()
    await bob.joins(room, via=alice)
    section = (await bob.syncs())["rooms"]["join"][room]
    assert section["timeline"]["limited"]
    assert "before" in said(await bob.history(room))
    # Of a room whose first event is shown there is no more.
    own = await bob.creates_room()
    section = (await bob.syncs())["rooms"]["join"][own]
    assert section["timeline"]["limited"] is False
    assert section["timeline"]["events"][0]["type"] == "m.room.create"


async def test_backfilled_history_is_in_no_sync(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    for i in range(30):
        await alice.sends(room, f"old {i}")
    await bob.joins(room, via=alice)
    await bob.syncs()
    assert len(said(await bob.history(room))) == 30
    reply = await bob.syncs()
    assert "rooms" not in reply
    await alice.sends(room, "new")
    await bob.sees(room, "new")
    assert bob.seen.room(room).bodies() == ["new"]


async def test_a_server_gets_only_what_its_users_may_see(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(
        preset="public_chat",
        initial_state=[
            {
                "type": "m.room.history_visibility",
                "state_key": "",
                "content": {"history_visibility": "joined"},
            }
        ],
    )
    secret = await alice.sends(room, "before bob came")
    await bob.joins(room, via=alice)
    await alice.sends(room, "hello bob")
    await bob.sees(room, "hello bob")
    assert said(await bob.history(room)) == ["hello bob"]
    rows = await b.query(
        "SELECT json FROM event_json JOIN events USING (event_nid) WHERE event_id = $1",
        secret,
    )
    # The graph needs the event; what it says stays with a.
    assert rows
    assert "before bob came" not in rows[0]["json"]


async def test_redactions_hold_in_fetched_history(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    target = await alice.sends(room, "a mistake")
    await alice.sends(room, "something else")
    await alice.redacts(room, target)
    await bob.joins(room, via=alice)
    history = await bob.history(room)
    event = next(e for e in history if e["event_id"] == target)
    assert event["content"] == {}
    assert "redacted_because" in event["unsigned"]


async def test_a_gap_is_bridged_by_the_state_and_filled_when_read(
    a: Site,
    b: Site,
    alice: Client,
    bob: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # After a long outage only the last event of a room is sent.
    monkeypatch.setattr("homeserver.destinations.delivery.MAX_BACKLOG", 20)
    monkeypatch.setattr("homeserver.destinations.destination.MAX_QUEUE", 20)
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sends(room, "before the outage")
    await bob.sees(room, "before the outage")
    a.unreachable.add(b.name)
    for i in range(200):
        await alice.sends(room, f"missed {i}")
        if i == 30:
            await alice.sets_state(room, "m.room.topic", {"topic": "missed too"})
    a.unreachable.clear()
    await alice.sends(room, "are you there again?")
    await bob.sees(room, "are you there again?", seconds=30)
    await agree(room, a, b)
    topic = await bob.state_of(room, "m.room.topic")
    assert topic == {"topic": "missed too"}
    rows = await b.query("SELECT count(*) FROM events WHERE type = 'm.room.message'")
    assert rows[0]["count"] < 150, "the gap is there"

    async def has_all() -> bool:
        bodies = said(await bob.history(room))
        return bodies == [
            "before the outage",
            *(f"missed {i}" for i in range(200)),
            "are you there again?",
        ]

    await eventually(has_all, "the gap is filled")
