"""Messages to devices: delivered in order, once, until they are acknowledged."""

import asyncio
import time

import pytest

from homeserver.devices import edus
from homeserver.devices.store import to_device as store
from tests.support.api import RefusedError, path
from tests.support.app import Running
from tests.support.client import Client, log_in
from tests.support.encryption import sends_to

BAD = (400, "M_BAD_JSON")
INVALID = (400, "M_INVALID_PARAM")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def to(who: Client, *contents: object, device: str | None = None) -> dict:
    return {who.user_id: {device or who.device_id: contents[0] if contents else {}}}


async def messages(who: Client, **more: object) -> list:
    reply = await who.syncs(**more)
    return reply.get("to_device", {}).get("events", [])


async def waiting(hearth: Running, who: Client) -> int:
    async with hearth.ctx.db.read() as tx:
        return await tx.fetchval(
            "SELECT count(*) FROM to_device WHERE user_id = $1 AND device_id = $2",
            who.user_id,
            who.device_id,
        )


async def second_device(hearth: Running, who: Client) -> Client:
    user = await hearth.logs_in(who.user_id)
    return Client(
        user.http,
        user.base_url,
        user.access_token,
        user_id=user.user_id,
        device_id=user.device_id,
    )


async def test_a_message_waits_until_it_is_acknowledged(
    hearth: Running, alice: Client, bob: Client
):
    await bob.syncs()
    since = bob.seen.since
    await sends_to(alice, to(bob, {"a": ["ä\0", 1]}), "m.kind \0")
    expected = [
        {"sender": alice.user_id, "type": "m.kind \0", "content": {"a": ["ä\0", 1]}}
    ]
    assert await messages(bob) == expected
    # The answer was lost: the same token gets the same again.
    reply = await bob.get(path("sync"), since=since)
    assert reply["to_device"]["events"] == expected
    assert await waiting(hearth, bob) == 1
    assert await messages(bob) == []
    assert await waiting(hearth, bob) == 0


async def test_a_first_sync_has_what_waits(alice: Client, bob: Client):
    await sends_to(alice, to(bob, {"n": 1}))
    assert [m["content"] for m in await messages(bob)] == [{"n": 1}]
    assert await messages(bob) == []


async def test_only_the_device_named_gets_it_and_a_star_means_all(
    hearth: Running, alice: Client, bob: Client
):
    other = await second_device(hearth, bob)
    await sends_to(alice, to(bob, {"n": 1}))
    await sends_to(alice, to(bob, {"n": 2}, device="*"))
    await sends_to(alice, to(bob, {"n": 3}, device="UNKNOWN"))
    await sends_to(alice, to(bob, {"n": 4}, device="NUL\0"))
    assert [m["content"]["n"] for m in await messages(bob)] == [1, 2]
    assert [m["content"]["n"] for m in await messages(other)] == [2]
    assert await messages(alice) == []
    both = {bob.user_id: {"*": {"n": 5}, other.device_id: {"n": 5}}}
    await sends_to(alice, both)
    assert len(await messages(other)) == 1
    assert len(await messages(bob)) == 1


async def test_a_transaction_is_delivered_once(
    hearth: Running, another_process: Running, alice: Client, bob: Client
):
    there = Client(
        lambda: another_process.session,
        another_process.base_url,
        alice.access_token,
        user_id=alice.user_id,
    )
    await asyncio.gather(
        *(sends_to(who, to(bob, {}), txn="t1") for who in (alice, there) * 3)
    )
    assert len(await messages(bob)) == 1
    await sends_to(alice, to(bob, {}), txn="t1")
    assert await messages(bob) == []
    # Another type, another device: another transaction.
    await sends_to(alice, to(bob, {}), "m.other", txn="t1")
    await sends_to(await second_device(hearth, alice), to(bob, {}), txn="t1")
    assert len(await messages(bob)) == 2


async def test_messages_come_in_order_and_a_hundred_at_a_time(
    hearth: Running, alice: Client, bob: Client
):
    await bob.syncs()
    for n in range(250):
        await sends_to(alice, to(bob, {"n": n}))
    got = []
    for size in (100, 100, 50, 0):
        page = await messages(bob)
        assert len(page) == size
        got += [m["content"]["n"] for m in page]
    assert got == list(range(250))
    assert await waiting(hearth, bob) == 0
    # A token in the middle is good elsewhere too.
    await asyncio.gather(*(sends_to(alice, to(bob, {})) for _ in range(101)))
    await messages(bob)
    assert "d" in bob.seen.since
    room = await bob.creates_room()
    await bob.get(
        path("rooms", room, "messages"), **{"from": bob.seen.since, "dir": "b"}
    )
    assert len(await messages(bob)) == 1


