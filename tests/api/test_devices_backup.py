"""Backups of room keys: versions, keys in all forms, which key stays, many writers."""

import asyncio

import pytest

from homeserver.devices.store import backup as store
from tests.support.api import RefusedError, path
from tests.support.app import Running
from tests.support.client import Client, Json

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER = "!room:hearth.test", "!other:hearth.test"
NOT_FOUND = (404, "M_NOT_FOUND")
VERSION = path("room_keys", "version")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def key(first: int = 0, forwarded: int = 0, *, verified: bool = True, **data) -> Json:
    return {
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": data or {"ciphertext": "x"},
    }


def keys(*parts: str) -> str:
    return path("room_keys", "keys", *parts)


async def new_backup(who: Client) -> str:
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "abc"}}
    return (await who.post(VERSION, body))["version"]


async def put(who: Client, where: str, body: Json, version: str) -> Json:
    return await who.call("PUT", where, body, query={"version": version})


async def test_versions_follow_one_another(alice: Client, bob: Client):
    assert await refusal(alice.get(VERSION)) == NOT_FOUND
    first = await new_backup(alice)
    assert await alice.get(VERSION) == {
        "algorithm": ALGORITHM,
        "auth_data": {"public_key": "abc"},
        "count": 0,
        "etag": "0",
        "version": first,
    }
    second = await new_backup(alice)
    assert second != first
    assert (await alice.get(VERSION))["version"] == second
    assert (await alice.get(f"{VERSION}/{first}"))["version"] == first
    assert await refusal(bob.get(f"{VERSION}/{first}")) == NOT_FOUND
    await alice.delete(f"{VERSION}/{second}")
    await alice.delete(f"{VERSION}/{second}")
    assert await refusal(alice.get(f"{VERSION}/{second}")) == NOT_FOUND
    assert (await alice.get(VERSION))["version"] == first
    assert await new_backup(alice) not in {first, second}
    for version in ("77", "x", "-1", "1" * 30, "\0"):
        where = path("room_keys", "version", version)
        assert await refusal(alice.delete(where)) == NOT_FOUND


async def test_only_auth_data_changes(alice: Client):
    version = await new_backup(alice)
    where = f"{VERSION}/{version}"
    new = {"algorithm": ALGORITHM, "auth_data": {"new": 1.5}}
    await alice.put(where, new)
    await alice.put(where, {**new, "version": version})
    assert (await alice.get(where))["auth_data"] == {"new": 1.5}
    for body in ({**new, "algorithm": "other"}, {**new, "version": "9"}):
        assert await refusal(alice.put(where, body)) == (400, "M_INVALID_PARAM")
    assert await refusal(alice.put(f"{VERSION}/99", new)) == NOT_FOUND
    for body in ({"algorithm": ALGORITHM}, {**new, "auth_data": 1}):
        assert await refusal(alice.post(VERSION, body)) == (400, "M_BAD_JSON")
    body = {**new, "algorithm": "other"}
    assert await refusal(alice.post(VERSION, body)) == (400, "M_INVALID_PARAM")
    body = {**new, "auth_data": {"x": "x" * 70_000}}
    assert await refusal(alice.post(VERSION, body)) == (413, "M_TOO_LARGE")


async def test_keys_are_stored_and_read_in_every_form(alice: Client):
    version = await new_backup(alice)
    reply = await put(alice, keys(ROOM, "s/1"), key(a=1), version)
    assert reply == {"count": 1, "etag": "1"}
    body = {"sessions": {"s2": key(b=2), "s3": key(c=3)}}
    reply = await put(alice, keys(ROOM), body, version)
    assert reply == {"count": 3, "etag": "2"}
    body = {"rooms": {OTHER: {"sessions": {"s4": key(d=4)}}}}
    reply = await put(alice, keys(), body, version)
    assert reply == {"count": 4, "etag": "3"}
    of_room = {"s/1": key(a=1), "s2": key(b=2), "s3": key(c=3)}
    assert await alice.get(keys(ROOM, "s/1"), version=version) == key(a=1)
    assert await alice.get(keys(ROOM), version=version) == {"sessions": of_room}
    everything = await alice.get(keys(), version=version)
    assert everything == {
        "rooms": {
            ROOM: {"sessions": of_room},
            OTHER: {"sessions": {"s4": key(d=4)}},
        }
    }
    shown = await alice.get(VERSION)
    assert (shown["count"], shown["etag"]) == (4, "3")


