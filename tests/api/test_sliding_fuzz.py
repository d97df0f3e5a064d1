"""Requests of sliding sync that are nearly right: none may be answered with 500."""

import copy
import random

from tests.support.sliding import URL

PUBLIC = {"preset": "public_chat"}
# No floats that JSON lacks; a lone surrogate cannot be sent either.
ODD = [
    *(None, True, -1, 0, 1, 2**31, 2**53 - 1, 2**53, 2**70, 1.5, "", "\0", "*"),
    *("$ME", "$LAZY", "x" * 300, [], {}, [[]], [{}], [None], {"": {}}, [["*", "*"]]),
    *([0, 0], [5, 1], "m.room.member", "@\0:x", "!a:b", "s1~0123456789ab"),
]


def good(room):
    config = {
        "timeline_limit": 2,
        "required_state": [["m.room.member", "$LAZY"], ["*", "*"]],
    }
    newer = {
        "include": [{"type": "m.room.name", "state_key": ""}, {}],
        "exclude": [{"type": "m.room.topic"}],
        "lazy_members": True,
    }
    filters = {
        "is_dm": False,
        "spaces": [room],
        "is_encrypted": False,
        "is_invite": False,
        "room_types": [None],
        "not_room_types": ["m.space"],
        "room_name_like": "h",
        "tags": ["u.x"],
        "not_tags": ["u.y"],
    }
    scope = {"enabled": True, "lists": ["a"], "rooms": ["*"]}
    names = ("account_data", "receipts", "typing", "e2ee")
    return {
        "conn_id": "fuzz",
        "timeout": 0,
        "lists": {
            "a": {**config, "ranges": [[0, 1], [2, 3]]},
            "b": {**config, "range": [0, 9], "filters": filters},
            "c": {"timeline_limit": 1, "required_state": newer},
        },
        "room_subscriptions": {room: config},
        "extensions": dict.fromkeys(names, scope)
        | {"to_device": {"enabled": True, "since": "0", "limit": 5}},
    }


def places(value, path=()):
    """The paths of everything within a JSON value."""
    entries = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoiled(body, chance):
    """The body with one to three things in it replaced, renamed or gone."""
    for _ in range(chance.randint(1, 3)):
        paths = list(places(body))
        if not paths:
            return body
        *way, last = chance.choice(paths)
        holder = body
        for key in way:
            holder = holder[key]
        match chance.randint(0, 5):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(("", "\0", "*", "x" * 300))] = holder.pop(last)
            case _:
                holder[last] = copy.deepcopy(chance.choice(ODD))
    return body


async def test_nothing_in_a_request_is_our_fault(alice, bob):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    await bob.joins(room)
    await alice.creates_room(invite=[bob.user_id])
    chance = random.Random(4186)
    pos, statuses = "", set()
    for number in range(400):
        body = spoiled(good(room), chance)
        query = {"timeout": "0"} | ({"pos": pos} if pos and number % 3 else {})
        status, reply = await bob.answer("POST", URL, body, query=query)
        statuses.add(status)
        assert status < 500, (body, reply)
        pos = reply.get("pos", pos)
        if number % 20 == 0:
            await alice.sends(room, str(number))
    assert statuses == {200, 400}
