"""Keys, device lists and messages to devices across servers, with cuts and restarts."""

import asyncio

from federation.canonical_json import JsonObject
from federation.signatures import encode_base64, sign_json
from homeserver.devices import edus
from tests.support.api import path
from tests.support.client import Client, log_in
from tests.support.encryption import OLM, Device, claims, keys_of, names_in, sends_to
from tests.support.sites import Site, World, eventually

PUBLIC = {"preset": "public_chat"}


async def share_a_room(alice: Client, bob: Client) -> str:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await bob.syncs()
    return room


async def hears_of(who: Client, other: Client, seconds: float = 20) -> None:
    """Sync until `other` stands in device_lists.changed."""

    async def heard() -> bool:
        reply = await who.syncs(wait=2)
        return other.user_id in reply.get("device_lists", {}).get("changed", [])

    await eventually(heard, f"{who.user_id} hears of {other.user_id}", seconds)


async def sees_devices(who: Client, other: Client, *expected: str) -> JsonObject:
    """Query until exactly these devices are shown; their keys."""

    async def right() -> JsonObject | None:
        found = (await keys_of(who, other))["device_keys"].get(other.user_id)
        return (
            {"found": found}
            if found is not None and set(found) == {*expected}
            else None
        )

    return (await eventually(right, f"devices {expected}"))["found"]


async def got(who: Client, count: int, seconds: float = 20) -> list:
    """The contents of to-device messages, once there are so many."""

    async def enough() -> bool:
        await who.syncs(wait=1)
        return len(who.seen.to_device) >= count

    await eventually(enough, f"{count} messages", seconds)
    return [message["content"] for message in who.seen.to_device]


