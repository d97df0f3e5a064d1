"""Which state sliding sync sends: patterns, lazy members, changes, and both forms."""

import pytest

from tests.support.sliding import Sliding, bodies, members, one, types

PUBLIC = {"preset": "public_chat"}
LAZY = [["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]


async def test_only_what_is_required_comes(alice):
    room = await alice.creates_room(name="Hall", topic="t")
    wanted = [["m.room.create", ""], ["m.room.topic", ""], ["m.room.nothing", ""]]
    section = one(await Sliding(alice).asks(required_state=wanted), room)
    assert types(section) == ["m.room.create", "m.room.topic"]


async def test_wildcards_match_types_and_keys(alice, bob):
    room = await alice.creates_room(name="Hall", **PUBLIC)
    await bob.joins(room)
    for key in ("one", "two"):
        await alice.sets_state(room, "org.example", {"v": 1}, key)
    section = one(await Sliding(alice, "a").asks(required_state=[["*", "*"]]), room)
    assert {"m.room.create", "m.room.name", "org.example"} <= set(types(section))
    assert members(section) == {alice.user_id: "join", bob.user_id: "join"}
    every_key = [["org.example", "*"]]
    section = one(await Sliding(alice, "b").asks(required_state=every_key), room)
    assert types(section) == ["org.example", "org.example"]
    any_type = [["*", "two"]]
    section = one(await Sliding(alice, "c").asks(required_state=any_type), room)
    assert types(section) == ["org.example"]


async def test_me_is_the_user(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    wanted = [["m.room.member", "$ME"]]
    section = one(await Sliding(bob).asks(required_state=wanted), room)
    assert members(section) == {bob.user_id: "join"}


async def test_lazy_members_are_those_of_the_timeline_and_come_once(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    await carol.sends(room, "hi")
    sliding = Sliding(alice)
    section = one(await sliding.asks(required_state=LAZY), room)
    assert members(section) == {alice.user_id: "join", carol.user_id: "join"}
    await carol.sends(room, "again")
    assert members(one(await sliding.asks(required_state=LAZY), room)) == {}
    await bob.sends(room, "me too")
    section = one(await sliding.asks(required_state=LAZY), room)
    assert members(section) == {bob.user_id: "join"}


async def test_lazy_members_beside_wildcards_stay_lazy(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    await alice.sends(room, "hi")
    wanted = [["*", "*"], *LAZY]
    section = one(await Sliding(alice).asks(required_state=wanted), room)
    assert "m.room.power_levels" in types(section)
    assert members(section) == {alice.user_id: "join"}


async def test_members_that_change_are_told_unless_there_is_a_gap(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await alice.sends(room, "hi")
    sliding = Sliding(alice)
    await sliding.asks(required_state=LAZY, timeline_limit=3)
    await bob.joins(room)
    section = one(await sliding.asks(required_state=LAZY, timeline_limit=3), room)
    assert members(section) == {bob.user_id: "join"}
    await carol.joins(room)
    for number in range(4):
        await alice.sends(room, str(number))
    section = one(await sliding.asks(required_state=LAZY, timeline_limit=3), room)
    assert section["limited"] is True
    assert members(section) == {}
    assert section["joined_count"] == 3


async def test_a_lost_answer_has_its_members_again(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(alice)
    await sliding.asks(required_state=LAZY)
    await bob.sends(room, "hi")
    before = sliding.pos
    first = one(await sliding.asks(required_state=LAZY), room)
    again = one(await sliding.asks(required_state=LAZY, pos=before), room)
    assert bodies(first) == bodies(again) == ["hi"]
    assert members(first) == members(again)


async def test_state_that_changes_is_told_when_it_is_required(alice):
    room = await alice.creates_room(name="Hall", topic="t")
    wanted = [["m.room.topic", ""]]
    sliding = Sliding(alice)
    await sliding.asks(required_state=wanted)
    await alice.sets_state(room, "m.room.name", {"name": "new"})
    assert one(await sliding.asks(required_state=wanted), room)["required_state"] == []
    await alice.sets_state(room, "m.room.topic", {"topic": "new"})
    (topic,) = one(await sliding.asks(required_state=wanted), room)["required_state"]
    assert topic["content"] == {"topic": "new"}


async def test_more_required_state_comes_at_once_and_is_kept_up_to_date(alice):
    room = await alice.creates_room(name="Hall", topic="t")
    small, large = [["m.room.name", ""]], [["m.room.name", ""], ["m.room.topic", ""]]
    sliding = Sliding(alice)
    await sliding.asks(required_state=small)
    section = one(await sliding.asks(required_state=large), room)
    assert "m.room.topic" in types(section)
    assert "timeline" not in section
    assert (await sliding.asks(required_state=large))["rooms"] == {}
    # Who asks for less does not hear of the topic, and gets it when asking again.
    assert (await sliding.asks(required_state=small))["rooms"] == {}
    await alice.sets_state(room, "m.room.topic", {"topic": "new"})
    assert one(await sliding.asks(required_state=small), room)["required_state"] == []
    section = one(await sliding.asks(required_state=large), room)
    shown = {e["type"]: e["content"] for e in section["required_state"]}
    assert shown["m.room.topic"] == {"topic": "new"}


async def test_the_newer_form_is_understood_and_answered(alice, bob):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    await bob.joins(room)
    await bob.sends(room, "hi")
    wanted = {
        "include": [{}],
        "exclude": [{"type": "m.room.create", "state_key": ""}],
        "lazy_members": True,
    }
    config = {"timeline_limit": 1, "required_state": wanted, "range": [0, 9]}
    sliding = Sliding(alice)
    reply = await sliding.posts({"conn_id": "n", "lists": {"all": config}})
    section = one(reply, room)
    assert "m.room.name" in types(section)
    assert "m.room.create" not in types(section)
    assert members(section) == {bob.user_id: "join"}
    config["timeline_limit"] = 2
    body = {"conn_id": "n", "pos": reply["pos"], "timeout": 0, "lists": {"all": config}}
    section = one(await sliding.posts(body), room)
    assert section["expanded_timeline"] is True
    invited = await bob.creates_room(invite=[alice.user_id])
    section = (await sliding.posts(body))["rooms"][invited]
    assert section["stripped_state"]
    assert "invite_state" not in section


async def test_the_newer_form_has_single_members_beside_lazy_ones(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    await alice.sends(room, "hi")
    wanted = {
        "include": [{}, {"type": "m.room.member", "state_key": bob.user_id}],
        "lazy_members": True,
    }
    section = one(await Sliding(alice).asks(required_state=wanted), room)
    assert members(section) == {alice.user_id: "join", bob.user_id: "join"}


@pytest.mark.parametrize("limit", [0, 1, 100, 10_000])
async def test_any_timeline_limit_is_bounded(alice, limit):
    room = await alice.creates_room()
    for number in range(3):
        await alice.sends(room, str(number))
    section = one(await Sliding(alice).asks(timeline_limit=limit), room)
    assert len(section["timeline"]) >= min(limit, 3)
    assert section["limited"] == (limit < 100)
