"""Power levels, redactions and odd contents, across servers."""

from typing import Any

import pytest

from tests.interop.agreement import agree, both_hear
from tests.interop.stage import Stage
from tests.support.api import Json, eventually
from tests.support.client import Client, RefusedError


async def test_power_levels_bind_the_other_server(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    with pytest.raises(RefusedError) as refused:
        await bob.sets_state(room, "m.room.topic", {"topic": "Bob's"})
    assert refused.value.status == 403
    await alice.sets_power(room, bob, 60)
    users = (await alice.state_of(room, "m.room.power_levels"))["users"]
    await bob.sees_state(room, "m.room.power_levels", {"users": users})
    await bob.sets_state(room, "m.room.topic", {"topic": "Bob's"})
    await alice.sees_state(room, "m.room.topic", {"topic": "Bob's"})
    await alice.sets_power(room, bob, 0)
    users = (await alice.state_of(room, "m.room.power_levels"))["users"]
    await bob.sees_state(room, "m.room.power_levels", {"users": users})
    with pytest.raises(RefusedError) as refused:
        await bob.sets_state(room, "m.room.topic", {"topic": "Bob's again"})
    assert refused.value.status == 403
    await agree(room, alice, bob)


async def test_redactions_go_both_ways(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    hers = await alice.sends(room, "a slip of Alice")
    his = await bob.sends(room, "a slip of Bob")
    await alice.sees_id(room, his)
    await bob.sees_id(room, hers)
    await alice.redacts(room, hers, "slip")
    await is_redacted(bob, room, hers, by=alice)
    await bob.redacts(room, his)
    await is_redacted(alice, room, his, by=bob)
    # A moderator redacts what somebody of the other server said.
    rude = await bob.sends(room, "rude")
    await alice.sees_id(room, rude)
    await alice.redacts(room, rude, "rude")
    await is_redacted(bob, room, rude, by=alice)
    await is_redacted(alice, room, rude, by=alice)


async def is_redacted(who: Client, room: str, event_id: str, *, by: Client) -> None:
    event: Json = {}

    async def done() -> bool:
        nonlocal event
        event = await who.reads_event(room, event_id)
        return bool(event["content"] == {})

    await eventually(done, f"{event_id} is redacted for {who.user_id}")
    assert event["unsigned"]["redacted_because"]["sender"] == by.user_id


async def test_nobody_redacts_others_without_the_power(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    hers = await alice.sends(room, "stays")
    await bob.sees_id(room, hers)
    with pytest.raises(RefusedError) as refused:
        await bob.redacts(room, hers)
    assert refused.value.status == 403
    assert (await bob.reads_event(room, hers))["content"]["body"] == "stays"


async def test_odd_contents_arrive_unchanged(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    nested: Any = "deep"
    for _ in range(30):
        nested = [{"": nested}]
    contents: list[Json] = [
        {"text": 'Grüße 世界 \U0001f680 \u2028 \x7f \\ " / \b \x01'},
        {"nul": "a\0b", "\0": 1},
        {"integers": [0, -1, 2**53 - 1, -(2**53) + 1]},
        {"nested": nested},
        {"": {}, "z": None, "a": [True, False], "ä": [], "\U0001f680": 1},
        {"big": "x" * 60_000},
    ]
    for speaker, listener in ((alice, bob), (bob, alice)):
        for content in contents:
            event_id = await speaker.sends_event(room, "org.example.odd", content)
            event = await listener.sees_id(room, event_id)
            assert event["content"] == content


async def test_state_with_odd_keys_arrives(stage: Stage) -> None:
    alice, bob = await stage.people()
    room = await stage.open_room(alice)
    await bob.joins(room, via=alice)
    for key in ("a/b", "a key", "ключ", "%2F", "#?&=", "x" * 200):
        content = {"key": key}
        await alice.sets_state(room, "org.example.keyed", content, key)
        await bob.sees_state(room, "org.example.keyed", content, key)
        assert await bob.state_of(room, "org.example.keyed", key) == content
    await agree(room, alice, bob)


async def test_both_write_at_the_same_moment(stage: Stage) -> None:
    """Forks in a connected room: both servers end in one state."""
    alice, bob = await stage.people()
    room = await stage.open_room(
        alice, power_level_content_override={"events": {"m.room.topic": 0}}
    )
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    for n in range(5):
        await alice.sets_state(room, "m.room.topic", {"topic": f"Alice {n}"})
        await bob.sets_state(room, "m.room.topic", {"topic": f"Bob {n}"})
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)


async def test_profiles_show_in_the_room(newest: Stage) -> None:
    alice, bob = await newest.people()
    await bob.sets_displayname("Bob of the other server")
    room = await newest.open_room(alice)
    await bob.joins(room, via=alice)
    await alice.sees_state(
        room,
        "m.room.member",
        {"membership": "join", "displayname": "Bob of the other server"},
        bob.user_id,
    )
    await bob.sets_displayname("Bobby")
    await alice.sees_state(room, "m.room.member", {"displayname": "Bobby"}, bob.user_id)
