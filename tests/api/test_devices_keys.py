"""Identity, one-time and fallback keys: uploaded, asked for, claimed once."""

import asyncio

import pytest

from federation.signatures import encode_base64
from tests.support.api import RefusedError, path
from tests.support.app import Running
from tests.support.client import Client
from tests.support.encryption import OLM, Device, claims, keys_of, names_in

DUPLICATE = (400, "io.github.johennes.msc4420.M_DUPLICATE_ONE_TIME_KEY")
BAD = (400, "M_BAD_JSON")
INVALID = (400, "M_INVALID_PARAM")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def counts(who: Client) -> dict[str, int]:
    return (await who.syncs())["device_one_time_keys_count"]


async def unused(who: Client) -> list[str]:
    return (await who.syncs())["device_unused_fallback_key_types"]


async def test_keys_are_told_as_they_were_uploaded(alice: Client, bob: Client):
    device = Device(alice)
    assert await device.publishes() == {"one_time_key_counts": {}}
    found = await keys_of(bob, alice)
    assert found["device_keys"] == {alice.user_id: {alice.device_id: device.keys()}}
    assert found["failures"] == {}
    name = {"display_name": "Küche \0"}
    await alice.put(path("devices", alice.device_id), name)
    shown = (await keys_of(bob, alice))["device_keys"][alice.user_id]
    unsigned = shown[alice.device_id].pop("unsigned")
    assert unsigned == {"device_display_name": "Küche \0"}
    assert shown[alice.device_id] == device.keys()


async def test_a_query_names_devices_or_none(hearth: Running, alice: Client):
    await Device(alice).publishes()
    second = await hearth.logs_in(alice.user_id)
    for asked, found in [
        ([], {alice.device_id}),
        ([alice.device_id, "OTHER"], {alice.device_id}),
        ([second.device_id], set()),
    ]:
        body = {"device_keys": {alice.user_id: asked}}
        reply = await alice.post(path("keys", "query"), body)
        assert set(reply["device_keys"][alice.user_id]) == found
    body = {"device_keys": {f"@nobody-at-all:{alice.server_name}": []}}
    assert (await alice.post(path("keys", "query"), body))["device_keys"] == {}


async def test_one_time_keys_are_claimed_once_the_oldest_first(
    alice: Client, bob: Client
):
    device = Device(alice)
    reply = await device.publishes("z", fallback="f")
    assert reply == {"one_time_key_counts": {OLM: 1}}
    reply = await device.uploads(one_time_keys=device.one_time_keys("a"))
    assert reply == {"one_time_key_counts": {OLM: 2}}
    assert await counts(alice) == {OLM: 2}
    taken = [names_in(await claims(bob, alice), alice) for _ in range(4)]
    # The fallback key is not used up.
    assert taken == [["z"], ["a"], ["f"], ["f"]]
    assert await counts(alice) == {}


async def test_a_fallback_key_is_unused_until_it_is_claimed_or_replaced(
    alice: Client, bob: Client
):
    device = Device(alice)
    assert await unused(alice) == []
    await device.publishes(fallback="one")
    assert await unused(alice) == [OLM]
    claimed = (await claims(bob, alice))["one_time_keys"]
    key = claimed[alice.user_id][alice.device_id][f"{OLM}:one"]
    assert key["fallback"] is True
    assert await unused(alice) == []
    await device.uploads(fallback_keys={f"{OLM}:one": key})  # no news
    assert await unused(alice) == []
    await device.publishes(fallback="two")
    assert await unused(alice) == [OLM]
    assert names_in(await claims(bob, alice), alice) == ["two"]


async def test_the_same_key_may_come_again_but_no_other_of_its_name(
    alice: Client, bob: Client
):
    device = Device(alice)
    keys = device.one_time_keys("a", "b")
    await device.uploads(one_time_keys=keys)
    assert await device.uploads(one_time_keys=keys) == {"one_time_key_counts": {OLM: 2}}
    mixed = device.one_time_keys("b", "c")
    call = device.uploads(one_time_keys=mixed, device_keys=device.keys())
    with pytest.raises(RefusedError) as refused:
        await call
    assert (refused.value.status, refused.value.errcode) == DUPLICATE
    assert refused.value.body["error"] == f"One-time key {OLM}:b already exists."
    # All or nothing.
    assert await counts(alice) == {OLM: 2}
    assert (await keys_of(bob, alice))["device_keys"] == {alice.user_id: {}}


async def test_a_claimed_key_does_not_come_back(alice: Client, bob: Client):
    device = Device(alice)
    keys = device.one_time_keys("a")
    await device.uploads(one_time_keys=keys)
    assert names_in(await claims(bob, alice), alice) == ["a"]
    # As when the answer to the upload was lost.
    assert await device.uploads(one_time_keys=keys) == {"one_time_key_counts": {}}
    assert names_in(await claims(bob, alice), alice) == []
    await device.uploads(one_time_keys=device.one_time_keys("a"))  # another key
    assert names_in(await claims(bob, alice), alice) == ["a"]


async def test_each_key_is_given_once_to_many_at_once_in_two_processes(
    another_process: Running, alice: Client, bob: Client
):
    names = [f"k{n:02}" for n in range(50)]
    await Device(alice).publishes(*names)
    there = another_process.client(bob.access_token)
    replies = await asyncio.gather(
        *(claims(who, alice) for _ in range(32) for who in (bob, there))
    )
    taken = [name for reply in replies for name in names_in(reply, alice)]
    assert sorted(taken) == names
    assert await counts(alice) == {}


