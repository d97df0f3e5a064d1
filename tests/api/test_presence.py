"""Presence: who is there, who is told of it, and what it costs those who are not."""

import asyncio
import json

import pytest

from homeserver.presence import edus, upkeep
from homeserver.presence.attendance import attendance
from tests.support.api import Json, RefusedError, eventually, path
from tests.support.client import Client
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
NO_PRESENCE = json.dumps({"presence": {"not_types": ["*"]}})
BUSY = "org.matrix.msc3026.busy"


def where(user: str) -> str:
    return path("presence", user, "status")


async def is_now(client: Client, presence: str, **more: object) -> None:
    await client.put(where(client.user_id), {"presence": presence, **more})


async def hall(first: Client, *others: Client) -> str:
    room = await first.creates_room(**PUBLIC)
    for other in others:
        await other.joins(room)
    return room


def seen(reply: Json) -> dict[str, Json]:
    events = reply.get("presence", {}).get("events", [])
    assert {event["type"] for event in events} <= {"m.presence"}
    return {event["sender"]: event["content"] for event in events}


async def sees(client: Client, who: Client | str, presence: str) -> Json:
    """Sync until somebody is so; what is then told of them."""
    user_id = who if isinstance(who, str) else who.user_id
    for _ in range(50):
        found = seen(await client.syncs(wait=2)).get(user_id)
        if found is not None and found["presence"] == presence:
            return found
    raise AssertionError(f"{user_id} was not {presence}")


async def until(client: Client, who: Client, presence: str) -> None:
    async def is_so() -> bool:
        reply = await client.get(where(who.user_id))
        return bool(reply["presence"] == presence)

    await eventually(is_so, f"{who.user_id} is {presence}")


async def passes(hearth, seconds: int) -> None:
    """Let time go by for presence."""
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE presence_devices SET seen_at = seen_at - $1 * interval '1 s'",
            seconds,
        )
        await tx.execute(
            """
            UPDATE presence SET last_active = last_active - $1 * interval '1 s',
                                told_at = told_at - $1 * interval '1 s'
            """,
            seconds,
        )
    await upkeep.pass_time(hearth.ctx)


async def test_what_one_says_is_told_to_those_who_share_a_room(alice, bob, carol):
    await hall(alice, bob)
    await alice.syncs()
    await is_now(bob, "online", status_msg="in the garden")
    told = await sees(alice, bob, "online")
    assert told["status_msg"] == "in the garden"
    assert told["currently_active"] is True
    assert told["last_active_ago"] < 60_000
    await is_now(bob, "unavailable")
    told = await sees(alice, bob, "unavailable")
    assert "currently_active" not in told
    assert "status_msg" not in told
    reply = await alice.get(where(bob.user_id))
    assert reply["presence"] == "unavailable"
    with pytest.raises(RefusedError) as error:
        await carol.get(where(bob.user_id))
    assert (error.value.status, error.value.errcode) == (403, "M_FORBIDDEN")
    assert bob.user_id not in seen(await carol.get(path("sync")))


async def test_whoever_syncs_is_online_unless_they_say_otherwise(alice, bob, carol):
    await hall(alice, bob, carol)
    await bob.get(path("sync"))
    await carol.syncs(set_presence="unavailable")
    await until(alice, bob, "online")
    await until(alice, carol, "unavailable")
    await alice.syncs()
    assert (await bob.get(where(alice.user_id))) == {"presence": "offline"}
    shown = seen(await alice.get(path("sync"), set_presence="offline"))
    assert shown[bob.user_id]["presence"] == "online"
    assert shown[carol.user_id]["presence"] == "unavailable"


async def test_sliding_sync_makes_online_too(alice, bob):
    await hall(alice, bob)
    await Sliding(bob).asks()
    await until(alice, bob, "online")


async def test_the_device_that_is_most_there_counts(hearth, alice, bob):
    await hall(alice, bob)
    other = await hearth.logs_in(bob.user_id)
    await bob.syncs(set_presence="unavailable")
    await until(alice, bob, "unavailable")
    await other.get(path("sync"))
    await until(alice, bob, "online")
    await other.put(where(bob.user_id), {"presence": "offline"})
    await until(alice, bob, "unavailable")


async def test_who_is_busy_stays_busy_while_syncing(alice, bob):
    await hall(alice, bob)
    await is_now(bob, "busy")
    await bob.syncs(set_presence="online")
    reply = await alice.call("GET", where(bob.user_id))
    assert reply["presence"] == BUSY
    await is_now(bob, BUSY)
    await bob.syncs(set_presence="online")
    await alice.syncs()
    await is_now(bob, "online")
    assert (await sees(alice, bob, "online"))["currently_active"]


async def test_time_makes_idle_and_offline_and_doing_something_online(
    hearth, alice, bob
):
    room = await hall(alice, bob)
    await is_now(bob, "online", status_msg="here")
    await alice.syncs()
    waiting = asyncio.create_task(bob.syncs(wait=30, set_presence="online"))
    await passes(hearth, 55)
    await passes(hearth, 55)  # the device is gone, if it did not say that it is there
    await sees(alice, bob, "offline")
    await bob.sends(room, "still here")
    await waiting
    await is_now(bob, "online")
    await sees(alice, bob, "online")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE presence SET last_active = last_active - interval '301 s'"
            " WHERE user_id = $1",
            bob.user_id,
        )
    await upkeep.pass_time(hearth.ctx)
    told = await sees(alice, bob, "unavailable")
    assert told["last_active_ago"] >= 300_000
    # What one does is written at most every half minute.
    present = attendance(hearth.ctx.live)
    present._touched_at.clear()
    await bob.sends(room, "back")
    await sees(alice, bob, "online")


