"""Which rooms the lists of sliding sync have."""

import pytest

from tests.support.api import RefusedError
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
ENCRYPTION = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1"}}


async def shown(person, conn_id="f", **filters):
    """The rooms that a list with these filters has."""
    reply = await Sliding(person, conn_id).asks(filters=filters)
    rooms = set(reply["rooms"])
    assert reply["lists"]["all"]["count"] == len(rooms)
    return rooms


async def sets_account_data(person, kind, content, room=None):
    where = f"/rooms/{room}" if room else ""
    url = f"/_matrix/client/v3/user/{person.user_id}{where}/account_data/{kind}"
    await person.put(url, content)


async def test_direct_chats(alice, bob):
    direct, other = await alice.creates_room(), await alice.creates_room()
    await sets_account_data(alice, "m.direct", {bob.user_id: [direct, "!gone:x"]})
    assert await shown(alice, is_dm=True) == {direct}
    assert await shown(alice, is_dm=False) == {other}
    assert await shown(alice, is_dm=None) == {direct, other}


async def test_encrypted_rooms(alice):
    secret = await alice.creates_room(initial_state=[ENCRYPTION])
    plain = await alice.creates_room()
    assert await shown(alice, is_encrypted=True) == {secret}
    assert await shown(alice, is_encrypted=False) == {plain}
    await alice.sets_state(plain, "m.room.encryption", ENCRYPTION["content"])
    assert await shown(alice, is_encrypted=True) == {secret, plain}


async def test_invites(alice, bob):
    invited = await bob.creates_room(invite=[alice.user_id])
    joined = await alice.creates_room()
    for name in ("is_invite", "is_invited"):
        assert await shown(alice, **{name: True}) == {invited}
        assert await shown(alice, **{name: False}) == {joined}
    await alice.joins(invited)
    assert await shown(alice, is_invite=True) == set()


async def test_facts_of_rooms_one_is_invited_to(alice, bob):
    space = await bob.creates_room(
        creation_content={"type": "m.space"}, invite=[alice.user_id]
    )
    secret = await bob.creates_room(initial_state=[ENCRYPTION], invite=[alice.user_id])
    assert await shown(alice, room_types=["m.space"]) == {space}
    assert await shown(alice, is_encrypted=True) == {secret}


async def test_types_of_rooms(alice):
    space = await alice.creates_room(creation_content={"type": "m.space"})
    odd = await alice.creates_room(creation_content={"type": "org.odd"})
    plain = await alice.creates_room()
    assert await shown(alice, room_types=["m.space"]) == {space}
    assert await shown(alice, room_types=[None, "org.odd"]) == {odd, plain}
    assert await shown(alice, not_room_types=["m.space"]) == {odd, plain}
    assert await shown(alice, not_room_types=[None]) == {space, odd}
    both = {"room_types": ["m.space", None], "not_room_types": ["m.space"]}
    assert await shown(alice, **both) == {plain}
    assert await shown(alice, room_types=[]) == set()


async def test_names(alice):
    hall = await alice.creates_room(name="Great HALL")
    await alice.creates_room(name="Kitchen")
    await alice.creates_room()
    assert await shown(alice, room_name_like="hall") == {hall}
    await alice.sets_state(hall, "m.room.name", {"name": "Cellar"})
    assert await shown(alice, room_name_like="hall") == set()
    assert await shown(alice, room_name_like="CELL") == {hall}


async def test_tags(alice):
    rooms = [await alice.creates_room() for _ in range(3)]
    for room, tag in zip(rooms, ("m.favourite", "m.lowpriority"), strict=False):
        await sets_account_data(alice, "m.tag", {"tags": {tag: {}}}, room)
    favourite, low, plain = rooms
    assert await shown(alice, tags=["m.favourite"]) == {favourite}
    assert await shown(alice, not_tags=["m.lowpriority"]) == {favourite, plain}
    both = {"tags": ["m.favourite", "m.lowpriority"], "not_tags": ["m.favourite"]}
    assert await shown(alice, **both) == {low}
    await sets_account_data(alice, "m.tag", {"tags": {}}, favourite)
    assert await shown(alice, tags=["m.favourite"]) == set()


async def test_spaces(alice, bob):
    space = await alice.creates_room(creation_content={"type": "m.space"}, **PUBLIC)
    child, removed, other = [await alice.creates_room() for _ in range(3)]
    via = {"via": ["hearth.test"]}
    for room in (child, removed):
        await alice.sets_state(space, "m.space.child", via, room)
    await alice.sets_state(space, "m.space.child", {}, removed)
    assert await shown(alice, spaces=[space]) == {child}
    assert await shown(alice, spaces=[space, "!nowhere:x"]) == {child}
    assert await shown(alice, spaces=[other]) == set()
    # Bob is not in the space, so it is not for him to look into.
    await alice.invites(child, bob)
    await bob.joins(child)
    assert await shown(bob, spaces=[space]) == set()


async def test_lists_have_their_own_ranges_and_share_rooms(alice):
    rooms = [await alice.creates_room(name=f"r{n}") for n in range(4)]
    config = {"timeline_limit": 1, "required_state": []}
    lists = {
        "newest": {**config, "ranges": [[0, 0]]},
        "ends": {**config, "ranges": [[0, 0], [3, 3]]},
        "whole": {**config, "filters": {"room_name_like": "r1"}},
    }
    reply = await Sliding(alice).asks(lists=lists)
    assert reply["lists"] == {
        "newest": {"count": 4},
        "ends": {"count": 4},
        "whole": {"count": 1},
    }
    named = {room: section["lists"] for room, section in reply["rooms"].items()}
    assert named == {
        rooms[3]: ["ends", "newest"],
        rooms[0]: ["ends"],
        rooms[1]: ["whole"],
    }


