"""Deleting account data (MSC3391), and what may not be set at all."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.sliding import Sliding

UNSTABLE = "/_matrix/client/unstable/org.matrix.msc3391/user/"
TYPE = "org.example.note"
DATA = {"account_data": {"enabled": True}}


def unstable(client: Client, *parts: str) -> str:
    escaped = (part.replace("!", "%21").replace(":", "%3A") for part in parts)
    who = client.user_id.replace("@", "%40").replace(":", "%3A")
    return UNSTABLE + "/".join((who, *escaped))


def shown(events: list[dict]) -> dict[str, dict]:
    return {event["type"]: event["content"] for event in events}


async def test_what_is_deleted_is_gone_and_other_devices_hear_of_it(alice):
    where = path("user", alice.user_id, "account_data", TYPE)
    await alice.put(where, {"text": "milk"})
    since = (await alice.get(path("sync")))["next_batch"]
    sliding = Sliding(alice)
    await sliding.asks(extensions=DATA)
    await alice.delete(unstable(alice, "account_data", TYPE))
    with pytest.raises(RefusedError) as error:
        await alice.get(where)
    assert error.value.errcode == "M_NOT_FOUND"
    reply = await alice.get(path("sync"), since=since)
    assert shown(reply["account_data"]["events"]) == {TYPE: {}}
    reply = await sliding.asks(extensions=DATA)
    assert shown(reply["extensions"]["account_data"]["global"]) == {TYPE: {}}
    reply = await alice.get(path("sync"))
    assert TYPE not in shown(reply["account_data"]["events"])
    reply = await Sliding(alice, "another").asks(extensions=DATA)
    assert TYPE not in shown(reply["extensions"]["account_data"]["global"])
    # Again does no harm, and it can be set anew.
    await alice.delete(unstable(alice, "account_data", TYPE))
    await alice.put(where, {"text": "bread"})
    assert await alice.get(where) == {"text": "bread"}


async def test_of_a_room_as_well(alice):
    room = await alice.creates_room()
    where = path("user", alice.user_id, "rooms", room, "account_data", TYPE)
    await alice.put(where, {"text": "milk"})
    since = (await alice.get(path("sync")))["next_batch"]
    await alice.delete(unstable(alice, "rooms", room, "account_data", TYPE))
    reply = await alice.get(path("sync"), since=since)
    section = reply["rooms"]["join"][room]
    assert shown(section["account_data"]["events"]) == {TYPE: {}}
    section = (await alice.get(path("sync")))["rooms"]["join"][room]
    assert TYPE not in shown(section["account_data"]["events"])
    reply = await Sliding(alice).asks(extensions=DATA)
    assert "rooms" not in reply["extensions"]["account_data"]


async def test_what_is_set_to_nothing_is_set(alice):
    where = path("user", alice.user_id, "account_data", TYPE)
    await alice.put(where, {})
    assert await alice.get(where) == {}


async def test_deleting_the_list_of_ignored_users_ignores_nobody(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    where = path("user", alice.user_id, "account_data", "m.ignored_user_list")
    await alice.put(where, {"ignored_users": {bob.user_id: {}}})
    await alice.delete(unstable(alice, "account_data", "m.ignored_user_list"))
    await bob.sends(room, "heard again")
    await alice.sees(room, "heard again")


@pytest.mark.parametrize("type_", ["m.push_rules", "m.fully_read"])
async def test_what_the_server_sets_can_be_neither_set_nor_deleted(alice, type_):
    with pytest.raises(RefusedError) as error:
        await alice.delete(unstable(alice, "account_data", type_))
    assert error.value.status == 405
    with pytest.raises(RefusedError) as error:
        await alice.put(path("user", alice.user_id, "account_data", type_), {})
    assert error.value.status == 405


async def test_too_much_is_refused(alice, bob):
    where = path("user", alice.user_id, "account_data", TYPE)
    with pytest.raises(RefusedError) as error:
        await alice.put(where, {"text": "x" * 300_000})
    assert (error.value.status, error.value.errcode) == (413, "M_TOO_LARGE")
    with pytest.raises(RefusedError) as error:
        await alice.delete(unstable(bob, "account_data", TYPE))
    assert error.value.errcode == "M_FORBIDDEN"