async def test_keys_are_deleted_in_every_form(alice: Client):
    version = await new_backup(alice)
    sessions = {"sessions": {f"s{n}": key() for n in range(3)}}
    body = {"rooms": {ROOM: sessions, OTHER: sessions}}
    await put(alice, keys(), body, version)

    async def delete(*parts: str) -> Json:
        return await alice.call("DELETE", keys(*parts), query={"version": version})

    assert await delete(ROOM, "s0") == {"count": 5, "etag": "2"}
    assert await delete(ROOM, "s0") == {"count": 5, "etag": "2"}
    where = keys(ROOM, "s0")
    assert await refusal(alice.get(where, version=version)) == NOT_FOUND
    assert await delete(OTHER) == {"count": 2, "etag": "3"}
    assert await alice.get(keys(OTHER), version=version) == {"sessions": {}}
    assert await delete() == {"count": 0, "etag": "4"}
    assert await alice.get(keys(), version=version) == {"rooms": {}}
    for call in ("GET", "DELETE"):
        for parts in ((), (ROOM,), (ROOM, "s1")):
            asked = alice.call(call, keys(*parts), query={"version": "99"})
            assert await refusal(asked) == NOT_FOUND
            asked = alice.call(call, keys(*parts))
            assert await refusal(asked) == (400, "M_MISSING_PARAM")


@pytest.mark.parametrize(
    ("old", "new", "replaces"),
    [
        (key(5, 5, verified=False), key(9, 9, verified=True), True),
        (key(9, 9, verified=True), key(0, 0, verified=False), False),
        (key(5, 5), key(4, 9), True),
        (key(5, 5), key(6, 0), False),
        (key(5, 5), key(5, 4), True),
        (key(5, 5), key(5, 6), False),
        (key(5, 5, data="old"), key(5, 5, data="new"), False),
    ],
)
async def test_the_better_key_stays(alice: Client, old: Json, new: Json, replaces):
    version = await new_backup(alice)
    await put(alice, keys(ROOM, "s"), old, version)
    reply = await put(alice, keys(ROOM, "s"), new, version)
    assert reply == {"count": 1, "etag": "2" if replaces else "1"}
    found = await alice.get(keys(ROOM, "s"), version=version)
    assert found == (new if replaces else old)


async def test_keys_are_written_to_the_current_version_only(alice: Client):
    assert await refusal(put(alice, keys(ROOM, "s"), key(), "1")) == NOT_FOUND
    old = await new_backup(alice)
    await put(alice, keys(ROOM, "s"), key(), old)
    new = await new_backup(alice)
    with pytest.raises(RefusedError) as refused:
        await put(alice, keys(ROOM, "s"), key(), old)
    assert (refused.value.status, refused.value.errcode) == (
        403,
        "M_WRONG_ROOM_KEYS_VERSION",
    )
    assert refused.value.body["current_version"] == new
    # The old ones can still be read.
    assert await alice.get(keys(ROOM, "s"), version=old) == key()


async def test_many_writers_lose_nothing(another_process: Running, alice: Client):
    version = await new_backup(alice)
    there = another_process.client(alice.access_token)
    await asyncio.gather(
        *(
            put(who, keys(ROOM, f"s{n % 20}"), key(40 - n), version)
            for n in range(40)
            for who in (alice, there)
        )
    )
    found = (await alice.get(keys(ROOM), version=version))["sessions"]
    assert {name: each["first_message_index"] for name, each in found.items()} == {
        f"s{n}": 20 - n for n in range(20)
    }
    shown = await alice.get(VERSION)
    assert shown["count"] == 20
    versions = await asyncio.gather(*(new_backup(alice) for _ in range(5)))
    assert len(set(versions)) == 5


async def test_many_keys_come_page_by_page(monkeypatch, alice: Client):
    monkeypatch.setattr(store, "PAGE", 7)
    version = await new_backup(alice)
    rooms = {
        f"!r{n}:x": {"sessions": {f"s{m}": key(m) for m in range(n)}}
        for n in range(1, 9)
    }
    await put(alice, keys(), {"rooms": rooms}, version)
    assert (await alice.get(keys(), version=version))["rooms"] == rooms


@pytest.mark.parametrize(
    ("where", "body", "expected"),
    [
        (keys(), {}, (400, "M_BAD_JSON")),
        (keys(), {"rooms": {"x": {"sessions": {}}}}, (400, "M_INVALID_PARAM")),
        (keys(ROOM), {"sessions": {"s": {}}}, (400, "M_BAD_JSON")),
        (keys(ROOM), {"sessions": {"s": key(-1)}}, (400, "M_INVALID_PARAM")),
        (keys(ROOM), {"sessions": {"s\0": key()}}, (400, "M_BAD_JSON")),
        (keys(ROOM), {"sessions": {"": key()}}, (400, "M_INVALID_PARAM")),
        (keys(ROOM), {"sessions": {"s" * 300: key()}}, (400, "M_BAD_JSON")),
        (keys("x"), {"sessions": {}}, (400, "M_INVALID_PARAM")),
        (keys(ROOM, "s"), key(2**60), (400, "M_BAD_JSON")),
    ],
)
async def test_bodies_that_make_no_sense(alice: Client, where, body, expected):
    version = await new_backup(alice)
    assert await refusal(put(alice, where, body, version)) == expected
