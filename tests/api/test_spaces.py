"""The tree of a space and the summary of a room, on one server."""

import pytest

from tests.support.api import Api, RefusedError, path
from tests.support.client import Client

UNSTABLE = "/_matrix/client/unstable/im.nheko.summary"


async def a_space(client: Client, **options) -> str:
    content = {"type": "m.space"}
    return await client.creates_room(creation_content=content, **options)


async def adds(client: Client, space: str, room: str, **content) -> None:
    content = {"via": [client.server_name], **content}
    await client.put(path("rooms", space, "state", "m.space.child", room), content)


async def tree(client: Client, space: str, **query) -> list[str]:
    """The names of all rooms of the tree, over all pages."""
    names = []
    token: dict[str, str] = {}
    while True:
        where = f"/_matrix/client/v1/rooms/{space}/hierarchy"
        reply = await client.get(where, **query, **token)
        names += [room.get("name", "") for room in reply["rooms"]]
        if "next_batch" not in reply:
            return names
        token = {"from": reply["next_batch"]}


async def summary(client: Api, room: str, form: str = "stable", **query):
    where = {
        "stable": f"/_matrix/client/v1/room_summary/{room}",
        "summary": f"{UNSTABLE}/summary/{room}",
        "rooms": f"{UNSTABLE}/rooms/{room}/summary",
    }[form]
    return await client.get(where.replace("#", "%23"), **query)


async def refused(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


PUBLIC = {"preset": "public_chat"}


async def test_the_tree_goes_depth_first_in_the_order_of_the_children(alice):
    space = await a_space(alice, name="root", **PUBLIC)
    inner = await a_space(alice, name="inner", **PUBLIC)
    rooms = [await alice.creates_room(name=f"r{i}", **PUBLIC) for i in range(5)]
    await adds(alice, space, rooms[0])
    await adds(alice, space, rooms[1])
    await adds(alice, space, rooms[2], order="b")
    await adds(alice, space, inner, order="a")
    await adds(alice, space, rooms[3], order="not\tvalid")
    await adds(alice, inner, rooms[4])
    await adds(alice, inner, space)  # a circle
    await alice.put(
        path("rooms", space, "state", "m.space.child", rooms[1]), {"gone": True}
    )
    order = ["root", "inner", "r4", "r2", "r0", "r3"]
    assert await tree(alice, space) == order
    for limit in (1, 2, 5, 6):
        assert await tree(alice, space, limit=limit) == order
    assert await tree(alice, space, max_depth=1) == [n for n in order if n != "r4"]
    assert await tree(alice, space, max_depth=0) == ["root"]


async def test_only_suggested_rooms_when_so_asked(alice):
    space = await a_space(alice, name="root")
    for name, suggested in (("yes", True), ("no", False), ("odd", "true")):
        room = await alice.creates_room(name=name)
        await adds(alice, space, room, suggested=suggested)
    assert await tree(alice, space, suggested_only="true") == ["root", "yes"]


async def test_a_room_of_the_tree_is_described(alice):
    space = await a_space(alice, name="root")
    room = await alice.creates_room(
        name="secret",
        initial_state=[
            {
                "type": "m.room.encryption",
                "content": {"algorithm": "m.megolm.v1.aes-sha2"},
            }
        ],
        room_version="10",
    )
    await adds(alice, space, room)
    where = f"/_matrix/client/v1/rooms/{space}/hierarchy"
    top, child = (await alice.get(where))["rooms"]
    assert top["room_type"] == "m.space"
    (event,) = top["children_state"]
    assert event.keys() == {
        *("type", "state_key", "sender", "content", "origin_server_ts"),
    }
    assert event["state_key"] == room
    assert child["encryption"] == "m.megolm.v1.aes-sha2"
    assert child["room_version"] == "10"
    assert child["children_state"] == []
    assert child["join_rule"] == "invite"


async def test_one_sees_the_rooms_that_one_may_join_or_read(alice, bob):
    space = await a_space(alice, name="root", **PUBLIC)
    restricted = {
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": space}],
    }
    worldly = {"history_visibility": "world_readable"}
    states = {
        "private": [],
        "restricted": [{"type": "m.room.join_rules", "content": restricted}],
        "knock": [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
        "readable": [{"type": "m.room.history_visibility", "content": worldly}],
        "invited": [],
    }
    rooms = {}
    for name, state in states.items():
        rooms[name] = await alice.creates_room(
            name=name, initial_state=state, room_version="10"
        )
        await adds(alice, space, rooms[name])
    await alice.invites(rooms["invited"], bob)
    assert await tree(bob, space) == ["root", "knock", "readable", "invited"]
    await bob.joins(space)
    seen = ["root", "restricted", "knock", "readable", "invited"]
    assert await tree(bob, space) == seen
    assert (await summary(bob, rooms["restricted"]))["allowed_room_ids"] == [space]
    assert await refused(tree(bob, rooms["private"])) == (403, "M_FORBIDDEN")
    assert (await refused(summary(bob, rooms["private"])))[0] == 404


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"max_depth": -1},
        {"from": "x"},
        {"from": "h0_3_1", "max_depth": 4},
        {"from": "h1_30_1"},
    ],
)
async def test_bad_questions(alice, query):
    space = await a_space(alice)
    assert await refused(tree(alice, space, **query)) == (400, "M_INVALID_PARAM")


async def test_a_room_that_nobody_knows(alice):
    assert (await refused(tree(alice, "!nothing:hearth.test")))[0] == 403
    assert await refused(summary(alice, "!nothing:hearth.test")) == (404, "M_NOT_FOUND")


# ── Summaries ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["stable", "summary", "rooms"])
async def test_a_summary_by_each_path(alice, bob, form):
    name = f"summary-{form}"
    room = await alice.creates_room(name="N", room_alias_name=name, **PUBLIC)
    alias = f"#{name}:{alice.server_name}"
    nobody = Api(alice.http, alice.base_url)
    for given in (room, alias):
        found = await summary(nobody, given, form)
        assert found["room_id"] == room
        assert (found["name"], found["num_joined_members"]) == ("N", 1)
        assert "membership" not in found
    assert (await summary(alice, room, form))["membership"] == "join"
    assert (await summary(bob, room, form))["membership"] == "leave"


async def test_who_is_not_known_sees_only_what_is_open(alice):
    nobody = Api(alice.http, alice.base_url)
    room = await alice.creates_room()
    assert (await refused(summary(nobody, room)))[0] == 404
    assert (await summary(alice, room))["membership"] == "join"


async def test_the_flag_for_types_of_rooms_is_there_and_true(alice):
    features = (await alice.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.msc3827.stable"] is True
    space = await a_space(alice, visibility="public", name="typed")
    await alice.creates_room(visibility="public", name="untyped")
    found = await alice.post(
        path("publicRooms"), {"filter": {"room_types": ["m.space"]}, "limit": 500}
    )
    assert space in [room["room_id"] for room in found["chunk"]]
    assert all(room["room_type"] == "m.space" for room in found["chunk"])