async def test_a_claim_wakes_the_device_that_waits(alice: Client, bob: Client):
    await Device(alice).publishes("a", "b")
    await alice.syncs()
    waiting = asyncio.create_task(alice.syncs(wait=20))
    await asyncio.sleep(0.1)
    await claims(bob, alice)
    reply = await asyncio.wait_for(waiting, 5)
    assert reply["device_one_time_keys_count"] == {OLM: 1}


async def test_syncs_without_news_ask_the_database_nothing(
    hearth: Running, alice: Client, monkeypatch
):
    await Device(alice).publishes("a", fallback="f")
    await alice.syncs()
    first = await alice.syncs()
    asked = []
    for name in ("read", "snapshot", "transaction"):
        real = getattr(hearth.ctx.db, name)

        def spy(real=real, name=name):
            asked.append(name)
            return real()

        monkeypatch.setattr(hearth.ctx.db, name, spy)
    second = await alice.syncs()
    monkeypatch.undo()
    assert first["device_one_time_keys_count"] == {OLM: 1}
    assert second["device_one_time_keys_count"] == {OLM: 1}
    assert second["device_unused_fallback_key_types"] == [OLM]
    assert asked == []


async def test_counts_are_right_in_every_process(
    another_process: Running, alice: Client, bob: Client
):
    await Device(alice).publishes("a", "b")
    there = another_process.client(alice.access_token)
    shown = await there.get(path("sync"))
    assert shown["device_one_time_keys_count"] == {OLM: 2}
    await claims(bob, alice)
    here = await alice.syncs()
    shown = await there.get(path("sync"), since=here["next_batch"])
    assert shown["device_one_time_keys_count"] == {OLM: 1}


async def test_a_claim_of_what_is_not_there_gives_nothing(alice: Client, bob: Client):
    await Device(alice).publishes("a")
    reply = await claims(bob, alice, algorithm="curve25519\0")
    assert reply == {"one_time_keys": {}, "failures": {}}
    body = {"one_time_keys": {alice.user_id: {"OTHER": OLM, "NUL\0": OLM}}}
    assert (await bob.post(path("keys", "claim"), body))["one_time_keys"] == {}
    assert names_in(await claims(bob, alice), alice) == ["a"]


async def test_keys_go_with_the_device(hearth: Running, alice: Client, bob: Client):
    await Device(alice).publishes("a", fallback="f")
    await alice.logs_out()
    assert (await keys_of(bob, alice))["device_keys"] == {alice.user_id: {}}
    assert names_in(await claims(bob, alice), alice) == []
    again = await hearth.logs_in(alice.user_id, device_id=alice.device_id)
    assert (await again.get(path("sync")))["device_one_time_keys_count"] == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"device_keys": []}, BAD),
        ({"device_keys": {"user_id": "@x:y"}}, INVALID),
        ({"one_time_keys": []}, BAD),
        ({"one_time_keys": {"nocolon": "k"}}, BAD),
        ({"one_time_keys": {":x": "k"}}, BAD),
        ({"one_time_keys": {"a:\0": "k"}}, BAD),
        ({"one_time_keys": {"a:\x10": "k"}}, BAD),
        ({"one_time_keys": {"a:" + "x" * 300: "k"}}, BAD),
        ({"one_time_keys": {"a:b": 1}}, BAD),
        ({"one_time_keys": {"a:b": {"key": 1}}}, BAD),
        ({"one_time_keys": {"a:b": {"key": "x"}}}, BAD),
        ({"one_time_keys": {"a:b": {"key": "x", "signatures": {"@a:b": 1}}}}, BAD),
        ({"one_time_keys": {"a:b": {"key": "x", "signatures": {}, "f": 1.5}}}, BAD),
        ({"fallback_keys": {"a:b": "x", "a:c": "y"}}, INVALID),
        ({"one_time_keys": {"a:b": "x" * 70_000}}, (413, "M_TOO_LARGE")),
        (
            {"one_time_keys": {f"a:{n}": "x" for n in range(1001)}},
            (413, "M_TOO_LARGE"),
        ),
    ],
)
async def test_uploads_that_make_no_sense_are_refused(
    alice: Client, body: dict, expected: tuple[int, str]
):
    assert await refusal(alice.post(path("keys", "upload"), body)) == expected


async def test_keys_of_another_device_are_refused(alice: Client, bob: Client):
    device = Device(alice)
    for change in (
        {"user_id": bob.user_id},
        {"device_id": "OTHER"},
        {"algorithms": "x"},
        {"algorithms": [1]},
        {"keys": {"a": 1}},
        {"signatures": []},
        {"signatures": {"a": {"b": 1}}},
        {"x": 1.5},
    ):
        call = device.uploads(device_keys={**device.keys(), **change})
        assert (await refusal(call))[0] == 400, change
    for body in ({"device_keys": 1}, {"device_keys": {"@a:b": [1]}}, {}):
        assert await refusal(alice.post(path("keys", "query"), body)) == BAD
    for body in ({"one_time_keys": {"@a:b": {"c": 1}}}, {}):
        assert await refusal(alice.post(path("keys", "claim"), body)) == BAD
    for body in ({"device_keys": {"nobody": []}}, {"device_keys": {"@\0:x": []}}):
        assert await refusal(alice.post(path("keys", "query"), body)) == INVALID


async def test_plain_string_keys_are_kept(alice: Client, bob: Client):
    public = encode_base64(Device(alice).key.public)
    await Device(alice).uploads(one_time_keys={"curve25519:AAAA": public})
    reply = await claims(bob, alice, algorithm="curve25519")
    found = reply["one_time_keys"][alice.user_id][alice.device_id]
    assert found == {"curve25519:AAAA": public}
