"""Sending events, redacting, and reading a room's state."""

import asyncio

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")
NOWHERE = "!nowhere:hearth.test"
UNKNOWN_EVENT = "$" + "a" * 43


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


# ── Sending ──────────────────────────────────────────────────────────────────────────


async def test_a_repeated_transaction_gives_the_same_event(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    first = await alice.sends(room, "once", txn_id="t1")
    assert await alice.sends(room, "once", txn_id="t1") == first
    assert await bob.sends(room, "mine", txn_id="t1") != first
    assert await alice.sends(room, "again", txn_id="t2") != first
    other = await alice.creates_room()
    assert await alice.sends(other, "once", txn_id="t1") != first
    at_once = await asyncio.gather(
        *(alice.sends(room, "race", txn_id="t3") for _ in range(8))
    )
    assert len(set(at_once)) == 1
    bodies = [e["content"].get("body") for e in await alice.history(room)]
    assert [b for b in bodies if b] == ["once", "mine", "again", "race"]


async def test_a_repetition_is_answered_when_sending_is_no_longer_allowed(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await bob.sends(room, "x", txn_id="t")
    levels = await alice.state_of(room, "m.room.power_levels")
    await alice.sets_state(room, "m.room.power_levels", levels | {"events_default": 9})
    assert await refusal(bob.sends(room, "y")) == FORBIDDEN
    assert await bob.sends(room, "x", txn_id="t") == sent


async def test_one_transaction_id_for_two_redactions_makes_two(alice):
    room = await alice.creates_room(**PUBLIC)
    targets = [await alice.sends(room, body) for body in ("one", "two")]

    async def redact(target: str) -> str:
        reply = await alice.put(path("rooms", room, "redact", target, "t"), {})
        return str(reply["event_id"])

    first, second = [await redact(target) for target in targets]
    assert first != second
    assert [await redact(target) for target in targets] == [first, second]
    for target, redaction in zip(targets, (first, second), strict=True):
        event = await alice.reads_event(room, target)
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction
    shown = await alice.reads_event(room, second)
    assert shown["unsigned"]["transaction_id"] == "t"


async def test_a_repetition_is_answered_after_the_sender_has_left(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await bob.sends(room, "x", txn_id="t")
    where = path("rooms", room, "redact", sent, "t")
    redaction = (await bob.put(where, {}))["event_id"]
    await bob.leaves(room)
    assert await bob.sends(room, "x", txn_id="t") == sent
    assert (await bob.put(where, {}))["event_id"] == redaction
    assert await refusal(bob.sends(room, "x", txn_id="other")) == FORBIDDEN
    assert await refusal(bob.redacts(room, sent)) == FORBIDDEN


async def test_only_members_send(alice, bob):
    room = await alice.creates_room()
    for where in (room, NOWHERE):
        assert await refusal(bob.sends(where, "x")) == FORBIDDEN
        assert await refusal(bob.sets_state(where, "m.x", {})) == FORBIDDEN
        assert await refusal(bob.redacts(where, UNKNOWN_EVENT)) == FORBIDDEN


async def test_any_text_can_be_sent_and_comes_back(alice):
    room = await alice.creates_room()
    texts = ["", "\0", "\x10n", "a\0b\x10e", "🜂", "\u2028", '"\\', "x" * 60_000]
    for text in texts:
        event_id = await alice.sends(room, text)
        event = await alice.reads_event(room, event_id)
        assert event["content"]["body"] == text
    event_id = await alice.sends_event(room, "odd \0 type", {"\0": {"k\x10": None}})
    event = await alice.reads_event(room, event_id)
    assert (event["type"], event["content"]) == ("odd \0 type", {"\0": {"k\x10": None}})
    await alice.sets_state(room, "t\0", {"a": 1}, "key\0\x10")
    assert await alice.state_of(room, "t\0", "key\0\x10") == {"a": 1}
    txn_id = "t\0\x10n"
    event_id = await alice.sends(room, "x", txn_id=txn_id)
    assert await alice.sends(room, "x", txn_id=txn_id) == event_id


async def test_what_is_no_event_is_refused(alice):
    room = await alice.creates_room()
    where = path("rooms", room, "send", "m.x", "t")
    deep = {"a": 1}
    for _ in range(300):
        deep = {"a": deep}
    for body, status, errcode in [
        ([], 400, "M_BAD_JSON"),
        ({"n": 1.5}, 400, "M_BAD_JSON"),
        ({"n": 2**53}, 400, "M_BAD_JSON"),
        (deep, 400, "M_BAD_JSON"),
        (None, 400, "M_NOT_JSON"),
        ({"long": "x" * 70_000}, 413, "M_TOO_LARGE"),
    ]:
        answer = await alice.answer("PUT", where, body)
        assert (answer[0], answer[1]["errcode"]) == (status, errcode)
    for kind, txn_id, status in [
        ("x" * 256, "t", 413),
        ("m.x", "t" * 256, 400),
    ]:
        call = alice.sends_event(room, kind, {}, txn_id=txn_id)
        assert (await refusal(call))[0] == status


async def test_an_unchanged_state_event_is_not_sent_again(alice):
    room = await alice.creates_room()
    first = await alice.sets_state(room, "m.room.topic", {"topic": "x"})
    assert await alice.sets_state(room, "m.room.topic", {"topic": "x"}) == first
    assert await alice.sets_state(room, "m.room.topic", {"topic": "y"}) != first


async def test_state_needs_power_and_own_keys(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    assert await refusal(bob.sets_state(room, "m.room.topic", {})) == FORBIDDEN
    for call in (
        alice.sets_state(room, "m.x", {}, bob.user_id),
        alice.sets_state(room, "m.room.create", {"room_version": "11"}),
        alice.sets_state(room, "m.room.power_levels", {"users": {alice.user_id: 100}}),
    ):
        assert await refusal(call) == FORBIDDEN


# ── Canonical aliases ────────────────────────────────────────────────────────────────


async def test_new_canonical_aliases_must_name_the_room(alice):
    room = await alice.creates_room()
    other = await alice.creates_room()
    await alice.sets_alias(room, "#right:hearth.test")
    await alice.sets_alias(other, "#wrong:hearth.test")

    async def sets(**content: object) -> str:
        return await alice.sets_state(room, "m.room.canonical_alias", content)

    right, wrong = "#right:hearth.test", "#wrong:hearth.test"
    for content, errcode in [
        ({"alias": wrong}, "M_BAD_ALIAS"),
        ({"alias": "#nothing:hearth.test"}, "M_BAD_ALIAS"),
        ({"alias": right, "alt_aliases": [wrong]}, "M_BAD_ALIAS"),
        ({"alias": "right"}, "M_INVALID_PARAM"),
        ({"alias": "#right"}, "M_INVALID_PARAM"),
        ({"alias": 7}, "M_INVALID_PARAM"),
        ({"alt_aliases": right}, "M_INVALID_PARAM"),
        ({"alt_aliases": [7]}, "M_INVALID_PARAM"),
        ({"alt_aliases": [f"#a{n}:hearth.test" for n in range(60)]}, "M_INVALID_PARAM"),
    ]:
        assert await refusal(sets(**content)) == (400, errcode), content
    await sets(alias=right, alt_aliases=[right])
    # What is there already, or goes, is not looked at.
    await alice.deletes_alias(right)
    await alice.sets_state(room, "m.room.canonical_alias", {"alias": "", "x": 1})
    await sets()


# ── Redacting ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["1", "3", "10", "11", "12"])
@pytest.mark.parametrize("by_send", [True, False])
async def test_a_redaction_strips_the_event(alice, version, by_send):
    room = await alice.creates_room(room_version=version)
    event_id = await alice.sends(room, "oops")
    if by_send:
        content = {"redacts": event_id, "reason": "why"}
        redaction = await alice.sends_event(room, "m.room.redaction", content)
    else:
        redaction = await alice.redacts(room, event_id, "why")
    event = await alice.reads_event(room, event_id)
    assert event["content"] == {}
    because = event["unsigned"]["redacted_because"]
    assert because["event_id"] == redaction
    shown = await alice.reads_event(room, redaction)
    assert shown["redacts"] == shown["content"]["redacts"] == event_id
    assert shown["content"]["reason"] == "why"


async def test_who_may_redact(hearth, alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    mine, hers = await bob.sends(room, "mine"), await alice.sends(room, "hers")
    assert await refusal(bob.redacts(room, hers)) == FORBIDDEN
    await bob.redacts(room, mine)
    await alice.redacts(room, await bob.sends(room, "moderated"))
    assert await refusal(alice.redacts(room, UNKNOWN_EVENT)) == (404, "M_NOT_FOUND")
    elsewhere = await alice.sends(await alice.creates_room(), "elsewhere")
    assert await refusal(alice.redacts(room, elsewhere)) == (404, "M_NOT_FOUND")
    for content in ({}, {"redacts": 7}, {"redacts": "x"}):
        call = alice.sends_event(room, "m.room.redaction", content)
        assert await refusal(call) == (400, "M_BAD_JSON")
    where = path("rooms", room, "redact", hers, "t")
    assert await refusal(alice.put(where, {"reason": 7})) == (400, "M_BAD_JSON")


async def test_a_redaction_needs_no_body_and_is_sent_once(alice):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "x")
    where = path("rooms", room, "redact", event_id, "t1")
    _, first = await alice.answer("PUT", where)
    _, second = await alice.answer("PUT", where)
    assert first == second
    kinds = [e["type"] for e in await alice.history(room)]
    assert kinds.count("m.room.redaction") == 1


# ── Reading state ────────────────────────────────────────────────────────────────────


async def test_state_is_read_by_type_and_key(alice, bob):
    room = await alice.creates_room(name="N")
    await alice.sets_state(room, "m.x", {"v": 1}, "k")
    assert await alice.state_of(room, "m.x", "k") == {"v": 1}
    for end in ("", "/"):
        where = path("rooms", room, "state", "m.room.name") + end
        assert await alice.get(where) == {"name": "N"}
        event = await alice.get(where, format="event")
        assert event["type"] == "m.room.name"
        assert event["content"] == {"name": "N"}
        assert event["room_id"] == room
    where = path("rooms", room, "state", "m.room.name")
    call = alice.get(where, format="pdu")
    assert await refusal(call) == (400, "M_INVALID_PARAM")
    assert await refusal(alice.state_of(room, "m.none")) == (404, "M_NOT_FOUND")
    assert await refusal(bob.state_of(room, "m.room.name")) == FORBIDDEN
    assert await refusal(bob.full_state(room)) == FORBIDDEN
    assert await refusal(bob.full_state(NOWHERE)) == FORBIDDEN


async def test_who_left_sees_the_state_as_they_left_it(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC, name="before")
    await bob.joins(room)
    await bob.leaves(room)
    await alice.sets_state(room, "m.room.name", {"name": "after"})
    await carol.joins(room)
    assert await bob.state_of(room, "m.room.name") == {"name": "before"}
    assert (await bob.full_state(room))["m.room.name", ""]["content"] == {
        "name": "before"
    }
    assert await bob.members(room) == {alice.user_id: "join", bob.user_id: "leave"}
    assert (await alice.state_of(room, "m.room.name")) == {"name": "after"}
    # Also when more was done to them afterwards.
    await alice.bans(room, bob)
    await alice.unbans(room, bob)
    await alice.invites(room, bob)
    assert await bob.state_of(room, "m.room.name") == {"name": "before"}


async def test_who_was_only_invited_sees_nothing(alice, bob):
    room = await alice.creates_room(name="secret")
    await alice.invites(room, bob)
    assert await refusal(bob.full_state(room)) == FORBIDDEN
    await bob.leaves(room)
    for call in (
        bob.full_state(room),
        bob.state_of(room, "m.room.name"),
        bob.members(room),
        bob.messages(room),
        bob.get(path("rooms", room, "joined_members")),
    ):
        assert await refusal(call) == FORBIDDEN


async def test_the_world_reads_what_is_world_readable(alice, bob):
    readable = {"history_visibility": "world_readable"}
    room = await alice.creates_room(
        initial_state=[{"type": "m.room.history_visibility", "content": readable}],
        name="shop window",
    )
    assert await bob.state_of(room, "m.room.name") == {"name": "shop window"}
    assert ("m.room.create", "") in await bob.full_state(room)
    assert await bob.members(room) == {alice.user_id: "join"}
    await alice.sends(room, "look")
    assert (await bob.messages(room))["chunk"][0]["content"]["body"] == "look"


# ── Members ──────────────────────────────────────────────────────────────────────────


async def test_members_can_be_chosen_by_membership(alice, bob, carol, person):
    room = await alice.creates_room(**PUBLIC)
    dave = await person()
    await bob.joins(room)
    await bob.leaves(room)
    await alice.bans(room, carol)
    await alice.invites(room, dave)

    async def members(**query: str) -> set[str]:
        reply = await alice.get(path("rooms", room, "members"), **query)
        return {event["state_key"] for event in reply["chunk"]}

    a, b, c, d = (each.user_id for each in (alice, bob, carol, dave))
    assert await members() == {a, b, c, d}
    assert await members(membership="join") == {a}
    assert await members(not_membership="leave") == {a, c, d}
    assert await members(membership="leave", not_membership="join") == {b, c, d}
    call = alice.get(path("rooms", room, "members"), membership="maybe")
    assert await refusal(call) == (400, "M_INVALID_PARAM")


async def test_members_at_a_token_are_those_of_then(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.syncs()
    then = alice.seen.since
    page = await alice.messages(room, limit=1)
    await bob.leaves(room)
    await carol.joins(room)
    for token in (then, page["start"], page["end"]):
        reply = await alice.get(path("rooms", room, "members"), at=token)
        found = {e["state_key"]: e["content"]["membership"] for e in reply["chunk"]}
        wanted = {alice.user_id: "join", bob.user_id: "join"}
        if token == page["end"]:  # before the last event, which was the join
            del wanted[bob.user_id]
        assert found == wanted, token
    call = alice.get(path("rooms", room, "members"), at="nonsense")
    assert await refusal(call) == (400, "M_INVALID_PARAM")


async def test_joined_members_come_with_name_and_avatar(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.sets_displayname("Bob")
    await bob.joins(room)
    await alice.invites(room, carol)
    content = {"membership": "join", "displayname": 7, "avatar_url": "mxc://a/b"}
    await alice.sets_state(room, "m.room.member", content, alice.user_id)
    reply = await bob.get(path("rooms", room, "joined_members"))
    assert reply["joined"] == {
        alice.user_id: {"avatar_url": "mxc://a/b"},
        bob.user_id: {"display_name": "Bob"},
    }
    await bob.leaves(room)
    call = bob.get(path("rooms", room, "joined_members"))
    assert await refusal(call) == FORBIDDEN


async def test_joined_rooms_are_those_one_is_in(alice, bob):
    assert await bob.joined_rooms() == []
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(3)]
    for room in rooms:
        await bob.joins(room)
    await bob.leaves(rooms[1])
    await alice.invites(await alice.creates_room(), bob)
    assert sorted(await bob.joined_rooms()) == sorted((rooms[0], rooms[2]))


async def test_another_device_has_its_own_transactions(hearth, alice):
    room = await alice.creates_room()
    first = await alice.sends(room, "x", txn_id="t")
    reply = await hearth.logs_in(alice.user_id)
    tablet = Client(reply.http, reply.base_url, reply.access_token)
    assert await tablet.sends(room, "x", txn_id="t") != first
