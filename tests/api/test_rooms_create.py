"""POST /createRoom."""

import asyncio

import pytest

from homeserver.errors import MatrixError
from tests.support.api import RefusedError, path
from tests.support.client import Client

VERSIONS = [str(n) for n in range(1, 13)]


async def timeline(client: Client, room: str) -> list[tuple[str, str]]:
    """(type, state_key) of all events, in order."""
    return [(e["type"], e["state_key"]) for e in await client.history(room)]


async def refused(client: Client, **options: object) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await client.creates_room(**options)
    return error.value.status, error.value.errcode


# ── Events ───────────────────────────────────────────────────────────────────────────


async def test_the_events_come_in_the_order_of_the_specification(alice, bob):
    room = await alice.creates_room(
        preset="public_chat",
        room_alias_name="in order",
        name="Name",
        topic="Topic",
        invite=[bob.user_id],
        initial_state=[
            {"type": "m.x", "state_key": "k", "content": {"x": 1}},
            {"type": "m.room.avatar", "content": {"url": "mxc://a/b"}},
        ],
    )
    assert await timeline(alice, room) == [
        ("m.room.create", ""),
        ("m.room.member", alice.user_id),
        ("m.room.power_levels", ""),
        ("m.room.canonical_alias", ""),
        ("m.room.join_rules", ""),
        ("m.room.history_visibility", ""),
        ("m.room.guest_access", ""),
        ("m.x", "k"),
        ("m.room.avatar", ""),
        ("m.room.name", ""),
        ("m.room.topic", ""),
        ("m.room.member", bob.user_id),
    ]


@pytest.mark.parametrize(
    ("preset", "join_rule", "guest_access"),
    [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", "forbidden"),
    ],
)
async def test_each_preset_sets_its_rules(alice, preset, join_rule, guest_access):
    room = await alice.creates_room(preset=preset)
    state = await alice.full_state(room)
    content = {kind: event["content"] for (kind, _), event in state.items()}
    assert content["m.room.join_rules"] == {"join_rule": join_rule}
    assert content["m.room.guest_access"] == {"guest_access": guest_access}
    visibility = content["m.room.history_visibility"]
    assert visibility == {"history_visibility": "shared"}


async def test_without_a_preset_the_visibility_chooses_one(alice):
    for visibility, join_rule in [("public", "public"), ("private", "invite")]:
        room = await alice.creates_room(visibility=visibility)
        rules = await alice.state_of(room, "m.room.join_rules")
        assert rules == {"join_rule": join_rule}
    room = await alice.creates_room(visibility="public", preset="private_chat")
    assert await alice.state_of(room, "m.room.join_rules") == {"join_rule": "invite"}


async def test_initial_state_goes_before_the_preset_and_after_name_and_topic(alice):
    room = await alice.creates_room(
        preset="private_chat",
        name="wins",
        topic="wins",
        initial_state=[
            {"type": "m.room.join_rules", "content": {"join_rule": "public"}},
            {"type": "m.room.name", "content": {"name": "loses"}},
            {"type": "m.room.topic", "content": {"topic": "loses"}},
            {"type": "m.room.name", "state_key": "other", "content": {"name": "x"}},
        ],
    )
    kinds = [kind for kind in await timeline(alice, room) if kind[1] == ""]
    assert len(kinds) == len(set(kinds))
    assert await alice.state_of(room, "m.room.join_rules") == {"join_rule": "public"}
    assert await alice.state_of(room, "m.room.name") == {"name": "wins"}
    assert await alice.state_of(room, "m.room.topic") == {
        "topic": "wins",
        "m.topic": {"m.text": [{"body": "wins"}]},
    }
    assert await alice.state_of(room, "m.room.name", "other") == {"name": "x"}


async def test_the_creator_comes_with_name_and_avatar_and_so_do_invitees(
    hearth, alice, bob
):
    async with hearth.ctx.db.transaction() as tx:
        for user, field, value in [
            (alice, "displayname", '"Alice"'),
            (alice, "avatar_url", '"mxc://a/a"'),
            (bob, "displayname", '"Bob"'),
            (bob, "m.tz", '"UTC"'),
        ]:
            await tx.execute(
                "INSERT INTO profiles VALUES ($1, $2, $3)", user.user_id, field, value
            )
    room = await alice.creates_room(invite=[bob.user_id], is_direct=True)
    assert await alice.state_of(room, "m.room.member", alice.user_id) == {
        "membership": "join",
        "displayname": "Alice",
        "avatar_url": "mxc://a/a",
    }
    assert await alice.state_of(room, "m.room.member", bob.user_id) == {
        "membership": "invite",
        "displayname": "Bob",
        "is_direct": True,
    }


