"""Who hears of whose devices: changes, new shares, and shares that ended."""

import asyncio

import pytest

from tests.support.api import RefusedError, path
from tests.support.app import PASSWORD, Running
from tests.support.client import Client
from tests.support.encryption import Device

PUBLIC = {"preset": "public_chat"}


async def news(who: Client, **more: object) -> tuple[list, list]:
    """Users in `changed` and `left` of the next sync."""
    lists = (await who.syncs(**more)).get("device_lists", {})
    return lists.get("changed", []), lists.get("left", [])


async def two_in_a_room(alice: Client, bob: Client) -> str:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.syncs()
    await bob.syncs()
    return room


NOTHING = ([], [])


async def test_new_keys_reach_those_who_share_a_room(
    alice: Client, bob: Client, carol: Client
):
    await two_in_a_room(alice, bob)
    await carol.syncs()
    device = Device(alice)
    await device.publishes()
    assert await news(bob) == ([alice.user_id], [])
    assert await news(alice) == ([alice.user_id], [])
    assert await news(carol) == NOTHING
    assert await news(bob) == NOTHING
    await device.publishes("a")  # the same identity keys
    assert await news(bob) == NOTHING


async def test_a_waiting_sync_is_woken_in_every_process(
    another_process: Running, alice: Client, bob: Client
):
    await two_in_a_room(alice, bob)
    there = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
    )
    await there.syncs()
    waiting = [asyncio.create_task(news(who, wait=20)) for who in (bob, there)]
    await asyncio.sleep(0.2)
    await Device(alice).publishes()
    for task in waiting:
        assert await asyncio.wait_for(task, 5) == ([alice.user_id], [])


async def test_names_and_deletions_reach_them_too(
    hearth: Running, alice: Client, bob: Client
):
    await two_in_a_room(alice, bob)
    await alice.put(path("devices", alice.device_id), {"display_name": "keyless"})
    second = await hearth.logs_in(alice.user_id)
    await second.post(path("logout"))
    assert await news(bob) == NOTHING  # devices without keys matter to nobody
    await Device(alice).publishes()
    await news(bob)
    await alice.put(path("devices", alice.device_id), {"display_name": "new"})
    assert await news(bob) == ([alice.user_id], [])
    await alice.put(path("devices", alice.device_id), {"display_name": "new"})
    assert await news(bob) == NOTHING
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
    }
    body = {"devices": [alice.device_id], "auth": auth}
    await alice.post(path("delete_devices"), body)
    assert await news(bob) == ([alice.user_id], [])


async def test_logging_out_everywhere_is_told(alice: Client, bob: Client):
    await two_in_a_room(alice, bob)
    await Device(alice).publishes()
    await news(bob)
    await alice.post(path("logout", "all"))
    assert await news(bob) == ([alice.user_id], [])


async def test_sharing_a_room_begins_and_ends_exactly(
    alice: Client, bob: Client, carol: Client
):
    room = await alice.creates_room(**PUBLIC)
    other = await alice.creates_room(**PUBLIC)
    for who in (alice, bob, carol):
        await who.syncs()
    await bob.joins(room)
    assert await news(alice) == ([bob.user_id], [])
    assert await news(bob) == ([alice.user_id], [])
    await carol.joins(room)
    assert await news(bob) == ([carol.user_id], [])
    assert await news(carol) == (sorted([alice.user_id, bob.user_id]), [])
    await news(alice)
    await bob.joins(other)  # one room more changes nothing
    assert await news(alice) == NOTHING
    await bob.leaves(room)
    assert await news(alice) == NOTHING
    assert await news(carol) == ([], [bob.user_id])
    assert await news(bob) == ([], [carol.user_id])
    await alice.kicks(other, bob)
    assert await news(bob) == ([], [alice.user_id])
    assert await news(alice) == ([], [bob.user_id])
    await bob.joins(room)
    await bob.leaves(room)
    assert await news(alice) == NOTHING
    await bob.joins(room)
    assert await news(alice) == ([bob.user_id], [])
    # Who was away for a moment may have changed devices meanwhile.
    await bob.leaves(room)
    await bob.joins(room)
    assert await news(alice) == ([bob.user_id], [])
    assert alice.user_id in (await news(bob))[0]


async def test_other_events_and_profiles_are_no_news(alice: Client, bob: Client):
    room = await two_in_a_room(alice, bob)
    await alice.sets_displayname("Alice")
    await alice.sends(room, "x")
    await alice.sets_state(room, "m.room.topic", {"topic": "x"})
    assert await news(bob) == NOTHING
    assert await news(alice) == NOTHING


async def test_changes_between_two_tokens(alice: Client, bob: Client, carol: Client):
    room = await two_in_a_room(alice, bob)
    start = bob.seen.since

    async def changes(since: str, upto: str) -> tuple[list, list]:
        reply = await bob.get(path("keys", "changes"), **{"from": since, "to": upto})
        return reply["changed"], reply["left"]

    await Device(alice).publishes()
    await bob.syncs()
    middle = bob.seen.since
    await carol.joins(room)
    await bob.syncs()
    end = bob.seen.since
    assert await changes(start, middle) == ([alice.user_id], [])
    assert await changes(middle, end) == ([carol.user_id], [])
    assert await changes(start, end) == (sorted([alice.user_id, carol.user_id]), [])
    assert await changes(end, end) == NOTHING
    assert await changes(end, start) == NOTHING


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({"from": "s1"}, "M_MISSING_PARAM"),
        ({"to": "s1"}, "M_MISSING_PARAM"),
        ({"from": "x", "to": "s1"}, "M_INVALID_PARAM"),
        ({"from": "s1", "to": "s" + "9" * 30}, "M_INVALID_PARAM"),
    ],
)
async def test_tokens_that_are_none(alice: Client, query: dict, errcode: str):
    with pytest.raises(RefusedError) as refused:
        await alice.get(path("keys", "changes"), **query)
    assert (refused.value.status, refused.value.errcode) == (400, errcode)
