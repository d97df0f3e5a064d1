"""Application services that keep the keys of their users themselves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Running
from tests.support.appservice import Service
from tests.support.client import Client
from tests.support.encryption import Device

V3 = "/_matrix/client/v3"
CLAIM = "/_matrix/app/unstable/org.matrix.msc3983/keys/claim"
QUERY = "/_matrix/app/unstable/org.matrix.msc3984/keys/query"
PIA = "@irc_pia:hearth.test"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "irc") as service:
        yield service


@pytest.fixture
async def bridged(irc: Service, another) -> Running:
    server = await another(appservices={"registrations": [str(irc.file)]})
    await irc.registers(server, "irc_pia")
    return server


@pytest.fixture
async def ann(bridged: Running, person) -> Client:
    return await person(bridged)


async def test_keys_are_claimed_at_the_service_when_none_is_left(
    bridged: Running, irc: Service, ann: Client
) -> None:
    api, who = irc.api(bridged), {"user_id": PIA, "device_id": "DEV"}
    await api.answer("PUT", f"{V3}/devices/DEV", {}, query={"user_id": PIA})
    uploaded = {"one_time_keys": {"curve25519:HERE": "A" * 43}}
    await api.call("POST", f"{V3}/keys/upload", uploaded, query=who)
    asked: list[dict] = []
    irc.answers[CLAIM] = lambda body: (
        asked.append(body) or {PIA: {"DEV": {"curve25519:THERE": "B" * 43}}}
    )
    wanted = {"one_time_keys": {PIA: {"DEV": "curve25519"}}}
    first = await ann.post(f"{V3}/keys/claim", wanted)
    assert first["one_time_keys"] == {PIA: {"DEV": {"curve25519:HERE": "A" * 43}}}
    assert asked == []
    second = await ann.post(f"{V3}/keys/claim", wanted)
    assert second["one_time_keys"] == {PIA: {"DEV": {"curve25519:THERE": "B" * 43}}}
    assert asked == [{PIA: {"DEV": ["curve25519"]}}]
    await irc.stops()
    third = await ann.post(f"{V3}/keys/claim", wanted)
    assert third["one_time_keys"] == {}
    await irc.starts()


async def test_what_the_service_says_of_devices_goes_before(
    bridged: Running, irc: Service, ann: Client
) -> None:
    pia = Client(ann.http, ann.base_url, user_id=PIA, device_id="OWN")
    device = Device(pia)
    asked: list[dict] = []
    irc.answers[QUERY] = lambda body: (
        asked.append(body)
        or {"device_keys": {PIA: {"OWN": device.keys(), "BAD": {"x": 1}}}}
    )
    found = await ann.post(f"{V3}/keys/query", {"device_keys": {PIA: []}})
    assert found["device_keys"][PIA] == {"OWN": device.keys()}
    assert asked == [{PIA: []}]
    await ann.post(f"{V3}/keys/query", {"device_keys": {ann.user_id: []}})
    assert len(asked) == 1


async def test_who_knows_nothing_of_it_is_asked_once(
    bridged: Running, irc: Service, ann: Client
) -> None:
    for _ in range(3):
        await ann.post(f"{V3}/keys/query", {"device_keys": {PIA: []}})
    assert irc.asked.count(f"POST {QUERY}") == 1
