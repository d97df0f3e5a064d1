"""Spaces and summaries across servers, and upgrades that others follow."""

import pytest

from tests.support.api import Api, RefusedError, path
from tests.support.client import Client
from tests.support.sites import Site

PUBLIC = {"preset": "public_chat"}
SPACE = {"creation_content": {"type": "m.space"}}


async def adds(client: Client, space: str, room: str, *via: str) -> None:
    content = {"via": [*via] or [client.server_name]}
    await client.put(path("rooms", space, "state", "m.space.child", room), content)


async def tree(client: Client, space: str) -> list[str]:
    where = f"/_matrix/client/v1/rooms/{space}/hierarchy"
    return [room.get("name", "") for room in (await client.get(where))["rooms"]]


async def test_a_tree_that_spans_servers(
    a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    space = await alice.creates_room(name="root", **PUBLIC, **SPACE)
    inner = await bob.creates_room(name="inner", **PUBLIC, **SPACE)
    leaf = await bob.creates_room(name="leaf", **PUBLIC)
    hidden = await bob.creates_room(name="hidden")
    await adds(alice, space, inner, b.name)
    await adds(bob, inner, leaf)
    await adds(bob, inner, hidden)
    await carol.joins(space, via=alice)
    assert await tree(alice, space) == ["root", "inner", "leaf"]
    assert await tree(carol, space) == ["root", "inner", "leaf"]
    await bob.invites(hidden, carol)
    await carol.is_shown(hidden, "invite")
    # What was told of the tree is kept for a while; the invite itself tells the room.
    where = f"/_matrix/client/v1/room_summary/{hidden}"
    seen = await carol.get(where, via=b.name)
    assert (seen["name"], seen["membership"]) == ("hidden", "invite")


async def test_a_space_of_which_only_members_of_another_server_know(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    space = await alice.creates_room(name="root", **SPACE)
    room = await alice.creates_room(name="inside")
    await adds(alice, space, room)
    with pytest.raises(RefusedError) as refused:
        await tree(bob, space)
    assert refused.value.status == 403


async def test_a_summary_comes_from_a_server_that_is_named(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(name="far", room_alias_name="far", **PUBLIC)
    where = f"/_matrix/client/v1/room_summary/{room}"
    for client in (bob, Api(bob.http, bob.base_url)):
        assert (await client.get(where, via=a.name))["name"] == "far"
    by_alias = f"/_matrix/client/v1/room_summary/%23far:{a.name}"
    assert (await bob.get(by_alias))["room_id"] == room
    private = await alice.creates_room()
    with pytest.raises(RefusedError) as refused:
        await bob.get(f"/_matrix/client/v1/room_summary/{private}", via=a.name)
    assert refused.value.status == 404


async def test_a_user_of_another_server_follows_an_upgrade(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    old = await alice.creates_room(**PUBLIC, room_version="10")
    await bob.joins(old, via=alice)
    user = path("user", bob.user_id)
    await bob.put(f"{user}/rooms/{old}/tags/m.favourite", {"order": 0.1})
    reply = await alice.post(path("rooms", old, "upgrade"), {"new_version": "12"})
    new = reply["replacement_room"]
    await bob.sees_state(old, "m.room.tombstone", {"replacement_room": new})
    await bob.joins(new, via=alice)
    tags = await bob.get(f"{user}/rooms/{new}/tags")
    assert tags == {"tags": {"m.favourite": {"order": 0.1}}}


async def test_a_server_refuses_invites_that_its_user_blocks(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    where = path("user", bob.user_id, "account_data", "m.invite_permission_config")
    await bob.put(where, {"default_action": "block"})
    room = await alice.creates_room()
    with pytest.raises(RefusedError) as refused:
        await alice.invites(room, bob)
    assert (refused.value.status, refused.value.errcode) == (403, "M_INVITE_BLOCKED")
    await bob.put(where, {})
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
