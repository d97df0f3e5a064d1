"""The requests of Element X, as matrix-rust-sdk makes them: three connections at once.

The shapes are those of its room list, its encryption sync and its notification client.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.sliding import Sliding

Json = dict[str, Any]
People = Callable[[str], Awaitable[Client]]
_numbers = itertools.count(1)

STATE = [
    ["m.room.name", ""],
    ["m.room.encryption", ""],
    ["m.room.member", "$LAZY"],
    ["m.room.member", "$ME"],
    ["m.room.topic", ""],
    ["m.room.avatar", ""],
    ["m.room.canonical_alias", ""],
    ["m.room.power_levels", ""],
    ["org.matrix.msc3401.call.member", "*"],
    ["m.room.join_rules", ""],
    ["m.room.tombstone", ""],
    ["m.room.create", ""],
    ["m.room.history_visibility", ""],
    ["io.element.functional_members", ""],
    ["m.space.parent", "*"],
    ["m.space.child", "*"],
    ["m.room.pinned_events", ""],
]


def room_list(*ranges: list[int]) -> Json:
    return {
        "lists": {
            "all_rooms": {
                "ranges": list(ranges),
                "required_state": STATE,
                "timeline_limit": 1,
                "filters": {"not_room_types": ["m.space"]},
            }
        },
        "extensions": {
            "account_data": {"enabled": True},
            "receipts": {"enabled": True, "rooms": ["*"]},
            "typing": {"enabled": True},
        },
    }


def encryption(since: str | None = None) -> Json:
    to_device: Json = {"enabled": True} | ({"since": since} if since else {})
    return {
        "lists": {},
        "extensions": {"e2ee": {"enabled": True}, "to_device": to_device},
    }


def notification(room: str) -> Json:
    return {
        "lists": {
            "invites": {
                "ranges": [[0, 16]],
                "required_state": [["m.room.member", "$ME"], ["m.room.name", ""]],
                "timeline_limit": 8,
                "filters": {"is_invite": True},
            }
        },
        "room_subscriptions": {
            room: {
                "required_state": [
                    ["m.room.member", "$LAZY"],
                    ["m.room.member", "$ME"],
                    ["m.room.power_levels", ""],
                ],
                "timeline_limit": 16,
            }
        },
        "extensions": {
            "account_data": {"enabled": True},
            "receipts": {"enabled": True},
        },
    }


class Phone(Sliding):
    """One connection, asked as it is."""

    async def sends(self, body: Json, wait: float = 0) -> Json:
        reply = await self.posts(
            {"conn_id": self.conn_id, **body}, wait=wait, pos=self.pos
        )
        self.pos = reply["pos"]
        return reply


@pytest.fixture
async def person(server: Hearth) -> People:
    async def make(name: str) -> Client:
        return await server.registers(f"{name}rust{next(_numbers)}")

    return make


async def test_three_connections_of_one_phone(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await alice.creates_room(preset="public_chat", name="Talk")
    space = await alice.creates_room(creation_content={"type": "m.space"})
    await bob.joins(room)
    rooms, keys = Phone(alice, "room-list"), Phone(alice, "encryption")
    first, second = await asyncio.gather(
        rooms.sends(room_list([0, 19])), keys.sends(encryption())
    )
    assert first["lists"]["all_rooms"]["count"] == 1
    assert space not in first["rooms"]
    shown = first["rooms"][room]
    assert (shown["name"], shown["initial"]) == ("Talk", True)
    assert shown["joined_count"] == 2
    state = {(e["type"], e["state_key"]) for e in shown["required_state"]}
    assert {("m.room.create", ""), ("m.room.member", alice.user_id)} <= state
    assert "global" in first["extensions"]["account_data"]
    assert "device_one_time_keys_count" in second["extensions"]["e2ee"]
    since = second["extensions"]["to_device"]["next_batch"]

    # The list grows; a long poll waits on each connection, and each hears its own.
    await rooms.sends(room_list([0, 99]))
    waiting = asyncio.gather(
        rooms.sends(room_list([0, 99]), wait=20),
        keys.sends(encryption(since), wait=20),
    )
    event = await bob.sends(room, "hello")
    messages = {alice.user_id: {"*": {"n": 1}}}
    await bob.put(
        f"/_matrix/client/v3/sendToDevice/m.x/rust{next(_numbers)}",
        {"messages": messages},
    )
    heard, told = await waiting
    timeline = heard["rooms"][room]["timeline"]
    assert [each["event_id"] for each in timeline] == [event]
    assert heard["rooms"][room]["bump_stamp"] > shown["bump_stamp"]
    assert [e["type"] for e in told["extensions"]["to_device"]["events"]] == ["m.x"]

    # A push woke the phone: it asks for the one event, on a connection of its own.
    reply = await Phone(alice, "notification").sends(notification(room))
    subscribed = reply["rooms"][room]
    assert event in {each["event_id"] for each in subscribed["timeline"]}
    senders = {
        e["state_key"] for e in subscribed["required_state"] if "member" in e["type"]
    }
    assert {alice.user_id, bob.user_id} <= senders

    # Receipts and typing come by themselves to the room list.
    waiting_one = asyncio.ensure_future(rooms.sends(room_list([0, 99]), wait=20))
    await bob.sets_typing(room)
    typing = (await waiting_one)["extensions"]["typing"]["rooms"][room]
    assert typing["content"]["user_ids"] == [bob.user_id]


async def test_an_invite_shows_in_the_list_and_by_notification(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    rooms = Phone(bob, "room-list")
    await rooms.sends(room_list([0, 19]))
    waiting = asyncio.ensure_future(rooms.sends(room_list([0, 19]), wait=20))
    room = await alice.creates_room(
        preset="trusted_private_chat", is_direct=True, invite=[bob.user_id]
    )
    shown = (await waiting)["rooms"][room]
    stripped = {(e["type"], e["state_key"]) for e in shown["invite_state"]}
    assert ("m.room.member", bob.user_id) in stripped
    reply = await Phone(bob, "notification").sends(notification(room))
    assert room in reply["rooms"]
    await bob.joins(room)
    joined = (await rooms.sends(room_list([0, 19])))["rooms"][room]
    assert joined["initial"] is True
    assert joined["membership"] == "join"


async def test_a_connection_that_expired_begins_anew(person: People) -> None:
    alice = await person("alice")
    room = await alice.creates_room()
    phone = Phone(alice, "room-list")
    await phone.sends(room_list([0, 19]))
    phone.pos = "s1~000000000000"
    status, reply = await alice.answer(
        "POST",
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
        {"conn_id": "room-list", **room_list([0, 19])},
        query={"pos": phone.pos},
    )
    assert (status, reply["errcode"]) == (400, "M_UNKNOWN_POS")
    phone.pos = None
    again = await phone.sends(room_list([0, 19]))
    assert again["rooms"][room]["initial"] is True