async def test_a_room_that_begins_to_pass_comes_whole(alice):
    room = await alice.creates_room(name="Hall")
    sliding, encrypted = Sliding(alice), {"is_encrypted": True}
    reply = await sliding.asks(filters=encrypted)
    assert (reply["rooms"], reply["lists"]["all"]["count"]) == ({}, 0)
    await alice.sets_state(room, "m.room.encryption", ENCRYPTION["content"])
    reply = await sliding.asks(filters=encrypted, wait=5)
    assert reply["rooms"][room]["initial"] is True
    assert reply["rooms"][room]["num_live"] == 1


BAD = [
    {"lists": []},
    {"lists": {"a": []}},
    {"lists": {"a": {"ranges": "all"}}},
    {"lists": {"a": {"ranges": [[1]]}}},
    {"lists": {"a": {"ranges": [[3, 1]]}}},
    {"lists": {"a": {"ranges": [[-1, 1]]}}},
    {"lists": {"a": {"ranges": [["0", 1]]}}},
    {"lists": {"a": {"ranges": [[0, 1]] * 51}}},
    {"lists": {"a": {"range": [0]}}},
    {"lists": {"a": {"timeline_limit": -1}}},
    {"lists": {"a": {"timeline_limit": "5"}}},
    {"lists": {"a": {"timeline_limit": True}}},
    {"lists": {"a": {"timeline_limit": 1.5}}},
    {"lists": {"a": {"required_state": "all"}}},
    {"lists": {"a": {"required_state": [["m.room.name"]]}}},
    {"lists": {"a": {"required_state": [[1, 2]]}}},
    {"lists": {"a": {"required_state": [["x", str(n)] for n in range(501)]}}},
    {"lists": {"a": {"required_state": {"include": [7]}}}},
    {"lists": {"a": {"required_state": {"include": [{"type": 7}]}}}},
    {"lists": {"a": {"required_state": {"lazy_members": "yes"}}}},
    {"lists": {"a": {"filters": []}}},
    {"lists": {"a": {"filters": {"is_dm": "yes"}}}},
    {"lists": {"a": {"filters": {"spaces": "!a:b"}}}},
    {"lists": {"a": {"filters": {"spaces": [None]}}}},
    {"lists": {"a": {"filters": {"tags": [1]}}}},
    {"lists": {"a": {"filters": {"room_name_like": 5}}}},
    {"lists": {str(n): {} for n in range(101)}},
    {"lists": {"x" * 256: {}}},
    {"room_subscriptions": {"!a:b": None}},
    {"room_subscriptions": {f"!{n}:b": {} for n in range(1001)}},
    {"extensions": {"receipts": True}},
    {"extensions": {"receipts": {"enabled": 1}}},
    {"extensions": {"receipts": {"enabled": True, "lists": {}}}},
    {"extensions": {"to_device": {"enabled": True, "since": "s12"}}},
    {"extensions": {"to_device": {"enabled": True, "since": 12}}},
    {"extensions": {"to_device": {"enabled": True, "limit": -1}}},
    {"conn_id": 7},
    {"conn_id": "x" * 256},
    {"timeout": -1},
    {"pos": 5},
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
async def test_what_is_malformed_is_refused(alice, body):
    with pytest.raises(RefusedError) as refused:
        await Sliding(alice).posts(body)
    assert refused.value.status == 400
    assert refused.value.errcode in {"M_BAD_JSON", "M_INVALID_PARAM"}


ODD = [
    {},
    {"lists": {"a": {}}},
    {"lists": {"a": {"ranges": []}}},
    {"lists": {"a": {"ranges": [[0, 2**53 - 1]], "timeline_limit": 2**53 - 1}}},
    {"lists": {"\0": {"filters": {"room_name_like": "\0", "tags": ["\U0001f600"]}}}},
    {"lists": {"a": {"required_state": [["\0", "\0"], ["*", "$LAZY"]]}}},
    {"lists": {"a": {"required_state": {"include": [{"state_key": "\0"}]}}}},
    {"conn_id": "\0\x10", "extensions": {"\0": {"enabled": True}}},
    {"room_subscriptions": {"\0": {}, "": {}, "nonsense": {"timeline_limit": 1}}},
    {"extensions": {"typing": {"enabled": True, "rooms": ["\0"], "lists": ["*"]}}},
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
async def test_what_is_odd_is_answered(alice, body):
    room = await alice.creates_room()
    reply = await Sliding(alice).posts(body)
    body = {**body, "lists": body.get("lists", {})}
    await alice.sends(room, "news")
    assert "pos" in await Sliding(alice).posts(body, pos=reply["pos"])


async def test_a_new_name_is_not_told_to_who_was_sent_away(alice, bob):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    await bob.joins(room)
    assert await shown(bob, room_name_like="hall") == {room}
    await alice.kicks(room, bob)
    await alice.sets_state(room, "m.room.name", {"name": "Secret"})
    assert await shown(bob) == {room}
    assert await shown(bob, room_name_like="secret") == set()
