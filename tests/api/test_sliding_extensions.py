"""The extensions of sliding sync: what comes beside rooms."""

import asyncio

from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
ON = {"enabled": True}


def account_data(person, kind, room=None):
    where = f"/rooms/{room}" if room else ""
    return f"/_matrix/client/v3/user/{person.user_id}{where}/account_data/{kind}"


def kinds(events):
    return [event["type"] for event in events]


async def reads(person, room, event_id, kind="m.read", **content):
    where = f"/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event_id}"
    await person.post(where, content)


async def types(person, room):
    where = f"/_matrix/client/v3/rooms/{room}/typing/{person.user_id}"
    await person.put(where, {"typing": True, "timeout": 20_000})


async def test_extensions_that_are_off_say_nothing(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(alice)
    off = {name: {"enabled": False} for name in ("account_data", "e2ee", "to_device")}
    assert (await sliding.asks(extensions=off))["extensions"] == {}
    await types(bob, room)
    assert (await sliding.asks(extensions=off | {"odd": ON}))["extensions"] == {}


async def test_account_data_comes_whole_and_then_as_it_changes(alice):
    room = await alice.creates_room()
    await alice.put(account_data(alice, "org.one"), {"v": 1})
    await alice.put(account_data(alice, "org.of_room", room), {"v": 2})
    sliding, on = Sliding(alice), {"account_data": ON}
    told = (await sliding.asks(extensions=on))["extensions"]["account_data"]
    assert {"org.one", "m.push_rules"} <= set(kinds(told["global"]))
    assert told["rooms"][room] == [{"type": "org.of_room", "content": {"v": 2}}]
    assert (await sliding.asks(extensions=on))["extensions"] == {}
    waiting = asyncio.create_task(sliding.asks(extensions=on, wait=20))
    await asyncio.sleep(0.1)
    await alice.put(account_data(alice, "org.one"), {"v": 3})
    told = (await waiting)["extensions"]["account_data"]
    assert told == {"global": [{"type": "org.one", "content": {"v": 3}}]}
    await alice.put(account_data(alice, "org.of_room", room), {"v": 4})
    told = (await sliding.asks(extensions=on))["extensions"]["account_data"]
    assert told == {"rooms": {room: [{"type": "org.of_room", "content": {"v": 4}}]}}


async def test_account_data_of_rooms_out_of_view_comes_with_them(alice):
    below, top = await alice.creates_room(), await alice.creates_room()
    sliding, on = Sliding(alice), {"account_data": ON}
    await alice.put(account_data(alice, "org.x", below), {"v": 1})
    reply = await sliding.asks(ranges=[[0, 0]], extensions=on)
    assert "rooms" not in reply["extensions"]["account_data"]
    reply = await sliding.asks(extensions=on)
    assert set(reply["extensions"]["account_data"]["rooms"]) == {below}
    await alice.put(account_data(alice, "org.x", below), {"v": 2})
    await alice.sends(top, "news")
    reply = await sliding.asks(ranges=[[0, 0]], extensions=on)
    assert reply["extensions"] == {}
    reply = await sliding.asks(extensions=on)
    assert reply["extensions"]["account_data"] == {
        "rooms": {below: [{"type": "org.x", "content": {"v": 2}}]}
    }


async def test_what_changed_while_account_data_was_off_is_not_lost(alice):
    room = await alice.creates_room()
    sliding, on = Sliding(alice), {"account_data": ON}
    await sliding.asks(extensions=on)
    await alice.put(account_data(alice, "org.one"), {"v": 1})
    await alice.sends(room, "news")
    assert (await sliding.asks())["rooms"]
    told = (await sliding.asks(extensions=on))["extensions"]["account_data"]
    assert told["global"] == [{"type": "org.one", "content": {"v": 1}}]


async def test_receipts_of_a_new_room_are_ones_own_and_those_of_its_timeline(
    alice, bob, carol
):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    old, new = [await alice.sends(room, body) for body in ("old", "new")]
    await reads(alice, room, old, "m.read.private")
    await reads(bob, room, old)
    await reads(carol, room, new)
    sliding, on = Sliding(alice), {"receipts": ON}
    told = (await sliding.asks(extensions=on))["extensions"]["receipts"]["rooms"][room]
    assert told["type"] == "m.receipt"
    assert set(told["content"]) == {old, new}
    assert set(told["content"][old]) == {"m.read.private"}
    assert set(told["content"][new]["m.read"]) == {carol.user_id}
    assert "receipts" not in (await sliding.asks(extensions=on))["extensions"]
    await reads(bob, room, new)
    told = (await sliding.asks(extensions=on))["extensions"]["receipts"]["rooms"]
    assert set(told[room]["content"][new]["m.read"]) == {bob.user_id}


async def test_private_receipts_of_others_stay_private(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await alice.sends(room, "x")
    sliding, on = Sliding(alice), {"receipts": ON}
    await sliding.asks(extensions=on)
    await reads(bob, room, sent, "m.read.private")
    assert (await sliding.asks(extensions=on))["extensions"] == {}
    await reads(bob, room, sent, "m.read.private")
    assert (await Sliding(alice, "b").asks(extensions=on))["extensions"] == {}


async def test_typing_comes_and_goes(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding, on = Sliding(alice), {"typing": ON}
    assert (await sliding.asks(extensions=on))["extensions"] == {}
    waiting = asyncio.create_task(sliding.asks(extensions=on, wait=20))
    await asyncio.sleep(0.1)
    await types(bob, room)
    reply = await waiting
    told = reply["extensions"]["typing"]["rooms"][room]
    assert told == {"type": "m.typing", "content": {"user_ids": [bob.user_id]}}
    assert reply["rooms"] == {}
    assert (await sliding.asks(extensions=on))["extensions"] == {}
    await bob.put(
        f"/_matrix/client/v3/rooms/{room}/typing/{bob.user_id}", {"typing": False}
    )
    told = (await sliding.asks(extensions=on))["extensions"]["typing"]["rooms"][room]
    assert told["content"] == {"user_ids": []}


async def test_extensions_speak_only_of_the_lists_and_rooms_they_name(alice, bob):
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(3)]
    for room in rooms:
        await bob.joins(room)
    await alice.sends(rooms[2], "top")
    config = {"timeline_limit": 1, "required_state": []}
    asked = {
        "lists": {"top": {**config, "ranges": [[0, 0]]}},
        "room_subscriptions": {rooms[0]: config, rooms[1]: config},
    }
    scopes = {
        "top": ({"lists": ["top"], "rooms": []}, {rooms[2]}),
        "one": ({"lists": [], "rooms": [rooms[0]]}, {rooms[0]}),
        "none": ({"lists": [], "rooms": []}, set()),
        "star": ({"lists": [], "rooms": ["*"]}, {rooms[0], rooms[1]}),
        "all": ({}, set(rooms)),
    }
    connections = {name: Sliding(alice, name) for name in scopes}
    for name, (scope, _) in scopes.items():
        await connections[name].asks(**asked, extensions={"typing": ON | scope})
    for room in rooms:
        await types(bob, room)
    for name, (scope, expected) in scopes.items():
        reply = await connections[name].asks(**asked, extensions={"typing": ON | scope})
        told = reply["extensions"].get("typing", {"rooms": {}})
        assert set(told["rooms"]) == expected, name


async def test_receipts_behind_a_scope_come_when_it_widens(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sent = await alice.sends(room, "x")
    sliding = Sliding(alice)
    await sliding.asks(extensions={"receipts": ON})
    await reads(bob, room, sent)
    await alice.sends(room, "news")
    narrow = {"receipts": ON | {"lists": [], "rooms": []}}
    assert (await sliding.asks(extensions=narrow))["extensions"] == {}
    told = (await sliding.asks(extensions={"receipts": ON}))["extensions"]["receipts"]
    assert set(told["rooms"][room]["content"]) == {sent}


async def sends_to(sender, receiver, number):
    messages = {receiver.user_id: {receiver.device_id: {"n": number}}}
    where = f"/_matrix/client/v3/sendToDevice/org.test/{receiver.device_id}{number}"
    await sender.put(where, {"messages": messages})


def numbers(told):
    return [event["content"]["n"] for event in told["events"]]


async def test_messages_to_the_device_come_until_they_are_acknowledged(alice, bob):
    sliding = Sliding(alice, "encryption")
    body = {"lists": {}, "extensions": {"to_device": ON}}
    told = (await sliding.asks(**body))["extensions"]["to_device"]
    assert told["events"] == []
    since = told["next_batch"]
    body["extensions"] = {"to_device": ON | {"since": since}}
    waiting = asyncio.create_task(sliding.asks(**body, wait=20))
    await asyncio.sleep(0.1)
    await sends_to(bob, alice, 1)
    told = (await waiting)["extensions"]["to_device"]
    (event,) = told["events"]
    assert event == {"type": "org.test", "sender": bob.user_id, "content": {"n": 1}}
    # As long as the client does not say that it has it, it may come again.
    assert numbers((await sliding.asks(**body))["extensions"]["to_device"]) == [1]
    body["extensions"] = {"to_device": ON | {"since": told["next_batch"]}}
    assert (await sliding.asks(**body))["extensions"] == {}
    again = Sliding(alice, "again")
    body["extensions"] = {"to_device": ON}
    assert numbers((await again.asks(**body))["extensions"]["to_device"]) == []


async def test_more_messages_than_the_client_wants_come_one_after_the_other(alice, bob):
    for number in range(5):
        await sends_to(bob, alice, number)
    sliding, seen, since = Sliding(alice, "encryption"), [], ""
    for _ in range(3):
        asked = ON | {"limit": 2} | ({"since": since} if since else {})
        reply = await sliding.asks(lists={}, extensions={"to_device": asked}, wait=20)
        told = reply["extensions"]["to_device"]
        seen += numbers(told)
        since = told["next_batch"]
    assert seen == list(range(5))


async def test_key_counts_and_device_lists_are_told_when_they_change(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    sliding, on = Sliding(alice, "encryption"), {"e2ee": ON}
    told = (await sliding.asks(lists={}, extensions=on))["extensions"]["e2ee"]
    assert told["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert told["device_unused_fallback_key_types"] == []
    assert "device_lists" not in told
    waiting = asyncio.create_task(sliding.asks(lists={}, extensions=on, wait=20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    keys = {"curve25519:AAAA": "a" * 43}
    await alice.post("/_matrix/client/v3/keys/upload", {"one_time_keys": keys})
    told = (await waiting)["extensions"]["e2ee"]
    assert told["device_one_time_keys_count"]["curve25519"] == 1
    await bob.joins(room)
    told = (await sliding.asks(lists={}, extensions=on))["extensions"]["e2ee"]
    assert told["device_lists"]["changed"] == [bob.user_id]
    assert (await sliding.asks(lists={}, extensions=on))["extensions"] == {}
