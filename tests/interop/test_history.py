"""History of before one came: fetched from the other server as one scrolls back."""

import asyncio

import pytest

from federation.room_versions import ROOM_VERSIONS
from tests.interop.stage import VERSIONS, Stage
from tests.support.api import Json
from tests.support.client import Client
from tests.support.homeserver import Homeserver

MESSAGES = 520


@pytest.mark.timeout(400)
async def test_five_hundred_events_by_backfill(
    servers: tuple[Homeserver, Homeserver],
) -> None:
    """In all versions at the same time, for Synapse takes its time to send them."""
    stages = [Stage(*servers, ROOM_VERSIONS[version]) for version in VERSIONS]
    await asyncio.gather(*(scroll_to_the_beginning(stage) for stage in stages))


async def scroll_to_the_beginning(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    bodies = [f"message {n}" for n in range(MESSAGES)]
    for body in bodies:
        await alice.sends(room, body)
    await bob.joins(room, via=alice)
    events = await whole_history(bob, room)
    assert said(events) == bodies, f"version {stage.version}"
    ids = [event["event_id"] for event in events]
    assert len(ids) == len(set(ids)), "an event came twice"
    assert events[0]["type"] == "m.room.create"


async def whole_history(who: Client, room: str) -> list[Json]:
    """Scroll to the beginning; a server may need a moment to fetch what it lacks."""
    events: list[Json] = []
    for _ in range(10):
        events = await who.history(room)
        if events and events[0]["type"] == "m.room.create":
            break
        await asyncio.sleep(1)
    return events


def said(events: list[Json]) -> list[str]:
    return [e["content"]["body"] for e in events if e["type"] == "m.room.message"]


async def test_a_linked_event_of_before_is_fetched(newest: Stage) -> None:
    alice, bob = await newest.people()
    room = await newest.open_room(alice)
    first = await alice.sends(room, "the first")
    for n in range(30):
        await alice.sends(room, f"more {n}")
    await bob.joins(room, via=alice)
    await whole_history(bob, room)
    context = await bob.context(room, first)
    assert context["event"]["content"]["body"] == "the first"
    assert "more 0" in said(context["events_after"])


async def test_history_is_hidden_from_those_who_came_later(newest: Stage) -> None:
    alice, bob = await newest.people()
    hidden = {"history_visibility": "joined"}
    room = await newest.open_room(
        alice,
        initial_state=[
            {
                "type": "m.room.history_visibility",
                "state_key": "",
                "content": hidden,
            }
        ],
    )
    await alice.sends(room, "between us")
    await bob.joins(room, via=alice)
    await alice.sends(room, "for all")
    await bob.sees(room, "for all")
    assert "between us" not in said(await bob.history(room))
