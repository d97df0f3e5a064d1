"""How others hear of a profile: in their rooms, and in both syncs."""

import asyncio
import json
import time

import pytest

from homeserver.rooms import membership
from tests.support.api import Json, RefusedError, eventually, path
from tests.support.client import Client
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
USERS = "org.matrix.msc4429.users"
EXTENSION = "org.matrix.msc4262.profiles"
UNSTABLE = "/_matrix/client/unstable/uk.tcpip.msc4133/profile/"


def wants(*names: str) -> str:
    return json.dumps(
        {
            "presence": {"not_types": ["*"]},
            "org.matrix.msc4429.profile_fields": {"ids": names},
        }
    )


async def says(client: Client, name: str, value: object) -> None:
    await client.put(path("profile", client.user_id, name), {name: value})


async def hall(first: Client, *others: Client) -> str:
    room = await first.creates_room(**PUBLIC)
    for other in others:
        await other.joins(room)
    return room


async def name_in(client: Client, room: str) -> str | None:
    content = await client.state_of(room, "m.room.member", client.user_id)
    return content.get("displayname")


# ── Rooms ────────────────────────────────────────────────────────────────────────────


async def test_all_rooms_are_told_without_anybody_waiting(alice, monkeypatch):
    rooms = [await alice.creates_room() for _ in range(3)]
    go_on = asyncio.Event()
    plain = membership._send

    async def slow(*args, **more):
        await go_on.wait()
        return await plain(*args, **more)

    monkeypatch.setattr(membership, "_send", slow)
    started = time.monotonic()
    await says(alice, "displayname", "Alice")
    assert time.monotonic() - started < 5
    assert (await alice.profile_of(alice))["displayname"] == "Alice"
    assert await name_in(alice, rooms[0]) is None
    # A second change meanwhile: the last one wins everywhere.
    await says(alice, "displayname", "Alicia")
    go_on.set()
    for room in rooms:

        async def is_told(room: str = room) -> bool:
            return await name_in(alice, room) == "Alicia"

        await eventually(is_told, "the room knows")


async def test_few_rooms_know_when_the_answer_comes(alice):
    room = await alice.creates_room()
    await says(alice, "displayname", "Quick")
    assert await name_in(alice, room) == "Quick"


async def test_what_a_process_left_behind_is_taken_up(hearth, alice, another_process):
    room = await alice.creates_room()
    await says(alice, "displayname", "One")
    async with hearth.ctx.db.transaction() as tx:
        # As after a crash: the profile is written, the rooms do not know yet.
        await tx.execute(
            "UPDATE profiles SET value = '\"Two\"' WHERE user_id = $1", alice.user_id
        )
        await tx.execute(
            "INSERT INTO profile_tellings (user_id, position, claimed_until)"
            " VALUES ($1, 1, now() - interval '1 s')",
            alice.user_id,
        )
    bystander = Client(
        alice.http, alice.base_url, alice.access_token, user_id=alice.user_id
    )
    await says(bystander, "m.tz", "Europe/Berlin")  # wakes everybody

    async def is_told() -> bool:
        return await name_in(alice, room) == "Two"

    await eventually(is_told, "the room knows")


async def test_rooms_that_know_it_are_not_told_again(alice):
    room = await alice.creates_room()
    await says(alice, "displayname", "Same")
    before = len(await alice.history(room))
    await says(alice, "displayname", "Same")
    await says(alice, "org.example.mood", "fine")
    assert len(await alice.history(room)) == before


# ── The unstable path ────────────────────────────────────────────────────────────────


async def test_the_unstable_path_does_the_same(hearth, alice):
    where = UNSTABLE + alice.user_id.replace("@", "%40").replace(":", "%3A")
    await alice.put(where + "/m.tz", {"m.tz": "Europe/Paris"})
    assert await hearth.nobody.get(where) == {"m.tz": "Europe/Paris"}
    assert await hearth.nobody.get(where + "/m.tz") == {"m.tz": "Europe/Paris"}
    await alice.delete(where + "/m.tz")
    assert await alice.profile_of(alice) == {}
    features = (await alice.get("/_matrix/client/versions"))["unstable_features"]
    assert features["uk.tcpip.msc4133"] is True
    assert features["uk.tcpip.msc4133.stable"] is True
    capabilities = (await alice.get(path("capabilities")))["capabilities"]
    assert capabilities["uk.tcpip.msc4133.profile_fields"] == {"enabled": True}