# ── Versions and power ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_room_of_each_version(alice, bob, version):
    room = await alice.creates_room(
        room_version=version,
        preset="public_chat",
        creation_content={
            "creator": "@mallory:evil.test",
            "room_version": "99",
            "type": "m.space",
        },
    )
    create = await alice.state_of(room, "m.room.create")
    assert create["room_version"] == version
    assert create["type"] == "m.space"
    assert create.get("creator") == (alice.user_id if int(version) <= 10 else None)
    levels = await alice.state_of(room, "m.room.power_levels")
    assert levels["users"] == ({alice.user_id: 100} if int(version) < 12 else {})
    tombstone = levels["events"]["m.room.tombstone"]
    assert tombstone == (100 if int(version) < 12 else 150)
    await bob.joins(room)
    await bob.sends(room, "hello")
    assert (":" in room) is (int(version) < 12)


async def test_the_default_version_is_the_configured_one(alice):
    room = await alice.creates_room()
    assert (await alice.state_of(room, "m.room.create"))["room_version"] == "12"


async def test_trusted_invitees_have_the_creators_power(alice, bob, carol):
    room = await alice.creates_room(
        preset="trusted_private_chat", room_version="11", invite=[bob.user_id]
    )
    levels = await alice.state_of(room, "m.room.power_levels")
    assert levels["users"] == {alice.user_id: 100, bob.user_id: 100}
    room = await alice.creates_room(
        preset="trusted_private_chat",
        room_version="12",
        invite=[bob.user_id, carol.user_id],
        creation_content={"additional_creators": [carol.user_id, "@x:other.test"]},
    )
    create = await alice.state_of(room, "m.room.create")
    assert create["additional_creators"] == [
        carol.user_id,
        "@x:other.test",
        bob.user_id,
    ]
    levels = await alice.state_of(room, "m.room.power_levels")
    assert levels["users"] == {}
    await bob.joins(room)
    await bob.sets_state(room, "m.room.tombstone", {"body": "by a creator"})


async def test_the_override_lies_on_top_of_the_default_power_levels(alice):
    users = {alice.user_id: 120, "@bob:b.test": 77}
    override = {"users": users, "state_default": 60, "m.custom": 1}
    room = await alice.creates_room(
        room_version="11", power_level_content_override=override
    )
    levels = await alice.state_of(room, "m.room.power_levels")
    assert override.items() <= levels.items()
    assert levels["ban"] == 50


@pytest.mark.parametrize(
    ("override", "tombstone"),
    [
        ({}, 150),
        ({"state_default": 200}, 250),
        ({"events": {"m.room.name": 0}}, 150),
        ({"events": {"m.room.tombstone": 10}}, 10),
        ({"state_default": 2**53 - 1}, 2**53 - 1),
    ],
)
async def test_tombstones_need_more_than_other_state(alice, override, tombstone):
    room = await alice.creates_room(
        room_version="12", power_level_content_override=override
    )
    levels = await alice.state_of(room, "m.room.power_levels")
    assert levels["events"]["m.room.tombstone"] == tombstone


# ── Refusals ─────────────────────────────────────────────────────────────────────────


async def test_what_cannot_be_is_refused(alice, bob):
    us = alice.user_id
    for options, errcode in [
        ({"room_version": "13"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": ""}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": 12}, "M_BAD_JSON"),
        ({"preset": "party"}, "M_BAD_JSON"),
        ({"visibility": "maybe"}, "M_BAD_JSON"),
        ({"invite": "@bob:hearth.test"}, "M_BAD_JSON"),
        ({"invite": ["bob"]}, "M_INVALID_PARAM"),
        ({"invite": ["@bob:hearth.test\0"]}, "M_INVALID_PARAM"),
        ({"name": 1}, "M_BAD_JSON"),
        ({"topic": 1.5}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "m.x"}]}, "M_BAD_JSON"),
        ({"initial_state": [{"content": {}}]}, "M_BAD_JSON"),
        ({"initial_state": {}}, "M_BAD_JSON"),
        ({"creation_content": []}, "M_BAD_JSON"),
        ({"power_level_content_override": 7}, "M_BAD_JSON"),
        ({"room_alias_name": ""}, "M_INVALID_PARAM"),
        ({"room_alias_name": "a:b"}, "M_INVALID_PARAM"),
        ({"room_alias_name": "a\0"}, "M_INVALID_PARAM"),
        ({"room_alias_name": "a" * 300}, "M_INVALID_PARAM"),
        ({"power_level_content_override": {"users": {us: 100}}}, STATE),
        ({"power_level_content_override": {"ban": "50"}}, STATE),
        ({"power_level_content_override": {"state_default": "50"}}, STATE),
        ({"creation_content": {"additional_creators": [7]}}, STATE),
        ({"creation_content": {"additional_creators": "bob"}}, STATE),
        ({"initial_state": [{"type": "m.room.create", "content": {}}]}, STATE),
        (
            {
                "room_version": "11",
                "name": "too high",
                "power_level_content_override": {
                    "users": {us: 10},
                    "events": {"m.room.name": 50},
                },
            },
            STATE,
        ),
        (
            {
                "initial_state": [
                    {
                        "type": "m.room.member",
                        "state_key": bob.user_id,
                        "content": {"membership": "invite"},
                    }
                ]
            },
            STATE,
        ),
    ]:
        assert await refused(alice, **options) == (400, errcode), options
    assert await alice.joined_rooms() == []


