"""Whatever clients put into a room's state, others can read the room and use it."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import path
from tests.support.client import Client

NOWHERE = "!nowhere:hearth.test"
# Words that mean something where they stand, and words that do not.
WORDS = st.sampled_from(
    [
        *("", "\0", "join", "public", "restricted", "knock", "world_readable"),
        *("m.room_membership", "can_join", "#a:hearth.test", "#nonsense", NOWHERE),
        *("@alice:hearth.test", "mxc://a/b", "m.space", "text/plain", "🜂", "a" * 300),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | WORDS
KEYS = st.sampled_from(
    [
        *("join_rule", "allow", "type", "room_id", "history_visibility", "name"),
        *("guest_access", "topic", "m.topic", "m.text", "body", "mimetype", "url"),
        *("alias", "alt_aliases", "users", "events", "invite", "m.relates_to"),
        *("rel_type", "event_id", "displayname", "avatar_url", "membership", "\0"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=8,
)
CONTENTS = st.dictionaries(KEYS, VALUES, max_size=5)
KINDS = st.sampled_from(
    [
        *("m.room.join_rules", "m.room.history_visibility", "m.room.name"),
        *("m.room.guest_access", "m.room.topic", "m.room.avatar", "m.room.create"),
        *("m.room.canonical_alias", "m.room.power_levels", "m.room.server_acl"),
        *("m.room.encryption", "m.room.tombstone", "m.space.child", "m.x\0"),
    ]
)
STATE = st.lists(st.tuples(KINDS, CONTENTS), min_size=1, max_size=4)
quickly = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


async def asks(client: Client, method: str, where: str, body: Any = None) -> int:
    """The call's status, which is never our fault."""
    status, reply = await client.answer(method, where, body)
    assert status < 500, (method, where, body, reply)
    return status


@quickly
@given(version=st.sampled_from(["1", "6", "9", "11", "12"]), state=STATE)
async def test_any_state_leaves_the_room_usable(alice, bob, version, state):
    room = await alice.creates_room(room_version=version, visibility="public")
    for kind, content in state:
        await asks(alice, "PUT", path("rooms", room, "state", kind), content)
    for who in (alice, bob):
        for method, where in [
            ("POST", path("join", room)),
            ("GET", path("rooms", room, "state")),
            ("GET", path("rooms", room, "members")),
            ("GET", path("rooms", room, "joined_members")),
            ("GET", path("rooms", room, "aliases")),
            ("GET", path("rooms", room, "messages") + "?dir=b&limit=50"),
            ("GET", path("rooms", room, "messages") + "?dir=f&limit=50"),
            ("GET", path("publicRooms")),
            ("PUT", path("directory", "list", "room", room)),
            ("POST", path("publicRooms")),
            ("POST", path("knock", room)),
        ]:
            await asks(who, method, where, {} if method != "GET" else None)
    body = {"user_id": bob.user_id, "reason": "x"}
    for action in ("invite", "kick", "ban", "unban"):
        await asks(alice, "POST", path("rooms", room, action), body)
    await alice.leaves(room)
    await asks(alice, "POST", path("rooms", room, "forget"))


@quickly
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "room_version": st.sampled_from(["1", "10", "11", "12"]) | VALUES,
            "preset": st.sampled_from(["trusted_private_chat", "public_chat"]),
            "creation_content": CONTENTS,
            "power_level_content_override": CONTENTS,
            "initial_state": st.lists(
                st.fixed_dictionaries(
                    {"type": KINDS | WORDS, "content": CONTENTS},
                    optional={"state_key": WORDS},
                ),
                max_size=3,
            ),
            "invite": st.lists(WORDS, max_size=2),
            "name": WORDS,
            "topic": WORDS,
            "room_alias_name": st.text(max_size=4),
            "is_direct": SCALARS,
            "visibility": SCALARS,
        },
    )
)
async def test_any_room_is_made_or_refused(alice, body):
    before = await alice.joined_rooms()
    status = await asks(alice, "POST", path("createRoom"), body)
    made = len(await alice.joined_rooms()) - len(before)
    assert made == (1 if status == 200 else 0)


@quickly
@given(content=CONTENTS, said=SCALARS, key=WORDS)
async def test_any_member_event_is_taken_or_refused(alice, bob, content, said, key):
    room = await alice.creates_room(preset="public_chat")
    content = {**content, "membership": said}
    for target in (alice.user_id, bob.user_id, key):
        where = path("rooms", room, "state", "m.room.member", target)
        await asks(alice, "PUT", where, content)
    await asks(bob, "POST", path("join", room), {})
    await asks(alice, "GET", path("rooms", room, "joined_members"))
    await asks(bob, "GET", path("rooms", room, "members"))


@quickly
@given(content=CONTENTS, thread=WORDS)
async def test_any_relation_can_be_read_past(alice, content, thread):
    room = await alice.creates_room()
    first = await alice.sends(room, "root")
    relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": first}}
    for said in (content, {"m.relates_to": content}, {**content, **relation}):
        event_id = await alice.sends_event(room, "m.x", said)
        where = path("rooms", room, "receipt", "m.read", event_id)
        for body in ({}, {"thread_id": thread}, {"thread_id": first}):
            await asks(alice, "POST", where, body)
        await asks(alice, "GET", path("rooms", room, "context", event_id))


@pytest.mark.parametrize("junk", ["s", "t1", "s1t", "s1t1_", "\0", "s-1", "s1t2_3x"])
async def test_any_token_is_taken_or_refused(alice, junk):
    room = await alice.creates_room()
    for where in (
        path("rooms", room, "messages") + f"?dir=b&from={quote(junk)}",
        path("rooms", room, "messages") + f"?dir=f&to={quote(junk)}",
        path("rooms", room, "members") + f"?at={quote(junk)}",
        path("publicRooms") + f"?since={quote(junk)}",
    ):
        assert await asks(alice, "GET", where) == 400