# ── Sync ─────────────────────────────────────────────────────────────────────────────


async def test_sync_tells_the_fields_that_are_asked_for(alice, bob, carol):
    await hall(alice, bob)
    await says(bob, "m.status", {"text": "here"})
    await says(bob, "m.tz", "Europe/London")
    await says(carol, "m.status", {"text": "elsewhere"})
    reply = await alice.get(path("sync"), filter=wants("m.status"))
    assert reply[USERS] == {
        bob.user_id: {"profile_updates": {"m.status": {"text": "here"}}}
    }
    since = reply["next_batch"]
    assert USERS not in await alice.get(
        path("sync"), filter=wants("m.status"), since=since
    )
    waiting = asyncio.create_task(
        alice.get(path("sync"), filter=wants("m.status"), since=since, timeout=20_000)
    )
    await says(bob, "m.tz", "Europe/Rome")
    await says(bob, "m.status", {"text": "gone"})
    reply = await waiting
    assert reply[USERS] == {
        bob.user_id: {"profile_updates": {"m.status": {"text": "gone"}}}
    }
    await bob.delete(path("profile", bob.user_id, "m.status"))
    await says(alice, "m.status", {"text": "mine"})
    reply = await alice.get(
        path("sync"), filter=wants("m.status"), since=reply["next_batch"]
    )
    assert reply[USERS] == {
        alice.user_id: {"profile_updates": {"m.status": {"text": "mine"}}},
        bob.user_id: {"profile_updates": {"m.status": None}},
    }


async def test_who_comes_is_told_of_and_told(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await says(alice, "m.tz", "Europe/Oslo")
    await says(bob, "m.tz", "Asia/Tokyo")
    first, second = [
        (await each.get(path("sync"), filter=wants("m.tz")))["next_batch"]
        for each in (alice, bob)
    ]
    await bob.joins(room)
    reply = await alice.get(path("sync"), filter=wants("m.tz"), since=first)
    assert bob.user_id in reply[USERS]
    reply = await bob.get(path("sync"), filter=wants("m.tz"), since=second)
    assert alice.user_id in reply[USERS]


async def test_nobody_gets_what_they_do_not_ask_for(alice, bob):
    await hall(alice, bob)
    await says(bob, "m.tz", "Europe/Oslo")
    assert USERS not in await alice.get(path("sync"))
    bad = json.dumps({"org.matrix.msc4429.profile_fields": {"ids": "m.tz"}})
    with pytest.raises(RefusedError):
        await alice.get(path("sync"), filter=bad)


async def test_sliding_sync_tells_them_too(alice, bob):
    async def asks(**more: object) -> Json:
        wanted = {"enabled": True, "fields": ["m.status", "m.tz"]}
        reply = await sliding.asks(extensions={EXTENSION: wanted}, **more)
        return reply["extensions"].get(EXTENSION, {}).get("users", {})

    await hall(alice, bob)
    await says(bob, "m.status", {"text": "here"})
    await says(bob, "org.example.other", 1)
    sliding = Sliding(alice)
    assert await asks() == {bob.user_id: {"updated": {"m.status": {"text": "here"}}}}
    assert await asks() == {}
    waiting = asyncio.create_task(asks(wait=20))
    await says(bob, "m.status", {"text": "gone"})
    assert await waiting == {bob.user_id: {"updated": {"m.status": {"text": "gone"}}}}
    # What moves while it is not asked for is told later.
    await bob.delete(path("profile", bob.user_id, "m.status"))
    await sliding.asks()
    await says(bob, "m.tz", "Europe/Oslo")
    assert await asks() == {
        bob.user_id: {"updated": {"m.tz": "Europe/Oslo"}, "removed": ["m.status"]}
    }


async def test_another_process_tells_them_too(alice, bob, another_process):
    await hall(alice, bob)
    elsewhere = Client(
        lambda: another_process.session,
        another_process.base_url,
        alice.access_token,
        user_id=alice.user_id,
    )
    since = (await elsewhere.get(path("sync"), filter=wants("m.tz")))["next_batch"]
    waiting = asyncio.create_task(
        elsewhere.get(path("sync"), filter=wants("m.tz"), since=since, timeout=20_000)
    )
    await says(bob, "m.tz", "Europe/Oslo")
    assert (await waiting)[USERS] == {
        bob.user_id: {"profile_updates": {"m.tz": "Europe/Oslo"}}
    }