async def test_long_polls_keep_a_device_there(hearth, alice, bob):
    await hall(alice, bob)
    await bob.syncs(set_presence="online")
    waiting = asyncio.create_task(bob.syncs(wait=20, set_presence="online"))
    await until(alice, bob, "online")
    await passes(hearth, 50)
    await attendance(hearth.ctx.live).say_still_there()
    await passes(hearth, 50)
    assert (await alice.get(where(bob.user_id)))["presence"] == "online"
    await alice.creates_room()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_what_a_crash_of_the_database_forgets_is_said_again(hearth, alice, bob):
    await hall(alice, bob)
    await bob.syncs(set_presence="online")
    waiting = asyncio.create_task(bob.syncs(wait=20, set_presence="online"))
    await until(alice, bob, "online")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("TRUNCATE presence, presence_devices")
    assert (await alice.get(where(bob.user_id)))["presence"] == "offline"
    await attendance(hearth.ctx.live).say_still_there()

    async def is_there() -> bool:
        reply = await alice.get(where(bob.user_id))
        return reply["presence"] != "offline"

    await eventually(is_there, "bob is there again")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_who_was_taken_for_gone_comes_back(hearth, alice, bob):
    await hall(alice, bob)
    await bob.syncs(set_presence="online")
    waiting = asyncio.create_task(bob.syncs(wait=20, set_presence="online"))
    await until(alice, bob, "online")
    await passes(hearth, 100)
    assert (await alice.get(where(bob.user_id)))["presence"] == "offline"
    await attendance(hearth.ctx.live).say_still_there()
    await upkeep.pass_time(hearth.ctx)
    await until(alice, bob, "online")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_who_comes_into_a_room_sees_who_is_there(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await is_now(alice, "online")
    await bob.syncs()
    await bob.joins(room)
    shown = seen(await bob.syncs())
    assert shown[alice.user_id]["presence"] == "online"


async def test_who_does_not_want_presence_is_not_woken_by_it(alice, bob):
    room = await hall(alice, bob)
    reply = await alice.get(path("sync"))
    since = reply["next_batch"]
    query = {"since": since, "timeout": 20_000, "set_presence": "offline"}
    waiting = asyncio.create_task(alice.get(path("sync"), filter=NO_PRESENCE, **query))
    await is_now(bob, "online", status_msg="one")
    shown = seen(await alice.get(path("sync"), **query))
    assert shown[bob.user_id]["status_msg"] == "one"
    await bob.sends(room, "hello")
    reply = await waiting
    assert "presence" not in reply
    assert room in reply["rooms"]["join"]


async def test_filters_choose_whose_presence_is_told(alice, bob, carol):
    await hall(alice, bob, carol)
    await is_now(bob, "online")
    await is_now(carol, "online")
    wanted = json.dumps({"presence": {"not_senders": [bob.user_id]}})
    shown = seen(await alice.get(path("sync"), filter=wanted))
    assert carol.user_id in shown
    assert bob.user_id not in shown


async def test_another_process_tells_it_too(alice, bob, another_process):
    await hall(alice, bob)
    elsewhere = Client(
        lambda: another_process.session,
        another_process.base_url,
        alice.access_token,
        user_id=alice.user_id,
    )
    await elsewhere.syncs()
    await is_now(bob, "online", status_msg="far away")
    assert (await sees(elsewhere, bob, "online"))["status_msg"] == "far away"


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_BAD_JSON"),
        ({"presence": "dancing"}, "M_BAD_JSON"),
        ({"presence": "online", "status_msg": 1}, "M_BAD_JSON"),
        ({"presence": "online", "status_msg": "x" * 5000}, "M_INVALID_PARAM"),
    ],
)
async def test_what_is_no_presence_is_refused(alice, bob, body, errcode):
    with pytest.raises(RefusedError) as error:
        await alice.put(where(alice.user_id), body)
    assert error.value.errcode == errcode
    with pytest.raises(RefusedError) as error:
        await alice.put(where(bob.user_id), {"presence": "online"})
    assert error.value.errcode == "M_FORBIDDEN"


async def test_a_strange_status_is_told_as_it_is(alice, bob):
    await hall(alice, bob)
    await alice.syncs()
    await is_now(bob, "online", status_msg="nul \0 and 🌻")
    assert (await sees(alice, bob, "online"))["status_msg"] == "nul \0 and 🌻"


async def test_other_servers_speak_for_their_users_in_rooms_of_ours(
    hearth, alice, monkeypatch
):
    await alice.syncs()
    stranger = "@stranger:elsewhere.test"
    update = {"user_id": stranger, "presence": "online", "last_active_ago": 5}
    await edus.receive(hearth.ctx, "elsewhere.test", {"push": [update]})
    async with hearth.ctx.db.read() as tx:
        known = await tx.fetchval(
            "SELECT count(*) FROM presence WHERE user_id = $1", stranger
        )
    assert known == 0


async def test_where_presence_is_off_nobody_is_there(another, person):
    server = await another(presence={"enabled": False})
    alice, bob = await person(server), await person(server)
    await hall(alice, bob)
    await is_now(bob, "online")
    await bob.syncs()
    assert await alice.get(where(bob.user_id)) == {"presence": "offline"}
    assert "presence" not in await alice.get(path("sync"))


async def test_who_was_never_there_and_is_not_is_no_news(hearth, alice, bob):
    await hall(alice, bob)
    since = (await alice.get(path("sync"), set_presence="offline"))["next_batch"]
    await is_now(bob, "offline")
    await bob.syncs()
    reply = await alice.get(path("sync"), since=since, set_presence="offline")
    assert bob.user_id not in seen(reply)