async def test_large_messages_come_in_smaller_portions(
    monkeypatch, alice: Client, bob: Client
):
    monkeypatch.setattr(store, "MAX_BYTES_PER_SYNC", 3000)
    for n in range(10):
        await sends_to(alice, to(bob, {"n": n, "x": "x" * 1000}))
    got = []
    for _ in range(10):
        page = await messages(bob)
        assert len(page) <= 4
        got += [m["content"]["n"] for m in page]
    assert got == list(range(10))


async def test_a_waiting_sync_gets_it_at_once(alice: Client, bob: Client):
    await bob.syncs()
    delays = []
    for _ in range(5):
        waiting_sync = asyncio.create_task(messages(bob, wait=20))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await sends_to(alice, to(bob, {}))
        assert len(await waiting_sync) == 1
        delays.append(time.monotonic() - began)
    assert min(delays) < 0.05


async def test_a_sync_at_another_process_is_woken(
    another_process: Running, alice: Client, bob: Client
):
    there = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
    )
    await there.syncs()
    waiting_sync = asyncio.create_task(messages(there, wait=20))
    await asyncio.sleep(0.1)
    await sends_to(alice, to(bob, {"n": 1}))
    found = await asyncio.wait_for(waiting_sync, 5)
    assert [m["content"] for m in found] == [{"n": 1}]
    # What was acknowledged there is gone here.
    await there.syncs()
    bob.seen.since = there.seen.since
    assert await messages(bob) == []


async def test_an_inbox_is_bounded(
    monkeypatch, hearth: Running, alice: Client, bob: Client
):
    monkeypatch.setattr(store, "MAX_WAITING", 3)
    other = await second_device(hearth, bob)
    for _ in range(3):
        await sends_to(alice, to(bob, {}))
    with pytest.raises(RefusedError) as refused:
        await sends_to(alice, to(bob, {}))
    assert (refused.value.status, refused.value.errcode) == (413, "M_TOO_LARGE")
    assert "inbox is full" in refused.value.body["error"]
    # One full inbox does not keep it from the others.
    await sends_to(alice, to(bob, {}, device="*"))
    assert len(await messages(other)) == 1
    assert len(await messages(bob)) == 3
    await messages(bob)
    await sends_to(alice, to(bob, {}))
    assert len(await messages(bob)) == 1


async def test_messages_go_with_the_device(hearth: Running, alice: Client, bob: Client):
    await sends_to(alice, to(bob, {}))
    await bob.logs_out()
    assert await waiting(hearth, bob) == 0
    again = await log_in(lambda: hearth.session, hearth.base_url, bob.user_id)
    assert await messages(again) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": {"@a:b": []}},
        {"messages": {"@a:b": {"D": 1}}},
        {"messages": {"@a:b": {"D": {"float": 1.5}}}},
        {"messages": {"@a:b": {"D": {"large": 2**60}}}},
    ],
)
async def test_bodies_that_make_no_sense_are_refused(alice: Client, body: dict):
    call = alice.put(path("sendToDevice", "m.test", "t"), body)
    assert await refusal(call) == BAD


async def test_names_that_make_no_sense_are_refused(alice: Client):
    for kind, txn in (("m" * 256, "t"), ("m.test", "t" * 256)):
        call = alice.put(path("sendToDevice", kind, txn), {"messages": {}})
        assert await refusal(call) == INVALID
    call = sends_to(alice, {"nobody": {"D": {}}})
    assert await refusal(call) == INVALID
    await sends_to(alice, {})


async def test_messages_of_other_servers_come_once_by_their_id(
    hearth: Running, bob: Client
):
    content = {
        "sender": "@x:far.test",
        "type": "m.far",
        "message_id": "one",
        "messages": {bob.user_id: {"*": {"float": 1.5, "large": 2**70}}},
    }
    for message_id in ("one", "one", "two"):
        given = {**content, "message_id": message_id}
        await edus.receive_message(hearth.ctx, "far.test", given)
    found = await messages(bob)
    assert [m["content"] for m in found] == [{"float": 1.5, "large": 2**70}] * 2
    assert found[0]["sender"] == "@x:far.test"
