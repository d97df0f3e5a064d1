"""Application services: who they are and whom they may act for."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.config import ConfigError
from tests.support.api import RefusedError, eventually, path
from tests.support.app import Running
from tests.support.appservice import Service

V3 = "/_matrix/client/v3"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "irc") as service:
        yield service


@pytest.fixture
async def bridged(irc: Service, another) -> Running:
    return await another(appservices={"registrations": [str(irc.file)]})


def errcode(status_and_body: tuple[int, dict]) -> tuple[int, str]:
    status, body = status_and_body
    return status, body.get("errcode", "")


# ── Identity ─────────────────────────────────────────────────────────────────────────


async def test_a_service_is_its_own_user(bridged: Running, irc: Service) -> None:
    me = await irc.api(bridged).get(f"{V3}/account/whoami")
    assert me == {"user_id": "@irc_bot:hearth.test", "is_guest": False}


async def test_a_service_acts_for_its_users(bridged: Running, irc: Service) -> None:
    await irc.registers(bridged, "irc_alice")
    api = irc.api(bridged)
    me = await api.get(f"{V3}/account/whoami", user_id="@irc_alice:hearth.test")
    assert me["user_id"] == "@irc_alice:hearth.test"
    query = {"user_id": "@irc_alice:hearth.test"}
    room = await api.call("POST", f"{V3}/createRoom", {}, query=query)
    where = path("rooms", room["room_id"], "state")
    state = (await api.call("GET", where, query=query))["value"]
    assert {e["sender"] for e in state} == {"@irc_alice:hearth.test"}


async def test_a_service_acts_for_nobody_else(bridged: Running, irc: Service) -> None:
    carol = await bridged.registers("carol")
    api = irc.api(bridged)
    for name in (carol.user_id, "@irc_x:else.test", "@irc_unknown:hearth.test"):
        answer = await api.answer(
            "GET", f"{V3}/account/whoami", query={"user_id": name}
        )
        assert errcode(answer) == (403, "M_FORBIDDEN"), name
    answer = await api.answer("GET", f"{V3}/account/whoami", query={"user_id": "x"})
    assert errcode(answer) == (400, "M_INVALID_PARAM")


async def test_user_id_means_nothing_with_a_common_token(bridged: Running) -> None:
    dave = await bridged.registers("dave")
    me = await dave.get(f"{V3}/account/whoami", user_id="@irc_bot:hearth.test")
    assert me["user_id"] == dave.user_id


# ── Registering and logging in ───────────────────────────────────────────────────────


async def test_names_of_a_service_are_reserved(bridged: Running, irc: Service) -> None:
    for name in ("irc_somebody", "irc_bot"):
        with pytest.raises(RefusedError) as refused:
            await bridged.registers(name)
        assert refused.value.errcode == "M_EXCLUSIVE"
        answer = await bridged.nobody.answer(
            "GET", f"{V3}/register/available", query={"username": name}
        )
        assert answer[1]["errcode"] == "M_EXCLUSIVE"
    with pytest.raises(RefusedError) as refused:
        await irc.registers(bridged, "outside")
    assert refused.value.errcode == "M_EXCLUSIVE"


async def test_a_user_is_registered_once(bridged: Running, irc: Service) -> None:
    made = await irc.registers(bridged, "irc_bob")
    assert made["user_id"] == "@irc_bob:hearth.test"
    assert "access_token" not in made
    with pytest.raises(RefusedError) as refused:
        await irc.registers(bridged, "irc_bob")
    assert refused.value.errcode == "M_USER_IN_USE"


async def test_a_service_logs_in_without_a_password(
    bridged: Running, irc: Service
) -> None:
    made = await irc.registers(bridged, "irc_eve", inhibit_login=False, device_id="A")
    assert made["device_id"] == "A"
    body = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": "irc_eve"},
        "device_id": "B",
    }
    reply = await irc.api(bridged).post(f"{V3}/login", body)
    me = await bridged.user(reply).get(f"{V3}/account/whoami")
    assert me["user_id"] == "@irc_eve:hearth.test"
    assert me["device_id"] == "B"
    for token, wanted in (("", "M_MISSING_TOKEN"), ("wrong", "M_UNKNOWN_TOKEN")):
        answer = await bridged.client(token).answer("POST", f"{V3}/login", body)
        assert errcode(answer) == (401, wanted)
        answer = await bridged.client(token).answer(
            "POST", f"{V3}/register", {"type": body["type"], "username": "irc_n"}
        )
        assert errcode(answer) == (401, wanted)
    body["identifier"] = {"type": "m.id.user", "user": "carol"}
    answer = await irc.api(bridged).answer("POST", f"{V3}/login", body)
    assert errcode(answer) == (400, "M_EXCLUSIVE")
    flows = (await bridged.nobody.get(f"{V3}/login"))["flows"]
    assert {"type": "m.login.application_service"} in flows


# ── Aliases ──────────────────────────────────────────────────────────────────────────


async def test_aliases_of_a_service_are_reserved(
    bridged: Running, irc: Service
) -> None:
    frank = await bridged.registers("frank")
    room = (await frank.post(f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
    alias = path("directory", "room", "#irc_chan:hearth.test")
    answer = await frank.answer("PUT", alias, {"room_id": room})
    assert errcode(answer) == (400, "M_EXCLUSIVE")
    answer = await frank.answer(
        "POST", f"{V3}/createRoom", {"room_alias_name": "irc_chan"}
    )
    assert errcode(answer) == (400, "M_EXCLUSIVE")
    api = irc.api(bridged)
    await api.post(path("join", room))
    await api.put(alias, {"room_id": room})
    outside = path("directory", "room", "#other:hearth.test")
    answer = await api.answer("PUT", outside, {"room_id": room})
    assert errcode(answer) == (400, "M_EXCLUSIVE")
    answer = await frank.answer("DELETE", alias)
    assert errcode(answer) == (400, "M_EXCLUSIVE")
    await api.delete(alias)


# ── Devices and timestamps ───────────────────────────────────────────────────────────


async def test_devices_are_made_and_deleted_without_a_log_in(
    bridged: Running, irc: Service
) -> None:
    await irc.registers(bridged, "irc_dev")
    api, user = irc.api(bridged), {"user_id": "@irc_dev:hearth.test"}
    status, _ = await api.answer(
        "PUT", f"{V3}/devices/PHONE", {"display_name": "Phone"}, query=user
    )
    assert status == 201
    await api.call("PUT", f"{V3}/devices/PHONE", {"display_name": "Mine"}, query=user)
    for name in ("device_id", "org.matrix.msc3202.device_id"):
        me = await api.call(
            "GET", f"{V3}/account/whoami", query={**user, name: "PHONE"}
        )
        assert me["device_id"] == "PHONE"
    found = await api.call("GET", f"{V3}/devices/PHONE", query=user)
    assert found["display_name"] == "Mine"
    unknown = {**user, "device_id": "NONE"}
    answer = await api.answer("GET", f"{V3}/account/whoami", query=unknown)
    assert errcode(answer) == (400, "M_UNKNOWN_DEVICE")
    await api.call("DELETE", f"{V3}/devices/PHONE", query=user)
    gone = {**user, "device_id": "PHONE"}
    answer = await api.answer("GET", f"{V3}/account/whoami", query=gone)
    assert errcode(answer) == (400, "M_UNKNOWN_DEVICE")
    grace = await bridged.registers("grace")
    answer = await grace.answer("PUT", f"{V3}/devices/NEW", {})
    assert errcode(answer) == (404, "M_NOT_FOUND")


async def test_a_service_says_when_its_events_were(
    bridged: Running, irc: Service
) -> None:
    api = irc.api(bridged)
    room = (await api.post(f"{V3}/createRoom", {}))["room_id"]

    async def sent_at(user, ts: str) -> int:
        where = path("rooms", room, "send", "m.room.message", f"t{ts}")
        sent = await user.call("PUT", where, {"body": "x"}, query={"ts": ts})
        event = await user.get(path("rooms", room, "event", sent["event_id"]))
        return event["origin_server_ts"]

    assert await sent_at(api, "12345") == 12345
    where = path("rooms", room, "state", "m.room.topic", "")
    await api.call("PUT", where, {"topic": "old"}, query={"ts": "777"})
    # A member who comes in this way came in then.
    me = "@irc_carol:hearth.test"
    await irc.registers(bridged, "irc_carol")
    await api.post(path("rooms", room, "invite"), {"user_id": me})
    entry = path("rooms", room, "state", "m.room.member", me)
    query = {"ts": "778", "user_id": me}
    reply = await api.call("PUT", entry, {"membership": "join"}, query=query)
    joined = await api.call(
        "GET", path("rooms", room, "event", reply["event_id"]), query={"user_id": me}
    )
    assert joined["origin_server_ts"] == 778
    state = await api.get(where, format="event")
    assert state["origin_server_ts"] == 777
    for bad in ("-1", "x", str(2**53)):
        answer = await api.answer("PUT", where, {"topic": bad}, query={"ts": bad})
        assert errcode(answer) == (400, "M_INVALID_PARAM")
    heidi = await bridged.registers("heidi")
    await api.post(path("rooms", room, "invite"), {"user_id": heidi.user_id})
    await heidi.post(path("join", room))
    assert await sent_at(heidi, "4242") > 1_000_000_000_000


async def test_services_are_free_of_limits_if_they_say_so(
    irc: Service, another
) -> None:
    server = await another(
        appservices={"registrations": [str(irc.file)]}, limits={"enabled": True}
    )
    for number in range(15):  # ten at once are what anybody gets
        await irc.registers(server, f"irc_{number}")
    irc.writes_registration(rate_limited=True)
    api, user = irc.api(server), {"user_id": "@irc_1:hearth.test"}

    async def limited() -> bool:
        status, _ = await api.answer("POST", f"{V3}/createRoom", {}, query=user)
        return status == 429

    await eventually(limited, "a puppet is limited", pause=0.0)


# ── Registrations ────────────────────────────────────────────────────────────────────


async def test_a_changed_file_counts_without_a_restart(
    bridged: Running, irc: Service, another
) -> None:
    other = await another(
        bridged.server._dsn, appservices={"registrations": [str(irc.file)]}
    )
    old = irc.token
    irc.token = "a_quite_different_token"
    irc.writes_registration()
    os.kill(os.getpid(), signal.SIGHUP)
    for server in (bridged, other):

        async def known(server: Running = server) -> bool:
            return (await irc.api(server).answer("GET", f"{V3}/account/whoami"))[
                0
            ] == 200

        await eventually(known, "the new token counts", pause=0.02)
        answer = await server.client(old).answer("GET", f"{V3}/account/whoami")
        assert errcode(answer) == (401, "M_UNKNOWN_TOKEN")


async def test_a_spoilt_file_changes_nothing(bridged: Running, irc: Service) -> None:
    irc.file.write_text("id: [")
    os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(5):
        await irc.api(bridged).get(f"{V3}/account/whoami")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"as_token": ""}, "as_token"),
        ({"sender_localpart": "a:b c\0"}, "sender_localpart"),
        ({"namespaces": {"users": [{"regex": "("}]}}, "namespaces.users"),
        ({"namespaces": 3}, "namespaces"),
    ],
)
async def test_a_bad_registration_stops_the_start(
    irc: Service, another, change: dict, reason: str
) -> None:
    irc.writes_registration(**change)
    with pytest.raises(ConfigError, match=reason) as refused:
        await another(appservices={"registrations": [str(irc.file)]})
    assert irc.hs_token not in str(refused.value)


async def test_two_services_have_different_tokens(
    irc: Service, another, tmp_path: Path
) -> None:
    async with Service(tmp_path, "xmpp", token=irc.token) as xmpp:
        files = [str(irc.file), str(xmpp.file)]
        with pytest.raises(ConfigError, match="as_token"):
            await another(appservices={"registrations": files})
