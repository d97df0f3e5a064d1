"""Aliases and the list of published rooms."""

import asyncio

import pytest

from federation.query_bodies import PublicRoomsQuery
from homeserver.directory.listing import list_published
from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")
NOT_FOUND = (404, "M_NOT_FOUND")
INVALID = (400, "M_INVALID_PARAM")
NOWHERE = "!nowhere:hearth.test"


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


# ── Aliases ──────────────────────────────────────────────────────────────────────────


async def test_an_alias_names_a_room_until_it_is_deleted(hearth, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    alias = "#Ünïcode / and %25 spaces:hearth.test"
    await alice.sets_alias(room, alias)
    found = {"room_id": room, "servers": ["hearth.test"]}
    assert await bob.resolves(alias) == found
    assert await hearth.nobody.get(path("directory", "room", alias)) == found
    assert await refusal(alice.sets_alias(room, alias)) == (409, "M_UNKNOWN")
    other = await bob.creates_room()
    assert await refusal(bob.sets_alias(other, alias)) == (409, "M_UNKNOWN")
    await alice.deletes_alias(alias)
    assert await refusal(bob.resolves(alias)) == NOT_FOUND
    assert await refusal(alice.deletes_alias(alias)) == NOT_FOUND
    await bob.sets_alias(other, alias)


async def test_only_members_name_a_room_and_only_with_good_aliases(alice, bob):
    room = await alice.creates_room()
    assert await refusal(bob.sets_alias(room, "#bobs:hearth.test")) == FORBIDDEN
    assert await refusal(bob.sets_alias(NOWHERE, "#x:hearth.test")) == FORBIDDEN
    for alias in ("#a:other.test", "nonsense", "#no-server", "@a:hearth.test"):
        assert await refusal(alice.sets_alias(room, alias)) == INVALID
    assert await refusal(alice.sets_alias(room, "#" + "a" * 260 + ":b")) == INVALID
    where = path("directory", "room", "#fine:hearth.test")
    assert await refusal(alice.put(where, {})) == (400, "M_BAD_JSON")
    assert await refusal(alice.put(where, {"room_id": 7})) == (400, "M_BAD_JSON")
    assert await refusal(alice.put(where, {"room_id": "x"})) == INVALID
    assert await refusal(alice.resolves("nonsense")) == INVALID


async def test_an_alias_is_given_once_however_many_ask(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    where = path("directory", "room", "#hot:hearth.test")
    asked = [each.answer("PUT", where, {"room_id": room}) for each in (alice, bob) * 5]
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200, *[409] * 9]


async def test_who_may_delete_an_alias(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    for name in ("one", "two", "three"):
        await bob.sets_alias(room, f"#{name}-of-bob:hearth.test")
    assert await refusal(carol.deletes_alias("#one-of-bob:hearth.test")) == FORBIDDEN
    await bob.deletes_alias("#one-of-bob:hearth.test")
    await alice.deletes_alias("#two-of-bob:hearth.test")  # has the power
    await bob.leaves(room)
    await bob.deletes_alias("#three-of-bob:hearth.test")


async def test_a_deleted_alias_leaves_the_rooms_state_if_the_user_may(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    kept, hers, his = (f"#{n}-in-state:hearth.test" for n in ("kept", "hers", "his"))
    await alice.sets_alias(room, kept)
    await alice.sets_alias(room, hers)
    await bob.sets_alias(room, his)
    content = {"alias": hers, "alt_aliases": [kept, his, hers], "x": 1}
    await alice.sets_state(room, "m.room.canonical_alias", content)
    await alice.deletes_alias(hers)
    left = {"alt_aliases": [kept, his], "x": 1}
    assert await alice.state_of(room, "m.room.canonical_alias") == left
    await bob.deletes_alias(his)  # may not change the state
    assert await alice.state_of(room, "m.room.canonical_alias") == left


async def test_members_see_a_rooms_aliases(alice, bob):
    room = await alice.creates_room()
    where = path("rooms", room, "aliases")
    assert await alice.get(where) == {"aliases": []}
    await alice.sets_alias(room, "#a-listed:hearth.test")
    await alice.sets_alias(room, "#b-listed:hearth.test")
    assert await alice.get(where) == {
        "aliases": ["#a-listed:hearth.test", "#b-listed:hearth.test"]
    }
    assert await refusal(bob.get(where)) == FORBIDDEN
    assert await refusal(bob.get(path("rooms", NOWHERE, "aliases"))) == FORBIDDEN
    readable = {"history_visibility": "world_readable"}
    await alice.sets_state(room, "m.room.history_visibility", readable)
    assert len((await bob.get(where))["aliases"]) == 2


# ── Whether a room is published ──────────────────────────────────────────────────────


async def test_a_room_is_published_by_those_with_the_power(hearth, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    where = path("directory", "list", "room", room)
    assert await hearth.nobody.get(where) == {"visibility": "private"}
    assert await refusal(bob.publishes(room)) == FORBIDDEN
    await alice.put(where, {})  # public is the default
    assert await hearth.nobody.get(where) == {"visibility": "public"}
    await alice.publishes(room)  # again
    await alice.put(where, {"visibility": "private"})
    assert await hearth.nobody.get(where) == {"visibility": "private"}
    assert await refusal(alice.put(where, {"visibility": 7})) == (400, "M_BAD_JSON")
    nowhere = path("directory", "list", "room", NOWHERE)
    assert await refusal(alice.put(nowhere, {})) == NOT_FOUND
    assert await refusal(hearth.nobody.get(nowhere)) == NOT_FOUND


# ── The list ─────────────────────────────────────────────────────────────────────────


async def query(client: Client, **body: object) -> dict:
    return await client.post(path("publicRooms"), body)


async def test_a_published_room_is_listed_with_what_may_be_told(hearth, alice, bob):
    room = await alice.creates_room(
        visibility="public",
        room_alias_name="listed in full",
        name="Full",
        topic="All of it",
        creation_content={"type": "m.space"},
        initial_state=[
            {"type": "m.room.avatar", "content": {"url": "mxc://a/b"}},
            {
                "type": "m.room.history_visibility",
                "content": {"history_visibility": "world_readable"},
            },
            {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
        ],
    )
    await bob.joins(room)
    plain = await alice.creates_room(visibility="public", preset="private_chat")
    odd = await alice.creates_room(
        visibility="public",
        initial_state=[
            {"type": "m.room.name", "content": {"name": ["no"]}},
            {"type": "m.room.topic", "content": {"topic": 7}},
            {"type": "m.room.avatar", "content": {"url": "javascript:x"}},
            {"type": "m.room.canonical_alias", "content": {"alias": "nonsense"}},
            {"type": "m.room.join_rules", "content": {"join_rule": None}},
        ],
    )
    listed = await hearth.nobody.get(path("publicRooms"))
    rooms = {each["room_id"]: each for each in listed["chunk"]}
    assert rooms[room] == {
        "room_id": room,
        "name": "Full",
        "topic": "All of it",
        "canonical_alias": "#listed in full:hearth.test",
        "avatar_url": "mxc://a/b",
        "num_joined_members": 2,
        "world_readable": True,
        "guest_can_join": True,
        "join_rule": "public",
        "room_type": "m.space",
    }
    bare = {
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": True,
        "join_rule": "invite",
    }
    assert rooms[plain] == {"room_id": plain, **bare}
    assert rooms[odd] == {"room_id": odd, **bare, "guest_can_join": False}
    assert listed["total_room_count_estimate"] >= 3
    where = path("directory", "list", "room", room)
    await alice.put(where, {"visibility": "private"})
    assert room not in {r["room_id"] for r in await bob.public_rooms()}


async def test_the_plain_topic_is_taken_from_the_extensible_one(alice):
    def block(*texts: dict) -> dict:
        return {"topic": "old", "m.topic": {"m.text": list(texts)}}

    html = {"mimetype": "text/html", "body": "<b>"}
    for content, topic in [
        (block(html, {"body": "plain"}), "plain"),
        (block(html), None),
        ({"topic": "old", "m.topic": 7}, "old"),
        (block(7), None),  # type: ignore[arg-type]
    ]:
        room = await alice.creates_room(
            visibility="public",
            initial_state=[{"type": "m.room.topic", "content": content}],
        )
        rooms = {r["room_id"]: r for r in await alice.public_rooms()}
        assert rooms[room].get("topic") == topic


@pytest.fixture
async def town(another, person) -> tuple[Client, list[str]]:
    """A server of its own with rooms of 5, 4, 3, 2 and 1 members, and these rooms."""
    server = await another()
    people = [await person(server) for _ in range(5)]
    rooms = []
    for size in range(5, 0, -1):
        room = await people[0].creates_room(
            visibility="public", name=f"Room of {size}", topic="Straße und CAFÉ"
        )
        for each in people[1:size]:
            await each.joins(room)
        rooms.append(room)
    return people[0], rooms


async def test_the_list_is_paged_from_the_largest_room_in_both_directions(town):
    client, rooms = town
    first = await query(client, limit=2)
    assert [r["room_id"] for r in first["chunk"]] == rooms[:2]
    assert "prev_batch" not in first
    assert first["total_room_count_estimate"] == 5
    second = await client.get(path("publicRooms"), limit=2, since=first["next_batch"])
    assert [r["room_id"] for r in second["chunk"]] == rooms[2:4]
    third = await query(client, limit=2, since=second["next_batch"])
    assert [r["room_id"] for r in third["chunk"]] == rooms[4:]
    assert "next_batch" not in third
    back = await query(client, limit=2, since=third["prev_batch"])
    assert [r["room_id"] for r in back["chunk"]] == rooms[2:4]
    start = await query(client, limit=2, since=back["prev_batch"])
    assert [r["room_id"] for r in start["chunk"]] == rooms[:2]
    again = await query(client, limit=2, since=start["next_batch"])
    assert again["chunk"] == second["chunk"]
    everything = await query(client)
    assert [r["room_id"] for r in everything["chunk"]] == rooms


async def test_the_list_can_be_searched(town):
    client, rooms = town
    await client.sets_alias(rooms[0], "#findme:hearth.test")
    await client.sets_state(
        rooms[0], "m.room.canonical_alias", {"alias": "#findme:hearth.test"}
    )
    space = await client.creates_room(
        visibility="public", name="Space", creation_content={"type": "m.space"}
    )

    async def found(**filter_: object) -> list[str]:
        reply = await query(client, filter=filter_)
        return [room["room_id"] for room in reply["chunk"]]

    assert await found(generic_search_term="room of 3") == [rooms[2]]
    assert await found(generic_search_term="STRASSE café") == rooms
    assert await found(generic_search_term="findme") == [rooms[0]]
    assert await found(generic_search_term="nothing like it") == []
    assert await found(room_types=["m.space"]) == [space]
    assert await found(room_types=[None]) == rooms
    assert set(await found(room_types=[None, "m.space"])) == {*rooms, space}
    assert await found(room_types=[]) == []
    paged = await query(client, limit=1, filter={"room_types": ["m.space"]})
    assert [r["room_id"] for r in paged["chunk"]] == [space]
    bridged = await query(client, third_party_instance_id="irc")
    assert bridged["chunk"] == []


async def test_rooms_that_are_closed_to_other_servers_are_not_told_to_them(
    hearth, alice
):
    closed = await alice.creates_room(
        visibility="public", creation_content={"m.federate": False}
    )
    open_ = await alice.creates_room(visibility="public")
    everything = PublicRoomsQuery(limit=500)
    for to_server, wanted in [(True, {open_}), (False, {open_, closed})]:
        ctx = hearth.ctx
        page = await list_published(ctx.db, ctx.live, everything, to_server=to_server)
        listed = {str(room["room_id"]) for room in page.chunk}
        assert listed & {open_, closed} == wanted


async def test_a_bad_query_is_refused(hearth, alice):
    for body, answer in [
        ({"limit": "many"}, (400, "M_BAD_JSON")),
        ({"limit": -1}, (400, "M_BAD_JSON")),
        ({"since": "nonsense"}, INVALID),
        ({"since": 7}, (400, "M_BAD_JSON")),
        ({"filter": []}, (400, "M_BAD_JSON")),
        ({"filter": {"room_types": [7]}}, (400, "M_BAD_JSON")),
        ({"filter": {"generic_search_term": {}}}, (400, "M_BAD_JSON")),
    ]:
        assert await refusal(query(alice, **body)) == answer, body
    for asked in (
        {"limit": "-1"},
        {"limit": "x"},
        {"since": "f1"},
        {"since": "f99999999999_1"},
        {"server": "no server"},
    ):
        call = hearth.nobody.call("GET", path("publicRooms"), query=asked)
        assert await refusal(call) == INVALID, asked
