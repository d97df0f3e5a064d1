"""Ignored users: what their ignorer no longer gets, and from when on."""

import asyncio
import json

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.sliding import Sliding, bodies

PUBLIC = {"preset": "public_chat"}
DEFAULT = json.dumps({"room": {"timeline": {"limit": 50}}})


async def ignores(client: Client, *who: Client) -> None:
    content = {"ignored_users": {each.user_id: {} for each in who}}
    where = path("user", client.user_id, "account_data", "m.ignored_user_list")
    await client.put(where, content)


async def hall(first: Client, *others: Client) -> str:
    room = await first.creates_room(**PUBLIC)
    for other in others:
        await other.joins(room)
    return room


def texts(events: list[dict]) -> list[str]:
    return [e["content"]["body"] for e in events if e["type"] == "m.room.message"]


async def test_messages_of_ignored_users_are_not_synced_but_their_state_is(
    alice, bob, carol
):
    room = await hall(alice, bob, carol)
    await alice.sets_power(room, bob, 50)
    await ignores(alice, bob)
    since = (await alice.get(path("sync")))["next_batch"]
    await bob.sends(room, "unheard")
    await carol.sends(room, "heard")
    await bob.sets_state(room, "m.room.topic", {"topic": "seen"})
    for query in ({"since": since}, {}):
        reply = await alice.get(path("sync"), filter=DEFAULT, **query)
        events = reply["rooms"]["join"][room]["timeline"]["events"]
        assert texts(events) == ["heard"]
        assert events[-1]["content"] == {"topic": "seen"}


async def test_the_change_holds_from_the_next_sync_on_in_every_process(
    alice, bob, another_process
):
    room = await hall(alice, bob)
    elsewhere = Client(
        lambda: another_process.session,
        another_process.base_url,
        alice.access_token,
        user_id=alice.user_id,
    )
    await alice.syncs()
    await elsewhere.syncs()
    await bob.sends(room, "one")
    await alice.sees(room, "one")
    await elsewhere.sees(room, "one")
    await ignores(alice, bob)
    await bob.sends(room, "two")
    await ignores(alice)
    await alice.syncs()
    await bob.sends(room, "three")
    for client in (alice, elsewhere):
        seen = await client.sees(room, "three")
        assert seen["sender"] == bob.user_id
    # What was sent meanwhile is found by who begins anew.
    reply = await alice.get(path("sync"), filter=DEFAULT)
    events = reply["rooms"]["join"][room]["timeline"]["events"]
    assert texts(events) == ["one", "two", "three"]


async def test_who_waits_is_not_woken_by_ignored_users(alice, bob):
    room = await hall(alice, bob)
    await ignores(alice, bob)
    since = (await alice.get(path("sync")))["next_batch"]
    waiting = asyncio.create_task(alice.get(path("sync"), since=since, timeout=20_000))
    await bob.sends(room, "unheard")
    await bob.sends(room, "unheard as well")
    await alice.sends(room, "heard")
    reply = await waiting
    section = reply["rooms"]["join"][room]
    assert texts(section["timeline"]["events"]) == ["heard"]


async def test_history_context_and_single_events_leave_them_out(alice, bob, carol):
    room = await hall(alice, bob, carol)
    first = await carol.sends(room, "first")
    unheard = await bob.sends(room, "unheard")
    last = await carol.sends(room, "last")
    await ignores(alice, bob)
    page = await alice.messages(room)
    assert texts(page["chunk"]) == ["last", "first"]
    around = await alice.context(room, last)
    assert texts(around["events_before"]) == ["first"]
    with pytest.raises(RefusedError) as error:
        await alice.reads_event(room, unheard)
    assert error.value.errcode == "M_NOT_FOUND"
    assert (await carol.reads_event(room, unheard))["event_id"] == unheard
    assert (await alice.reads_event(room, first))["event_id"] == first


async def test_invites_from_ignored_users_are_not_shown(alice, bob, carol):
    await ignores(alice, bob)
    await alice.syncs()
    sliding = Sliding(alice)
    await sliding.asks()
    rooms = [await each.creates_room() for each in (bob, carol)]
    await bob.invites(rooms[0], alice)
    await carol.invites(rooms[1], alice)
    await alice.is_shown(rooms[1], "invite")
    reply = await alice.get(path("sync"))
    assert list(reply["rooms"]["invite"]) == [rooms[1]]
    reply = await sliding.asks()
    assert list(reply["rooms"]) == [rooms[1]]
    assert reply["lists"]["all"]["count"] == 1
    # The invite stands nevertheless.
    await alice.joins(rooms[0])


async def test_nothing_of_theirs_counts_as_unread(alice, bob, carol):
    async def unread() -> int:
        section = (await alice.get(path("sync")))["rooms"]["join"][room]
        return section["unread_notifications"]["notification_count"]

    room = await hall(alice, bob, carol)
    await bob.sends(room, "unheard")
    await carol.sends(room, "heard")
    assert await unread() == 2
    await ignores(alice, bob)
    assert await unread() == 1
    await bob.sends(room, "unheard")
    assert await unread() == 1
    listed = (await alice.get(path("notifications")))["notifications"]
    assert [each["event"]["content"]["body"] for each in listed] == ["heard"]
    await ignores(alice)
    assert await unread() == 3


async def test_their_receipts_and_typing_are_not_shown(alice, bob, carol):
    room = await hall(alice, bob, carol)
    event_id = await alice.sends(room, "read this")
    await ignores(alice, bob)
    await alice.syncs()
    await bob.marks_read(room, event_id)
    await bob.sets_typing(room)
    await carol.sets_typing(room)
    await alice.sees_typing(room, carol)
    reply = await alice.get(path("sync"))
    shown = reply["rooms"]["join"][room]["ephemeral"]["events"]
    assert bob.user_id not in json.dumps(shown)
    extensions = {"receipts": {"enabled": True}, "typing": {"enabled": True}}
    reply = await Sliding(alice).asks(extensions=extensions, timeline_limit=10)
    assert bob.user_id not in json.dumps(reply["extensions"])


async def test_sliding_sync_leaves_their_messages_out(alice, bob):
    room = await hall(alice, bob)
    await ignores(alice, bob)
    await alice.sends(room, "one")
    await bob.sends(room, "unheard")
    reply = await Sliding(alice).asks(timeline_limit=2)
    assert bodies(reply["rooms"][room])[-1] == "one"


@pytest.mark.parametrize(
    "content",
    [{}, {"ignored_users": []}, {"ignored_users": None}, {"ignored_users": {"": 1}}],
)
async def test_a_list_that_is_none_ignores_nobody(alice, bob, content):
    room = await hall(alice, bob)
    where = path("user", alice.user_id, "account_data", "m.ignored_user_list")
    await alice.put(where, content)
    await bob.sends(room, "heard")
    await alice.sees(room, "heard")


async def test_nobody_ignores_themselves(alice):
    room = await alice.creates_room()
    await ignores(alice, alice)
    await alice.sends(room, "heard")
    await alice.sees(room, "heard")