async def test_keys_are_asked_for_and_claimed_across_servers(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    device = Device(alice)
    await device.publishes("one", "two", fallback="f")
    signing = device.new_cross_signing()
    await alice.post(path("keys", "device_signing", "upload"), signing)
    await alice.put(path("devices", alice.device_id), {"display_name": "Pult"})
    for shared in (False, True):  # strangers, too, may ask
        if shared:
            await share_a_room(alice, bob)
        found = await keys_of(bob, alice)
        assert found["failures"] == {}
        keys = found["device_keys"][alice.user_id][alice.device_id]
        assert keys.pop("unsigned") == {"device_display_name": "Pult"}
        assert keys == device.keys()
        assert found["master_keys"] == {alice.user_id: signing["master_key"]}
        assert found["self_signing_keys"] == {
            alice.user_id: signing["self_signing_key"]
        }
        assert "user_signing_keys" not in found
    taken = [names_in(await claims(bob, alice), alice) for _ in range(3)]
    assert taken == [["one"], ["two"], ["f"]]
    reply = await alice.syncs()
    assert reply["device_one_time_keys_count"] == {}
    assert reply["device_unused_fallback_key_types"] == []


async def test_a_server_that_is_away_is_a_failure_and_the_others_answer(
    world: World, a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    await Device(alice).publishes("k")
    await Device(carol).publishes("k")
    b.unreachable.add(c.name)
    found = await keys_of(bob, alice, carol, bob, timeout=5000)
    assert set(found["failures"]) == {c.name}
    assert set(found["device_keys"]) == {alice.user_id, bob.user_id}
    claimed = await claims(bob, alice, carol)
    assert set(claimed["failures"]) == {c.name}
    assert names_in(claimed, alice) == ["k"]
    assert carol.user_id not in claimed["one_time_keys"]


async def test_a_list_is_followed_by_what_its_server_tells(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    device = Device(alice)
    await device.publishes()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    second = await log_in(alice.http, alice.base_url, alice.user_id)
    await Device(second).publishes()
    await hears_of(bob, alice)
    # Known without asking again: a's processes are not to be reached.
    b.unreachable.add(a.name)
    await sees_devices(bob, alice, alice.device_id, second.device_id)
    b.unreachable.clear()
    await second.put(path("devices", second.device_id), {"display_name": "Zwei"})
    await hears_of(bob, alice)
    found = await sees_devices(bob, alice, alice.device_id, second.device_id)
    assert found[second.device_id]["unsigned"] == {"device_display_name": "Zwei"}
    await second.logs_out()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    # Cross-signing keys and signatures follow as well.
    signing = device.new_cross_signing()
    await alice.post(path("keys", "device_signing", "upload"), signing)
    await hears_of(bob, alice)
    found = await keys_of(bob, alice)
    assert found["master_keys"] == {alice.user_id: signing["master_key"]}
    signed = sign_json(device.keys(), alice.user_id, device.self_signing)
    body = {alice.user_id: {alice.device_id: signed}}
    await alice.post(path("keys", "signatures", "upload"), body)
    await hears_of(bob, alice)
    found = await sees_devices(bob, alice, alice.device_id)
    assert found[alice.device_id] == signed


async def test_many_changes_at_once_are_one_gap(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    others = [await log_in(alice.http, alice.base_url, alice.user_id) for _ in range(5)]
    for each in (alice, *others):
        await Device(each).publishes()
    await sees_devices(bob, alice, *(each.device_id for each in (alice, *others)))
    password = {"password": "correct horse battery staple"}
    body = {
        "new_password": "another horse",
        "auth": {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": alice.user_id},
            **password,
        },
    }
    await alice.post(path("account", "password"), body)
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)


async def test_a_gap_is_closed_and_nothing_stale_is_shown(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    await Device(alice).publishes()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    b.unreachable.add(a.name)
    update = {
        "user_id": alice.user_id,
        "device_id": "MISSED",
        "stream_id": 100,
        "prev_id": [99],
        "deleted": True,
    }
    await edus.receive_device_list_update(b.ctx, a.name, update)
    await hears_of(bob, alice)
    found = await keys_of(bob, alice, timeout=2000)
    assert alice.user_id not in found["device_keys"]
    assert set(found["failures"]) == {a.name}
    # It is fetched again after a restart, too, and clients hear of it.
    await b.stop()
    await b.start()
    bob = await b.back_again(bob)
    await b.query("UPDATE remote_device_lists SET retry_at = now()")
    b.unreachable.clear()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    stale = await b.query("SELECT stale FROM remote_device_lists")
    assert [row["stale"] for row in stale] == [False]


async def test_updates_that_were_seen_or_are_not_the_servers_own_change_nothing(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    device = Device(alice)
    await device.publishes()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    (row,) = await b.query("SELECT stream_id FROM remote_device_lists")
    stream_id = row["stream_id"]
    gone = {
        "user_id": alice.user_id,
        "device_id": alice.device_id,
        "stream_id": stream_id,
        "prev_id": [stream_id - 1],
        "deleted": True,
    }
    await edus.receive_device_list_update(b.ctx, a.name, gone)
    await sees_devices(bob, alice, alice.device_id)
    # Of somebody with whom nobody here shares a room.
    stranger = {**gone, "user_id": f"@stranger:{a.name}"}
    await edus.receive_device_list_update(b.ctx, a.name, stranger)
    rows = await b.query("SELECT user_id FROM device_lists")
    assert f"@stranger:{a.name}" not in {row["user_id"] for row in rows}


async def test_who_shares_no_room_is_not_followed(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await share_a_room(alice, bob)
    await Device(alice).publishes()
    await sees_devices(bob, alice, alice.device_id)
    await bob.leaves(room)
    assert await b.query("SELECT user_id FROM remote_device_lists") == []
    second = await log_in(alice.http, alice.base_url, alice.user_id)
    await Device(second).publishes()
    await sees_devices(bob, alice, alice.device_id, second.device_id)
    await bob.joins(room, via=alice)
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id, second.device_id)


async def test_messages_reach_devices_of_another_server_in_order_and_once(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    second = await log_in(bob.http, bob.base_url, bob.user_id)
    for n in range(30):
        await sends_to(alice, {bob.user_id: {bob.device_id: {"n": n}}}, txn=f"t{n}")
    await sends_to(alice, {bob.user_id: {"*": {"n": 30}}})
    await sends_to(alice, {bob.user_id: {bob.device_id: {"n": 0}}}, txn="t0")
    assert await got(bob, 31) == [{"n": n} for n in range(31)]
    assert await got(second, 1) == [{"n": 30}]
    await bob.syncs(wait=1)
    assert len(bob.seen.to_device) == 31


async def test_messages_survive_cuts_and_restarts_of_both_sides(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    world.part(a, b)
    for n in range(3):
        await sends_to(alice, {bob.user_id: {bob.device_id: {"n": n}}})
    await asyncio.sleep(0.5)
    await a.stop()
    await b.stop()
    world.heal()
    await b.start()
    await a.start()
    await a.query("UPDATE destinations SET retry_at = NULL, failing_since = NULL")
    bob = await b.back_again(bob)
    assert await got(bob, 3, 40) == [{"n": n} for n in range(3)]


async def test_a_claim_gives_keys_of_the_devices_asked_for_only(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await Device(alice).publishes("k")
    body = {"one_time_keys": {alice.user_id: {"OTHER": OLM}}}
    reply = await bob.post(path("keys", "claim"), body)
    assert reply == {"one_time_keys": {}, "failures": {}}
    nobody = {"device_keys": {f"@nobody:{a.name}": []}}
    found = await bob.post(path("keys", "query"), nobody)
    assert (found["device_keys"], found["failures"]) == ({}, {})


async def test_a_master_key_of_another_server_is_signed(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await share_a_room(alice, bob)
    hers, his = Device(alice), Device(bob)
    for device in (hers, his):
        await device.publishes()
        signing = device.new_cross_signing()
        await device.user.post(path("keys", "device_signing", "upload"), signing)
    await hears_of(bob, alice)

    async def known() -> bool:
        found = await keys_of(bob, alice)
        return alice.user_id in found.get("master_keys", {})

    await eventually(known, "the master key")
    master = hers.cross_signing_key("master", hers.master)
    signed = sign_json(master, bob.user_id, his.user_signing)
    body = {alice.user_id: {encode_base64(hers.master.public): signed}}
    reply = await bob.post(path("keys", "signatures", "upload"), body)
    assert reply == {"failures": {}}
    found = await keys_of(bob, alice)
    assert found["master_keys"][alice.user_id] == signed
    found = await keys_of(alice, alice)
    assert found["master_keys"][alice.user_id] == master


async def test_a_server_that_knew_an_old_list_is_told_when_the_user_comes_back(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    theirs = await bob.creates_room(**PUBLIC)
    await alice.joins(theirs, via=bob)
    await Device(alice).publishes()
    await hears_of(bob, alice)
    await sees_devices(bob, alice, alice.device_id)
    await alice.leaves(theirs)
    await bob.sees_member(theirs, alice, "leave")
    # A server that keeps the list all the same, as some do.
    await b.query(
        """
        INSERT INTO remote_device_lists (user_id, stream_id, stale)
        VALUES ($1, 1, false)
        """,
        alice.user_id,
    )
    second = await log_in(alice.http, alice.base_url, alice.user_id)
    await Device(second).publishes()
    await alice.joins(theirs, via=bob)

    async def fetched() -> bool:
        rows = await b.query("SELECT stream_id, stale FROM remote_device_lists")
        return [tuple(row) for row in rows] == [(2, False)]

    await eventually(fetched, "the list is fetched again")
    await sees_devices(bob, alice, alice.device_id, second.device_id)
