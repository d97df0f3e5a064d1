"""Dehydrated devices: left behind, written to, brought back, replaced, deleted."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.app import Running
from tests.support.client import Client
from tests.support.encryption import OLM, Device, claims, keys_of, names_in, sends_to

WHERE = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "m.dehydration.v2", "device_pickle": "abc", "nonce": "x"}


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def asleep(who: Client, name: str) -> Client:
    return Client(who.http, who.base_url, user_id=who.user_id, device_id=name)


async def leaves_behind(who: Client, name: str) -> Client:
    sleeper = asleep(who, name)
    device = Device(sleeper)
    reply = await who.put(
        WHERE,
        {
            "device_id": name,
            "device_data": DATA,
            "device_keys": device.keys(dehydrated=True),
            "one_time_keys": device.one_time_keys("one"),
            "fallback_keys": {f"{OLM}:f": device.one_time_key(fallback=True)},
            "initial_device_display_name": "asleep",
        },
    )
    assert reply == {"device_id": name}
    return sleeper


async def test_it_is_a_device_like_others_and_is_picked_up(alice: Client, bob: Client):
    assert await refusal(alice.get(WHERE)) == (404, "M_NOT_FOUND")
    sleeper = await leaves_behind(alice, "SLEEPER")
    assert await alice.get(WHERE) == {"device_id": "SLEEPER", "device_data": DATA}
    keys = (await keys_of(bob, alice))["device_keys"][alice.user_id]["SLEEPER"]
    assert keys["dehydrated"] is True
    taken = [names_in(await claims(bob, sleeper), sleeper) for _ in range(2)]
    assert taken == [["one"], ["f"]]
    for n in range(101):
        await sends_to(bob, {alice.user_id: {"*": {"n": n}}})
    events = f"{WHERE}/SLEEPER/events"
    for _ in range(2):  # nothing is deleted by looking
        first = await alice.get(events)
        assert len(first["events"]) == 100
        last = await alice.get(events, **{"from": first["next_batch"]})
        assert "next_batch" not in last
        got = [event["content"]["n"] for event in first["events"] + last["events"]]
        assert got == list(range(101))
    assert await alice.delete(WHERE) == {"device_id": "SLEEPER"}
    assert await refusal(alice.get(events)) == (403, "M_FORBIDDEN")
    assert (await keys_of(bob, alice))["device_keys"][alice.user_id] == {}


async def test_a_new_one_replaces_the_old(alice: Client, bob: Client):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    await leaves_behind(alice, "ONE")
    await bob.syncs()
    await leaves_behind(alice, "TWO")
    assert (await bob.syncs())["device_lists"]["changed"] == [alice.user_id]
    shown = (await keys_of(bob, alice))["device_keys"][alice.user_id]
    assert set(shown) == {"TWO"}
    await leaves_behind(alice, "TWO")
    devices = (await alice.get(path("devices")))["devices"]
    assert {each["device_id"] for each in devices} == {"TWO", alice.device_id}


async def test_it_cannot_take_the_place_of_a_device_in_use(
    hearth: Running, alice: Client
):
    call = leaves_behind(alice, alice.device_id)
    assert await refusal(call) == (400, "M_INVALID_PARAM")
    await alice.whoami()
    assert await refusal(alice.get(WHERE)) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": ""},
        {"device_id": "OTHER"},
        {"device_data": 1},
        {"device_keys": {}},
        {"one_time_keys": {"x": 1}},
        {"one_time_keys": 1},
        {"fallback_keys": {"a:b": "x", "a:c": "y"}},
        {"initial_device_display_name": "x" * 300},
    ],
)
async def test_what_makes_no_sense_is_refused(alice: Client, change: dict):
    body = {
        "device_id": "S",
        "device_data": DATA,
        "device_keys": Device(asleep(alice, "S")).keys(),
    }
    assert (await refusal(alice.put(WHERE, {**body, **change})))[0] == 400
    token = {"from": "x"}
    await alice.put(WHERE, body)
    call = alice.get(f"{WHERE}/S/events", **token)
    assert await refusal(call) == (400, "M_INVALID_PARAM")
