"""Pushers, and what push gateways are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from homeserver.push import sender
from tests.support import openapi
from tests.support.api import RefusedError, eventually, path
from tests.support.app import Running
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
INVALID = (400, "M_INVALID_PARAM")
MISSING = (400, "M_MISSING_PARAM")
BAD_JSON = (400, "M_BAD_JSON")
NOTIFY = "/_matrix/push/v1/notify"
OWN_NETWORK = {"federation": {"allow_addresses": ["127.0.0.0/8"]}}


@dataclass
class Gateway:
    """A push gateway that remembers what it was told."""

    url: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    answer: Any = field(default_factory=lambda: {"rejected": []})

    async def notify(self, request: web.Request) -> web.Response:
        told = await request.json()
        openapi.check_notification(told)
        self.told.append(told["notification"])
        return web.json_response(self.answer, status=self.status)

    def events(self) -> list[str]:
        """The events told of, in order."""
        return [each["event_id"] for each in self.told if "event_id" in each]

    async def hears(self, number: int) -> list[dict[str, Any]]:
        """What it was told, once it is so much."""

        async def is_there() -> bool:
            return len(self.told) >= number

        await eventually(is_there, f"{number} of {len(self.told)}", pause=0.02)
        return self.told

    async def hears_no_more_than(self, number: int) -> None:
        await asyncio.sleep(0.3)
        assert len(self.told) == number, self.told[number:]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    app = web.Application()
    app.router.add_post(NOTIFY, found.notify)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}{NOTIFY}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def pushing(another) -> Running:
    """A server that may reach gateways on this machine."""
    return await another(**OWN_NETWORK)


def pusher(url: str, pushkey: str = "key", **more: Any) -> dict[str, Any]:
    data = {"url": url, **more.pop("data", {})}
    return {
        "app_id": "org.example.app",
        "pushkey": pushkey,
        "kind": "http",
        "app_display_name": "An App",
        "device_display_name": "A Phone",
        "lang": "en",
        "data": data,
        **more,
    }


async def sets(client: Client, body: dict[str, Any]) -> None:
    await client.post(path("pushers", "set"), body)


async def shown(client: Client) -> list[dict[str, Any]]:
    return (await client.get(path("pushers")))["pushers"]


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def in_a_room(alice: Client, *others: Client) -> str:
    room = await alice.creates_room(**PUBLIC)
    for other in others:
        await other.joins(room)
    return room


# ── Setting them ─────────────────────────────────────────────────────────────────────

URL = f"https://gateway.example.org{NOTIFY}"


async def test_pushers_are_set_changed_and_deleted(alice, bob):
    assert await shown(alice) == []
    more = {"format": "event_id_only", "brand": "x\0y"}
    await sets(alice, pusher(URL, "k\0", profile_tag="tag", data=more))
    [one] = await shown(alice)
    assert one == pusher(
        URL,
        "k\0",
        profile_tag="tag",
        data=more,
        enabled=True,
        device_id=alice.device_id,
        **{
            "org.matrix.msc3881.enabled": True,
            "org.matrix.msc3881.device_id": alice.device_id,
        },
    )
    await sets(alice, pusher(URL, "k\0", lang="de"))
    await sets(alice, pusher(URL, "other"))
    assert [(p["pushkey"], p["lang"]) for p in await shown(alice)] == [
        ("k\0", "de"),
        ("other", "en"),
    ]
    gone = {"app_id": "org.example.app", "pushkey": "k\0", "kind": None}
    await sets(alice, gone)
    await sets(alice, gone)
    assert [p["pushkey"] for p in await shown(alice)] == ["other"]
    assert await shown(bob) == []


async def test_a_push_key_is_of_one_user_unless_it_is_appended(alice, bob, carol):
    await sets(alice, pusher(URL, "shared"))
    await sets(bob, pusher(URL, "shared", append=True))
    assert len(await shown(alice)) == len(await shown(bob)) == 1
    await sets(carol, pusher(URL, "shared"))
    assert await shown(alice) == await shown(bob) == []
    assert len(await shown(carol)) == 1


async def test_a_pusher_goes_with_its_device(hearth, alice):
    other = await hearth.logs_in(alice.user_id)
    await other.post(path("pushers", "set"), pusher(URL, "of the other"))
    await sets(alice, pusher(URL, "own"))
    assert len(await shown(alice)) == 2
    await other.post(path("logout"))
    assert [p["pushkey"] for p in await shown(alice)] == ["own"]


async def test_another_device_switches_a_pusher_off_and_on(pushing, person, gateway):
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    desktop = await pushing.logs_in(bob.user_id)
    await sets(bob, pusher(gateway.url, data={"format": "event_id_only"}))
    [one] = await shown(desktop)
    assert one["device_id"] == one["org.matrix.msc3881.device_id"] == bob.device_id
    off = {**one, "enabled": False, "org.matrix.msc3881.enabled": False}
    await desktop.post(path("pushers", "set"), off)
    [one] = await shown(bob)
    assert one["enabled"] is one["org.matrix.msc3881.enabled"] is False
    assert one["device_id"] == bob.device_id
    missed = await alice.sends(room, "nobody is told of this")
    await bob.marks_read(room, missed)
    missed = await alice.sends(room, "nor of this, whenever it is on again")
    # Another client names the field as the specification will.
    on = {key: value for key, value in one.items() if "msc3881" not in key}
    await desktop.post(path("pushers", "set"), {**on, "enabled": True})
    await desktop.post(path("logout"))
    [one] = await shown(bob)
    assert (one["enabled"], one["device_id"]) == (True, bob.device_id)
    told = await alice.sends(room, "told")
    await gateway.hears(1)
    assert gateway.events() == [told]
    assert gateway.told[0]["counts"] == {"unread": 2}
    assert missed not in gateway.events()
    bad = refusal(sets(bob, pusher(gateway.url, enabled="yes")))
    assert await bad == BAD_JSON


@pytest.mark.parametrize("place", ["in the request", "in its data"])
async def test_a_client_may_count_for_itself(pushing, person, gateway, place):
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    name = "org.matrix.msc4076.disable_badge_count"
    if place == "in its data":
        await sets(bob, pusher(gateway.url, data={name: True}))
    else:
        await sets(bob, pusher(gateway.url, **{name: True}))
    event_id = await alice.sends(room, "x")
    [told] = await gateway.hears(1)
    assert told["event_id"] == event_id
    assert "counts" not in told
    await bob.marks_read(room, event_id)  # which is no news for this pusher
    await alice.sends(room, "y")
    await gateway.hears(2)
    assert all("event_id" in each for each in gateway.told)


async def test_what_is_no_pusher_is_refused(alice, another):
    good = pusher(URL)
    for change, answer in [
        ({"app_id": "x" * 65}, INVALID),
        ({"pushkey": "ü" * 257}, INVALID),
        ({"pushkey": 7}, BAD_JSON),
        ({"kind": "email"}, INVALID),
        ({"kind": 7}, INVALID),
        ({"lang": 7}, BAD_JSON),
        ({"append": "yes"}, BAD_JSON),
        ({"data": []}, BAD_JSON),
        ({"data": {}}, MISSING),
        ({"data": {"url": 7}}, BAD_JSON),
        ({"data": {"url": "https://x.org/other"}}, INVALID),
        ({"data": {"url": f"http://x.org{NOTIFY}"}}, INVALID),
        ({"data": {"url": f"http://127.0.0.1{NOTIFY}"}}, INVALID),
        ({"data": {"url": f"ftp://x.org{NOTIFY}"}}, INVALID),
        ({"data": {"url": f"https://[{NOTIFY}"}}, INVALID),
        ({"data": {"url": f"https://{NOTIFY}"}}, INVALID),
        ({"data": {"url": f"https://me:pw@x.org{NOTIFY}"}}, INVALID),
        ({"data": {"url": URL, "format": "all"}}, INVALID),
        ({"data": {"url": URL, "x": "y" * 20_000}}, INVALID),
    ]:
        assert await refusal(sets(alice, good | change)) == answer, change
    for name in good:
        lacking = {key: value for key, value in good.items() if key != name}
        assert await refusal(sets(alice, lacking)) == MISSING, name
    assert await shown(alice) == []


# ── Telling gateways ─────────────────────────────────────────────────────────────────


async def test_a_gateway_is_told_of_an_event(pushing, person, gateway):
    alice, bob = await person(pushing), await person(pushing)
    await alice.sets_displayname("Alice")
    room = await in_a_room(alice, bob)
    await alice.sets_state(room, "m.room.name", {"name": "Tea"})
    await alice.sends(room, "before")
    await sets(bob, pusher(gateway.url, data={"brand": "x"}))
    event_id = await alice.sends(room, "hello")
    [told] = await gateway.hears(1)
    [device] = told.pop("devices")
    assert device.pop("pushkey_ts") > 1_700_000_000
    assert device == {
        "app_id": "org.example.app",
        "pushkey": "key",
        "data": {"brand": "x"},
        "tweaks": {"sound": "default"},
    }
    assert told == {
        "event_id": event_id,
        "room_id": room,
        "type": "m.room.message",
        "sender": alice.user_id,
        "sender_display_name": "Alice",
        "room_name": "Tea",
        "user_is_target": False,
        "prio": "high",
        "content": {"msgtype": "m.text", "body": "hello"},
        "counts": {"unread": 2},
    }
    await alice.sends_event(room, "m.room.message", {"msgtype": "m.notice"})
    await bob.sends(room, "own")
    await gateway.hears_no_more_than(1)


async def test_a_gateway_is_told_only_the_event_id(pushing, person, gateway):
    alice, bob = await person(pushing), await person(pushing)
    await sets(bob, pusher(gateway.url, data={"format": "event_id_only"}))
    room = await alice.creates_room(invite=[bob.user_id])
    [told] = await gateway.hears(1)
    assert told.keys() == {"event_id", "room_id", "counts", "devices"}
    assert told["room_id"] == room
    assert told["counts"] == {}
    [device] = told["devices"]
    assert device["data"] == {"format": "event_id_only"}
    assert device["tweaks"] == {"sound": "default"}
    await bob.joins(room)
    mention = {"body": "x", "m.mentions": {"user_ids": [bob.user_id]}}
    await alice.sends_event(room, "m.room.message", mention)
    _, told = await gateway.hears(2)
    assert told["devices"][0]["tweaks"] == {"sound": "default", "highlight": True}
    assert told["counts"] == {"unread": 1}


async def test_reading_clears_the_badge(pushing, person, gateway):
    alice, bob = await person(pushing), await person(pushing)
    room, other = await in_a_room(alice, bob), await in_a_room(alice, bob)
    await sets(bob, pusher(gateway.url))
    await alice.sends(room, "1")
    event_id = await alice.sends(room, "2")
    await gateway.hears(2)
    await alice.sends(other, "3")
    assert (await gateway.hears(3))[-1]["counts"] == {"unread": 3}
    await bob.marks_read(room, event_id)
    told = (await gateway.hears(4))[-1]
    assert told.keys() == {"counts", "devices"}
    assert told["counts"] == {"unread": 1}
    await bob.marks_read(room, event_id)
    await gateway.hears_no_more_than(4)


async def test_rejected_push_keys_are_removed(pushing, person, gateway):
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    await sets(bob, pusher(gateway.url, "good"))
    await sets(bob, pusher(gateway.url, "stale"))
    gateway.answer = {"rejected": ["stale", "unheard of"]}
    await alice.sends(room, "x")
    await gateway.hears(2)

    async def is_gone() -> bool:
        return [p["pushkey"] for p in await shown(bob)] == ["good"]

    await eventually(is_gone, "the stale push key is removed")
    await alice.sends(room, "y")
    await gateway.hears(3)
    await gateway.hears_no_more_than(3)


@pytest.mark.parametrize(
    ("status", "answer"), [(500, {}), (302, {}), (200, []), (200, {"rejected": 7})]
)
async def test_what_a_gateway_did_not_take_is_told_again(
    pushing, person, gateway, monkeypatch, status, answer
):
    monkeypatch.setattr(sender, "_FIRST_DELAY", 0.1)
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    await sets(bob, pusher(gateway.url))
    gateway.status, gateway.answer = status, answer
    ids = [await alice.sends(room, "1")]
    await gateway.hears(1)
    ids.append(await alice.sends(room, "2"))
    gateway.status, gateway.answer = 200, {}

    async def are_told() -> bool:
        return gateway.events()[-2:] == ids

    await eventually(are_told, "both are told in order")
    # What has been read meanwhile is of no interest.
    gateway.status = 503
    ids = [await alice.sends(room, "3"), await alice.sends(room, "4")]
    await bob.marks_read(room, ids[0])
    gateway.status = 200

    async def is_told() -> bool:
        return gateway.events()[-1:] == ids[1:]

    await eventually(is_told, "the one that was not read is told")


async def hangs(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def never_ends(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()


@pytest.mark.parametrize("unwell", [hangs, never_ends])
async def test_an_unwell_gateway_keeps_nobody_waiting(pushing, person, gateway, unwell):
    alice, bob, carol = [await person(pushing) for _ in range(3)]
    room = await in_a_room(alice, bob, carol)
    server = await asyncio.start_server(unwell, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    await sets(bob, pusher(f"http://127.0.0.1:{port}{NOTIFY}", "hangs"))
    await sets(carol, pusher(gateway.url))
    for n in range(3):
        await alice.sends(room, str(n))
    await gateway.hears(3)
    server.close()


async def test_another_process_goes_on(another, new_dsn, person, gateway, monkeypatch):
    monkeypatch.setattr(sender, "_SWEEP_SECONDS", 0.2)
    dsn = await new_dsn()
    first = await another(dsn, **OWN_NETWORK)
    alice, bob = await person(first), await person(first)
    room = await in_a_room(alice, bob)
    await sets(bob, pusher(gateway.url))
    gateway.status = 500
    event_id = await alice.sends(room, "x")
    await gateway.hears(1)
    await first.server.__aexit__(None, None, None)
    gateway.status = 200
    gateway.told.clear()
    await another(dsn, **OWN_NETWORK)
    await gateway.hears(1)
    assert gateway.events() == [event_id]
    await gateway.hears_no_more_than(1)


async def test_two_processes_tell_once(another, new_dsn, person, gateway):
    dsn = await new_dsn()
    first, second = [await another(dsn, **OWN_NETWORK) for _ in range(2)]
    alice, bob = await person(first), await person(second)
    there = Client(
        lambda: second.session,
        second.base_url,
        alice.access_token,
        user_id=alice.user_id,
    )
    room = await in_a_room(alice, bob)
    await sets(bob, pusher(gateway.url))
    clients = [alice, there] * 5
    ids = [await client.sends(room, "x") for client in clients]
    await gateway.hears(10)
    await gateway.hears_no_more_than(10)
    assert gateway.events() == ids
