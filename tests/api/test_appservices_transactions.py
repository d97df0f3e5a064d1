"""What application services are told, and that nothing is lost or held up."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.api import Api, path
from tests.support.app import Running, configuration, running
from tests.support.appservice import Service
from tests.support.client import Client

V3 = "/_matrix/client/v3"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "irc", more={"receive_ephemeral": True}) as service:
        yield service


@pytest.fixture
async def bridged(irc: Service, another) -> Running:
    return await another(appservices={"registrations": [str(irc.file)]})


@pytest.fixture
async def ann(bridged: Running, person) -> Client:
    return await person(bridged)


async def joins_as(api: Api, user_id: str, room: str) -> None:
    where = path("join", room)
    await api.call("POST", where, {}, query={"user_id": user_id})


async def bridged_room(irc: Service, server: Running, ann: Client) -> str:
    room = await ann.creates_room(preset="public_chat")
    await irc.api(server).post(path("join", room))
    return room


# ── Which events ─────────────────────────────────────────────────────────────────────


async def test_a_service_is_told_of_rooms_of_its_users(
    bridged: Running, irc: Service, ann: Client
) -> None:
    private = await ann.creates_room()
    await ann.sends(private, "nobody's business")
    room = await ann.creates_room(preset="public_chat")
    await ann.sends(room, "before")
    await irc.registers(bridged, "irc_joe")
    await joins_as(irc.api(bridged), "@irc_joe:hearth.test", room)
    event_id = await ann.sends(room, "hello")
    await irc.hears_body("hello")
    assert irc.bodies == ["hello"]
    (event,) = [e for e in irc.events if e["event_id"] == event_id]
    assert event["room_id"] == room
    assert event["sender"] == ann.user_id
    assert event["unsigned"]["age"] >= 0
    assert {e["room_id"] for e in irc.events} == {room}


async def test_a_service_is_told_of_invites_and_not_after_it_left(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await ann.creates_room()
    await irc.registers(bridged, "irc_kim")
    kim = "@irc_kim:hearth.test"
    await ann.post(path("rooms", room, "invite"), {"user_id": kim})
    await irc.hears(
        lambda: any(
            e.get("state_key") == kim and e["content"]["membership"] == "invite"
            for e in irc.events
        ),
        "the invite",
    )
    await ann.sends(room, "while invited")
    await joins_as(irc.api(bridged), kim, room)
    await ann.sends(room, "while there")
    await irc.api(bridged).call(
        "POST", path("rooms", room, "leave"), {}, query={"user_id": kim}
    )
    await ann.sends(room, "afterwards")
    other = await bridged_room(irc, bridged, ann)
    await ann.sends(other, "the end")
    await irc.hears_body("the end")
    assert irc.bodies == ["while there", "the end"]


async def test_a_late_service_gets_what_happened_while_its_user_was_there(
    bridged: Running, irc: Service, ann: Client
) -> None:
    """What counts is who was in the room then, not who is now."""
    await irc.hears(lambda: True, "nothing")
    room = await ann.creates_room(preset="public_chat")
    await irc.registers(bridged, "irc_lea")
    lea, api = "@irc_lea:hearth.test", irc.api(bridged)
    await irc.stops()
    await ann.sends(room, "too early")
    await joins_as(api, lea, room)
    await ann.sends(room, "in time")
    await api.call("POST", path("rooms", room, "leave"), {}, query={"user_id": lea})
    await ann.sends(room, "too late")
    await irc.starts()
    other = await bridged_room(irc, bridged, ann)
    await ann.sends(other, "end")
    await irc.hears_body("end")
    assert irc.bodies == ["in time", "end"]


async def test_rooms_and_aliases_interest_a_service(
    irc: Service, another, person
) -> None:
    irc.writes_registration(
        namespaces={
            "users": [],
            "aliases": [{"regex": "#open_.*", "exclusive": False}],
            "rooms": [],
        }
    )
    server = await another(appservices={"registrations": [str(irc.file)]})
    ann = await person(server)
    room = await ann.creates_room(room_alias_name="open_door")
    dull = await ann.creates_room(room_alias_name="closed_door")
    await ann.sends(dull, "dull")
    await ann.sends(room, "by its alias")
    await irc.hears_body("by its alias")
    irc.writes_registration(namespaces={"rooms": [{"regex": dull}]})
    by_id = Service(irc.directory, "irc")
    assert by_id.file == irc.file

    async def told() -> bool:
        await ann.sends(dull, "by its ID")
        return "by its ID" in irc.bodies

    for _ in range(200):
        if await told():
            break
        await asyncio.sleep(0.05)
    assert "by its ID" in irc.bodies
    assert "dull" not in irc.bodies


# ── Order, retries, restarts ─────────────────────────────────────────────────────────


async def test_events_come_in_order_each_once_in_bounded_transactions(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await bridged_room(irc, bridged, ann)
    await irc.stops()
    for number in range(250):
        await ann.sends(room, f"n{number}")
    await irc.starts()
    await irc.hears_body("n249")
    assert irc.bodies == [f"n{number}" for number in range(250)]
    assert max(len(body["events"]) for _, body in irc.transactions) <= 100
    numbers = [int(number) for number, _ in irc.transactions]
    assert numbers == sorted(set(numbers))


async def test_a_failed_transaction_is_repeated_as_it_was(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await bridged_room(irc, bridged, ann)
    await irc.hears(lambda: irc.transactions, "the join")
    irc.status = 500
    await ann.sends(room, "one")
    before = irc.tries
    await irc.hears(lambda: irc.tries > before, "a try")
    await ann.sends(room, "two")
    irc.status = 200
    await irc.hears_body("two")
    assert irc.bodies == ["one", "two"]
    (first,) = [b for _, b in irc.transactions if "one" in str(b)]
    assert "two" not in str(first)


async def test_nobody_waits_for_a_service_that_hangs(
    irc: Service, another, person, tmp_path: Path
) -> None:
    async with Service(tmp_path, "xmpp") as xmpp:
        files = [str(irc.file), str(xmpp.file)]
        server = await another(appservices={"registrations": files})
        ann = await person(server)
        room = await bridged_room(irc, server, ann)
        await xmpp.api(server).post(path("join", room))
        irc.status = None
        await ann.sends(room, "warm")
        await xmpp.hears_body("warm")
        started = time.monotonic()
        for number in range(50):
            await ann.sends(room, f"n{number}")
        await xmpp.hears_body("n49")
        assert time.monotonic() - started < 20
        assert "n0" not in irc.bodies


async def test_another_process_goes_on_where_one_has_stopped(
    bridged: Running, irc: Service, person, hearth_dsn
) -> None:
    dsn = bridged.server._dsn
    async with running(bridged.ctx.config, dsn) as second:
        ann = await person(second)
        room = await bridged_room(irc, bridged, ann)
        await ann.sends(room, "from the second process")
        await irc.hears_body("from the second process")
        for number in range(30):
            await ann.sends(room, f"n{number}")
    ann.base_url = bridged.base_url
    ann.http = bridged.nobody.http
    await ann.sends(room, "still there")
    await irc.hears_body("still there")
    wanted = [f"n{number}" for number in range(30)]
    assert irc.bodies == ["from the second process", *wanted, "still there"]


async def test_a_service_that_is_taken_out_is_told_nothing_more(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await bridged_room(irc, bridged, ann)
    await ann.sends(room, "heard")
    await irc.hears_body("heard")
    irc.writes_registration(url=None)

    async def is_off() -> bool:
        await ann.sends(room, "probe")
        count = irc.tries
        await asyncio.sleep(0.1)
        return irc.tries == count

    for _ in range(100):
        if await is_off():
            break
    await ann.sends(room, "meanwhile")
    irc.writes_registration()
    await irc.hears_body("meanwhile")


# ── Beside events ────────────────────────────────────────────────────────────────────


async def test_typing_and_receipts_are_told(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await bridged_room(irc, bridged, ann)
    event_id = await ann.sends(room, "read me")
    private = await ann.creates_room()
    await ann.sets_typing(private)
    await ann.sets_typing(room)
    await irc.hears(lambda: irc.ephemeral("m.typing"), "typing")
    (typing,) = irc.ephemeral("m.typing")
    assert typing == {
        "type": "m.typing",
        "room_id": room,
        "content": {"user_ids": [ann.user_id]},
    }
    await ann.post(path("rooms", room, "receipt", "m.read.private", event_id))
    await ann.marks_read(room, event_id)
    await irc.hears(lambda: irc.ephemeral("m.receipt"), "a receipt")
    receipts = irc.ephemeral("m.receipt")
    assert {r["room_id"] for r in receipts} == {room}
    kinds = {k for r in receipts for by in r["content"].values() for k in by}
    assert kinds == {"m.read"}


async def test_presence_is_told(bridged: Running, irc: Service, ann: Client) -> None:
    await bridged_room(irc, bridged, ann)
    where = path("presence", ann.user_id, "status")
    await ann.put(where, {"presence": "online", "status_msg": "here"})

    def told() -> bool:
        return any(
            e["sender"] == ann.user_id and e["content"].get("status_msg") == "here"
            for e in irc.ephemeral("m.presence")
        )

    await irc.hears(told, "presence")


async def test_nothing_fleeting_for_who_does_not_want_it(
    irc: Service, another, person
) -> None:
    irc.writes_registration(receive_ephemeral=False)
    server = await another(appservices={"registrations": [str(irc.file)]})
    ann = await person(server)
    room = await bridged_room(irc, server, ann)
    await ann.sets_typing(room)
    await ann.sends(room, "end")
    await irc.hears_body("end")
    assert all("ephemeral" not in body for _, body in irc.transactions)


async def test_messages_to_devices_and_counts_of_keys_are_told(
    irc: Service, another, person
) -> None:
    irc.writes_registration(**{"org.matrix.msc3202": True})
    server = await another(appservices={"registrations": [str(irc.file)]})
    ann, api = await person(server), irc.api(server)
    await irc.registers(server, "irc_mia")
    mia = {"user_id": "@irc_mia:hearth.test"}
    await api.answer("PUT", f"{V3}/devices/DEV", {}, query=mia)
    await api.call(
        "POST",
        f"{V3}/keys/upload",
        {"one_time_keys": {"curve25519:A": "A" * 43}},
        query={**mia, "device_id": "DEV"},
    )
    counts = {mia["user_id"]: {"DEV": {"curve25519": 1}}}
    for name in ("", "org.matrix.msc3202."):
        key = f"{name}device_one_time_keys_count"
        await irc.hears(
            lambda key=key: any(b.get(key) == counts for _, b in irc.transactions),
            "the count of keys",
        )
    where = path("sendToDevice", "m.test", "t1")
    await ann.put(where, {"messages": {mia["user_id"]: {"DEV": {"a": 1}}}})

    def messages() -> list[dict]:
        return [e for _, b in irc.transactions for e in b.get("to_device", ())]

    await irc.hears(messages, "the message")
    assert messages() == [
        {
            "type": "m.test",
            "sender": ann.user_id,
            "content": {"a": 1},
            "to_user_id": mia["user_id"],
            "to_device_id": "DEV",
        }
    ]

    async def left() -> list:
        query = {**mia, "device_id": "DEV"}
        sync = await api.call("GET", f"{V3}/sync", query=query)
        return sync.get("to_device", {}).get("events", [])

    for _ in range(100):
        if not await left():
            break
        await asyncio.sleep(0.02)
    room = await ann.creates_room(preset="public_chat")
    await joins_as(api, mia["user_id"], room)
    await irc.hears(
        lambda: any(
            ann.user_id in b.get("device_lists", {}).get("changed", ())
            for _, b in irc.transactions
        ),
        "whose devices count from now on",
    )
    await api.call("POST", path("rooms", room, "leave"), {}, query=mia)
    await irc.hears(
        lambda: any(
            ann.user_id in b.get("device_lists", {}).get("left", ())
            for _, b in irc.transactions
        ),
        "who shares nothing any more",
    )


# ── After a crash, and after a long time ─────────────────────────────────────────────


async def test_the_lease_of_a_dead_process_runs_out_and_its_transaction_is_repeated(
    irc: Service, another, person, new_dsn
) -> None:
    dsn, options = await new_dsn(), {"registrations": [str(irc.file)]}
    database = await asyncpg.connect(dsn)
    async with running(configuration(irc.directory, appservices=options), dsn) as first:
        ann = await person(first)
        room = await bridged_room(irc, first, ann)
        await irc.hears(lambda: irc.transactions, "the join")
    # It had just sent this when it died, and nobody knows whether it arrived.
    await database.execute(
        """
        UPDATE appservices
           SET holder = 'dead', until = clock_timestamp() + interval '2 seconds',
               txn = txn + 1, pending = '{"events": [], "mark": 1}',
               pending_upto = position
        """
    )
    number = await database.fetchval("SELECT txn::text FROM appservices")
    await database.close()
    server = await another(dsn, appservices=options)
    ann.base_url, ann.http = server.base_url, server.nobody.http
    await ann.sends(room, "onwards")
    await irc.hears_body("onwards")
    marks = [n for n, body in irc.transactions if body.get("mark")]
    assert marks == [number]
    assert irc.transactions[-1][0] != number


async def test_who_was_away_longer_than_the_log_of_changes_misses_no_event(
    irc: Service, another, person, new_dsn
) -> None:
    dsn, options = await new_dsn(), {"registrations": [str(irc.file)]}
    server = await another(dsn, appservices=options)
    ann = await person(server)
    room = await bridged_room(irc, server, ann)
    dull = await ann.creates_room()
    await ann.sends(room, "before")
    await irc.hears_body("before")
    irc.status = 500
    for number in range(120):
        await ann.sends(room, f"n{number}")
        if number % 10 == 0:
            await ann.sends(dull, "dull")
    await irc.registers(server, "irc_old")
    where, kim = path("rooms", dull, "invite"), "@irc_old:hearth.test"
    await ann.post(where, {"user_id": kim})
    await irc.hears(lambda: irc.tries > 2, "tries in vain")
    database = await asyncpg.connect(dsn)
    await database.execute("DELETE FROM changes")
    await database.execute("UPDATE sequencer SET trimmed_to = position")
    await database.close()
    irc.status = 200
    await irc.hears(
        lambda: any(e.get("state_key") == kim for e in irc.events), "the invite"
    )
    assert irc.bodies == ["before", *(f"n{number}" for number in range(120))]
    await ann.sends(room, "after")
    await irc.hears_body("after")
