"""POST /rooms/{roomId}/upgrade, and what follows users into the new room."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client


async def upgrade(client: Client, room: str, version: str = "11", **more) -> str:
    where = path("rooms", room, "upgrade")
    reply = await client.post(where, {"new_version": version, **more})
    return reply["replacement_room"]


async def content_of(client: Client, room: str) -> dict[tuple[str, str], dict]:
    return {k: e["content"] for k, e in (await client.full_state(room)).items()}


async def put_state(client, room, kind, content, key=""):
    await client.put(path("rooms", room, "state", kind, key), content)


async def test_the_new_room_is_like_the_old_one(alice, bob, carol):
    old = await alice.creates_room(
        preset="public_chat",
        room_version="10",
        name="Name",
        topic="Topic",
        creation_content={"type": "m.space", "m.federate": False},
        power_level_content_override={"users_default": 5, "events": {"m.x": 7}},
        initial_state=[
            {"type": "m.room.server_acl", "content": {"allow": ["*"]}},
            {"type": "m.room.retention", "content": {"max_lifetime": 10**10}},
            {
                "type": "m.space.child",
                "state_key": "!c:x.test",
                "content": {"via": ["x.test"]},
            },
            {
                "type": "m.room.image_pack",
                "state_key": "cats",
                "content": {"images": {}},
            },
            {"type": "org.example.mine", "content": {"by": "alice"}},
        ],
    )
    await alice.bans(old, bob, "rude")
    await carol.joins(old)
    before = await content_of(alice, old)
    new = await upgrade(alice, old, "11")
    after = await content_of(alice, new)
    create = after["m.room.create", ""]
    assert create["room_version"] == "11"
    assert create["type"] == "m.space"
    assert create["m.federate"] is False
    assert create["predecessor"]["room_id"] == old
    assert create["predecessor"]["event_id"].startswith("$")
    for kind in ("name", "topic", "server_acl", "retention", "join_rules"):
        key = (f"m.room.{kind}", "")
        assert after[key] == before[key]
    levels = ("m.room.power_levels", "")
    assert after[levels] == before[levels]
    assert after["m.space.child", "!c:x.test"] == {"via": ["x.test"]}
    assert after["m.room.image_pack", "cats"] == {"images": {}}
    ban = after["m.room.member", bob.user_id]
    assert (ban["membership"], ban["reason"]) == ("ban", "rude")
    assert ("m.room.member", carol.user_id) not in after
    assert ("org.example.mine", "") not in after
    with pytest.raises(RefusedError):
        await bob.joins(new)


async def test_the_old_room_is_closed(alice, bob):
    old = await alice.creates_room(preset="public_chat", room_version="10")
    await bob.joins(old)
    new = await upgrade(alice, old)
    state = await content_of(bob, old)
    assert state["m.room.tombstone", ""]["replacement_room"] == new
    levels = state["m.room.power_levels", ""]
    assert (levels["events_default"], levels["invite"]) == (50, 50)
    with pytest.raises(RefusedError) as refused:
        await bob.sends(old, "still here")
    assert refused.value.status == 403
    assert await bob.joins(new) == new


async def test_names_and_the_directory_lead_to_the_new_room(alice, bob):
    name = "upgraded"
    old = await alice.creates_room(
        preset="public_chat", visibility="public", room_alias_name=name
    )
    alias = f"#{name}:{alice.server_name}"
    new = await upgrade(alice, old, "12")
    reply = await bob.get(path("directory", "room", alias))
    assert reply["room_id"] == new
    visibility = [
        (await bob.get(path("directory", "list", "room", room)))["visibility"]
        for room in (old, new)
    ]
    assert visibility == ["private", "public"]
    key = ("m.room.canonical_alias", "")
    assert (await content_of(alice, new))[key] == {"alias": alias}
    assert (await content_of(alice, old))[key] == {}


async def test_to_version_12_creators_are_those_named(alice, bob, carol):
    old = await alice.creates_room(preset="public_chat", room_version="11")
    levels = await alice.state_of(old, "m.room.power_levels")
    levels["users"] |= {bob.user_id: 100, carol.user_id: 50}
    await put_state(alice, old, "m.room.power_levels", levels)
    new = await upgrade(alice, old, "12", additional_creators=[bob.user_id])
    state = await alice.full_state(new)
    create = state["m.room.create", ""]
    assert new == "!" + create["event_id"][1:]
    assert create["content"]["additional_creators"] == [bob.user_id]
    assert create["content"]["predecessor"] == {"room_id": old}
    levels = state["m.room.power_levels", ""]["content"]
    assert levels["users"] == {carol.user_id: 50}
    await bob.joins(new)
    await put_state(bob, new, "m.room.name", {"name": "mine too"})


async def test_from_version_12_creators_keep_power(alice, bob):
    old = await alice.creates_room(
        preset="trusted_private_chat", room_version="12", invite=[bob.user_id]
    )
    new = await upgrade(alice, old, "11", additional_creators=["ignored"])
    users = (await alice.state_of(new, "m.room.power_levels"))["users"]
    assert users.keys() == {alice.user_id, bob.user_id}
    assert await upgrade(alice, new, "10")


async def test_levels_written_as_text_become_numbers(alice):
    old = await alice.creates_room(room_version="9")
    levels = await alice.state_of(old, "m.room.power_levels")
    levels |= {"invite": "7", "users": {alice.user_id: "100"}}
    await put_state(alice, old, "m.room.power_levels", levels)
    new = await upgrade(alice, old, "10")
    after = await alice.state_of(new, "m.room.power_levels")
    assert (after["invite"], after["users"]) == (7, {alice.user_id: 100})


async def test_a_join_rule_that_the_version_lacks_becomes_stricter(alice):
    rule = {"join_rule": "knock_restricted", "allow": []}
    old = await alice.creates_room(
        room_version="10",
        initial_state=[{"type": "m.room.join_rules", "content": rule}],
    )
    new = await upgrade(alice, old, "9")
    assert (await alice.state_of(new, "m.room.join_rules"))["join_rule"] == "restricted"
    new = await upgrade(alice, new, "6")
    assert await alice.state_of(new, "m.room.join_rules") == {"join_rule": "invite"}


async def test_who_may_not_close_the_room_is_refused(alice, bob, carol):
    old = await alice.creates_room(preset="public_chat")
    await bob.joins(old)
    for client in (bob, carol):
        with pytest.raises(RefusedError) as refused:
            await upgrade(client, old)
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    assert ("m.room.tombstone", "") not in await alice.full_state(old)


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"new_version": "no such"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({}, "M_BAD_JSON"),
        ({"new_version": 11}, "M_BAD_JSON"),
        ({"new_version": "12", "additional_creators": ["bob"]}, "M_INVALID_PARAM"),
        ({"new_version": "12", "additional_creators": [1]}, "M_BAD_JSON"),
    ],
)
async def test_bad_requests(alice, body, errcode):
    old = await alice.creates_room()
    status, reply = await alice.answer("POST", path("rooms", old, "upgrade"), body)
    assert (status, reply["errcode"]) == (400, errcode)


# ── What users keep ──────────────────────────────────────────────────────────────────


async def keeps(client: Client, room: str, other: Client) -> None:
    user = path("user", client.user_id)
    await client.put(f"{user}/rooms/{room}/tags/m.favourite", {"order": 0.5})
    await client.put(f"{user}/account_data/m.direct", {other.user_id: [room]})
    await client.put(path("pushrules", "global", "room", room), {"actions": ["notify"]})
    mute = {
        "actions": [],
        "conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}],
    }
    await client.put(path("pushrules", "global", "override", room), mute)


async def check_follows(client: Client, old: str, new: str, other: Client) -> None:
    user = path("user", client.user_id)
    tags = await client.get(f"{user}/rooms/{new}/tags")
    assert tags == {"tags": {"m.favourite": {"order": 0.5}}}
    direct = await client.get(f"{user}/account_data/m.direct")
    assert direct == {other.user_id: [old, new]}
    assert await client.get(path("pushrules", "global", "room", new))
    rule = await client.get(path("pushrules", "global", "override", new))
    assert rule["conditions"][0]["pattern"] == new


async def test_what_users_keep_follows_them(alice, bob):
    old = await alice.creates_room(preset="public_chat")
    await bob.joins(old)
    await keeps(alice, old, bob)
    await keeps(bob, old, alice)
    new = await upgrade(alice, old)
    await check_follows(alice, old, new, bob)
    await bob.joins(new)
    await check_follows(bob, old, new, alice)


async def test_it_follows_over_rooms_that_the_user_missed(alice, bob):
    old = await alice.creates_room(preset="public_chat")
    await bob.joins(old)
    await keeps(bob, old, alice)
    newest = await upgrade(alice, await upgrade(alice, old))
    await bob.joins(newest)
    await check_follows(bob, old, newest, alice)


async def test_nothing_follows_into_a_room_that_only_claims_to_replace(alice, bob):
    old = await alice.creates_room()
    await keeps(alice, old, bob)
    new = await bob.creates_room(
        preset="public_chat", creation_content={"predecessor": {"room_id": old}}
    )
    await alice.joins(new)
    tags = await alice.get(f"{path('user', alice.user_id)}/rooms/{new}/tags")
    assert tags == {"tags": {}}
