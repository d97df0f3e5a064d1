"""Application services are asked: for users and aliases, networks, and a ping."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api import path
from tests.support.app import Running
from tests.support.appservice import Service
from tests.support.client import Client

V3 = "/_matrix/client/v3"
PING = "/_matrix/client/v1/appservice/irc%20bridge/ping"
THIRD = f"{V3}/thirdparty"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "irc", more={"protocols": ["irc"]}) as service:
        yield service


@pytest.fixture
async def xmpp(tmp_path: Path) -> AsyncIterator[Service]:
    more = {"protocols": ["xmpp", "irc"]}
    async with Service(tmp_path, "xmpp", more=more) as service:
        yield service


@pytest.fixture
async def bridged(irc: Service, xmpp: Service, another) -> Running:
    files = [str(irc.file), str(xmpp.file)]
    return await another(appservices={"registrations": files})


@pytest.fixture
async def ann(bridged: Running, person) -> Client:
    return await person(bridged)


# ── Users and aliases ────────────────────────────────────────────────────────────────


async def test_a_room_behind_an_alias_is_made_when_somebody_asks(
    bridged: Running, irc: Service, ann: Client
) -> None:
    async def make(kind: str, name: str) -> bool:
        if (kind, name) != ("rooms", "#irc_chan:hearth.test"):
            return False
        body = {"room_alias_name": "irc_chan", "preset": "public_chat"}
        await irc.api(bridged).post(f"{V3}/createRoom", body)
        return True

    irc.on_query = make
    room = await ann.joins("#irc_chan:hearth.test")
    assert (await ann.resolves("#irc_chan:hearth.test"))["room_id"] == room
    assert irc.asked == ["GET /_matrix/app/v1/rooms/#irc_chan:hearth.test"]
    for alias in ("#irc_none:hearth.test", "#else:hearth.test"):
        status, body = await ann.answer("GET", path("directory", "room", alias))
        assert (status, body["errcode"]) == (404, "M_NOT_FOUND")
    assert len(irc.asked) == 2


async def test_a_user_is_made_when_somebody_asks(
    bridged: Running, irc: Service, ann: Client
) -> None:
    async def make(kind: str, name: str) -> bool:
        if (kind, name) != ("users", "@irc_zoe:hearth.test"):
            return False
        await irc.registers(bridged, "irc_zoe")
        where = path("profile", name, "displayname")
        query = {"user_id": name}
        await irc.api(bridged).call("PUT", where, {"displayname": "Z"}, query=query)
        return True

    irc.on_query = make
    found = await ann.get(path("profile", "@irc_zoe:hearth.test"))
    assert found["displayname"] == "Z"
    status, _ = await ann.answer("GET", path("profile", "@irc_nobody:hearth.test"))
    assert status == 404
    room = await ann.creates_room()
    asked = len(irc.asked)
    await ann.post(path("rooms", room, "invite"), {"user_id": "@irc_new:hearth.test"})
    assert irc.asked[asked:] == ["GET /_matrix/app/v1/users/@irc_new:hearth.test"]


async def test_a_service_that_is_away_makes_nobody_fail(
    bridged: Running, irc: Service, ann: Client
) -> None:
    await irc.stops()
    status, _ = await ann.answer("GET", path("profile", "@irc_x:hearth.test"))
    assert status == 404
    await irc.starts()


# ── Ping ─────────────────────────────────────────────────────────────────────────────


async def test_a_ping_goes_round(bridged: Running, irc: Service, ann: Client) -> None:
    said: list[dict] = []
    irc.answers["/ping"] = lambda body: said.append(body) or {}
    api = irc.api(bridged)
    reply = await api.post(PING, {"transaction_id": "meow"})
    assert reply["duration_ms"] >= 0
    assert said == [{"transaction_id": "meow"}]
    irc.answers.clear()
    status, body = await api.answer("POST", PING, {})
    assert (status, body["errcode"], body["status"]) == (502, "M_BAD_STATUS", 404)
    await irc.stops()
    status, body = await api.answer("POST", PING, {})
    assert (status, body["errcode"]) == (502, "M_CONNECTION_FAILED")
    assert irc.hs_token not in str(body)
    await irc.starts()
    status, body = await ann.answer("POST", PING, {})
    assert (status, body["errcode"]) == (403, "M_FORBIDDEN")
    other = "/_matrix/client/v1/appservice/xmpp%20bridge/ping"
    status, body = await api.answer("POST", other, {})
    assert (status, body["errcode"]) == (403, "M_FORBIDDEN")


# ── Networks ─────────────────────────────────────────────────────────────────────────

PROTOCOL = {
    "user_fields": ["nick"],
    "location_fields": ["channel"],
    "icon": "mxc://hearth.test/a",
    "field_types": {},
}


def instance(name: str) -> dict:
    return {"network_id": name, "desc": name, "fields": {}}


async def test_protocols_of_several_services_are_one(
    bridged: Running, irc: Service, xmpp: Service, ann: Client
) -> None:
    irc.answers["/thirdparty/protocol/irc"] = {
        **PROTOCOL,
        "instances": [instance("oftc")],
    }
    xmpp.answers["/thirdparty/protocol/irc"] = {
        **PROTOCOL,
        "instances": [instance("libera")],
    }
    found = await ann.get(f"{THIRD}/protocols")
    assert list(found) == ["irc"]
    assert [each["network_id"] for each in found["irc"]["instances"]] == [
        "oftc",
        "libera",
    ]
    assert await ann.get(f"{THIRD}/protocol/irc") == found["irc"]
    status, _ = await ann.answer("GET", f"{THIRD}/protocol/xmpp")
    assert status == 404


async def test_places_and_people_are_looked_up_at_all_services(
    bridged: Running, irc: Service, xmpp: Service, ann: Client
) -> None:
    place = {"alias": "#irc_a:hearth.test", "protocol": "irc", "fields": {"c": "#a"}}
    somebody = {"userid": "@irc_a:hearth.test", "protocol": "irc", "fields": {}}
    for service in (irc, xmpp):
        service.answers["/thirdparty/location/irc"] = [place]
    irc.answers["/thirdparty/user/irc"] = [somebody]
    irc.answers["/thirdparty/location"] = [place]
    irc.answers["/thirdparty/user"] = [somebody]
    found = await ann.get(f"{THIRD}/location/irc", channel="#a")
    assert found["value"] == [place, place]
    assert (await ann.get(f"{THIRD}/user/irc", nick="a"))["value"] == [somebody]
    found = await ann.get(f"{THIRD}/location", alias="#irc_a:hearth.test")
    assert found["value"] == [place]
    found = await ann.get(f"{THIRD}/user", userid="@irc_a:hearth.test")
    assert found["value"] == [somebody]
    for where in ("location/xmpp", "user/none"):
        status, _ = await ann.answer("GET", f"{THIRD}/{where}")
        assert status == 404
    status, _ = await ann.answer("GET", f"{THIRD}/user", query={"userid": ann.user_id})
    assert status == 404
    status, _ = await ann.answer("GET", f"{THIRD}/location")
    assert status == 400


async def test_services_list_rooms_of_their_networks(
    bridged: Running, irc: Service, ann: Client
) -> None:
    room = await ann.creates_room(preset="public_chat", name="Portal")
    where = path("directory", "list", "appservice", "oftc", room)
    status, _ = await ann.answer("PUT", where, {"visibility": "public"})
    assert status == 403
    await irc.api(bridged).put(where, {"visibility": "public"})

    async def listed(**body: object) -> list[str]:
        reply = await ann.post(f"{V3}/publicRooms", body)
        return [each["room_id"] for each in reply["chunk"]]

    assert await listed() == []
    assert await listed(third_party_instance_id="irc bridge|oftc") == [room]
    assert await listed(third_party_instance_id="irc bridge|libera") == []
    assert await listed(include_all_networks=True) == [room]
    await irc.api(bridged).put(where, {"visibility": "private"})
    assert await listed(include_all_networks=True) == []