STATE = "M_INVALID_ROOM_STATE"


async def test_third_party_identifiers_are_refused_with_the_reason(alice):
    invite = {
        "id_server": "id.test",
        "id_access_token": "t",
        "medium": "email",
        "address": "bob@example.org",
    }
    assert await refused(alice, invite_3pid=[invite]) == (403, "M_SERVER_NOT_TRUSTED")


async def test_a_closed_room_cannot_invite_users_of_other_servers(alice):
    assert await refused(
        alice, invite=["@bob:b.test"], creation_content={"m.federate": False}
    ) == (403, "M_FORBIDDEN")


async def test_an_event_of_the_beginning_may_not_be_too_large(alice):
    content = {"long": "x" * 66_000}
    status, errcode = await refused(
        alice, initial_state=[{"type": "m.x", "content": content}]
    )
    assert (status, errcode) == (413, "M_TOO_LARGE")
    invitees = [f"@guest{n}:hearth.test" for n in range(501)]
    assert await refused(alice, invite=invitees) == (413, "M_TOO_LARGE")


async def test_a_body_that_is_no_object_is_refused(alice):
    for body, errcode in [([], "M_BAD_JSON"), ("x", "M_BAD_JSON")]:
        status, reply = await alice.answer("POST", path("createRoom"), body)
        assert (status, reply["errcode"]) == (400, errcode)
    status, reply = await alice.answer("POST", path("createRoom"))
    assert (status, reply["errcode"]) == (400, "M_NOT_JSON")


# ── Alias and directory ──────────────────────────────────────────────────────────────


async def test_a_room_made_with_an_alias_is_found_by_it(alice, bob):
    room = await alice.creates_room(
        preset="public_chat", room_alias_name="made with", visibility="public"
    )
    alias = "#made with:hearth.test"
    assert await alice.state_of(room, "m.room.canonical_alias") == {"alias": alias}
    assert await bob.joins(alias) == room
    assert await alice.resolves(alias) == {"room_id": room, "servers": ["hearth.test"]}
    assert room in [each["room_id"] for each in await bob.public_rooms()]


async def test_an_alias_names_one_room_however_many_ask_at_once(alice, bob):
    asked = [
        user.answer("POST", path("createRoom"), {"room_alias_name": "contested"})
        for user in (alice, bob)
        for _ in range(5)
    ]
    answers = await asyncio.gather(*asked)
    made = [reply["room_id"] for status, reply in answers if status == 200]
    refusals = [(s, reply["errcode"]) for s, reply in answers if s != 200]
    assert refusals == [(400, "M_ROOM_IN_USE")] * 9
    assert len(made) == 1
    rooms = await alice.joined_rooms() + await bob.joined_rooms()
    assert rooms == made, "a refused room must not exist"


async def test_a_refused_room_leaves_no_alias_behind(alice):
    assert await refused(
        alice,
        room_alias_name="never made",
        visibility="public",
        initial_state=[{"type": "m.room.create", "content": {}}],
    ) == (400, STATE)
    status, reply = await alice.answer(
        "GET", path("directory", "room", "#never made:hearth.test")
    )
    assert (status, reply["errcode"]) == (404, "M_NOT_FOUND")


async def test_a_room_that_cannot_be_written_gives_its_alias_back(
    hearth, alice, monkeypatch
):
    def fail(*_: object) -> None:
        raise MatrixError(503, "M_UNKNOWN", "The database is away.")

    monkeypatch.setattr(type(hearth.ctx.live.committer), "submit", fail)
    assert (await refused(alice, room_alias_name="given back"))[0] == 503
    monkeypatch.undo()
    await alice.creates_room(room_alias_name="given back")
