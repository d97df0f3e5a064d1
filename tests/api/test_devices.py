"""A user's devices, and the authentication in stages that deleting them asks for."""

from collections.abc import Awaitable

import pytest

from tests.support.api import Json
from tests.support.app import PASSWORD, Running, User

V3 = "/_matrix/client/v3"


async def refused(answer: Awaitable[tuple[int, Json]]) -> tuple[int, str]:
    status, body = await answer
    return status, body["errcode"]


def by_password(who: User, password: str = PASSWORD, **more: object) -> Json:
    identifier = {"type": "m.id.user", "user": who.user_id}
    return {
        "type": "m.login.password",
        "identifier": identifier,
        "password": password,
        **more,
    }


async def ids(who: User) -> set[str]:
    devices = (await who.get(V3 + "/devices"))["devices"]
    return {device["device_id"] for device in devices}


async def test_devices_are_listed_with_their_names(hearth: Running) -> None:
    abe = await hearth.registers(
        device_id="ONE", initial_device_display_name="Wohnzimmer \0 \x10"
    )
    other = await hearth.logs_in(abe.user_id)
    device = await other.get(V3 + "/devices/ONE")
    assert device["display_name"] == "Wohnzimmer \0 \x10"
    assert await ids(abe) == {"ONE", other.device_id}
    assert "display_name" not in await abe.get(f"{V3}/devices/{other.device_id}")


async def test_a_device_is_renamed(hearth: Running) -> None:
    bea = await hearth.registers()
    path = f"{V3}/devices/{bea.device_id}"
    await bea.put(path, {"display_name": "New"})
    await bea.put(path, {})
    assert (await bea.get(path))["display_name"] == "New"
    await bea.put(path, {"display_name": ""})
    assert (await bea.get(path))["display_name"] == ""
    assert await refused(bea.answer("PUT", path, {"display_name": "x" * 500})) == (
        400,
        "M_INVALID_PARAM",
    )


@pytest.mark.parametrize("device", ["UNKNOWN", "", "%00", "%C3%A9"])
async def test_devices_of_others_are_not_there(hearth: Running, device: str) -> None:
    cat = await hearth.registers()
    await hearth.registers(device_id="THEIRS")
    for name in (device, "THEIRS"):
        path = f"{V3}/devices/{name}"
        assert await refused(cat.answer("GET", path)) == (404, "M_NOT_FOUND")
        assert await refused(cat.answer("PUT", path, {})) == (404, "M_NOT_FOUND")


async def test_deleting_a_device_takes_the_password(hearth: Running) -> None:
    dee = await hearth.registers()
    other = await hearth.logs_in(dee.user_id)
    path = f"{V3}/devices/{other.device_id}"
    status, asked = await dee.answer("DELETE", path)
    assert status == 401
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    assert "errcode" not in asked
    assert "completed" not in asked
    session = asked["session"]
    auth = by_password(dee, "wrong", session=session)
    status, again = await dee.answer("DELETE", path, {"auth": auth})
    assert (status, again["errcode"]) == (401, "M_FORBIDDEN")
    assert again["session"] == session
    await other.get(V3 + "/devices")
    auth = by_password(dee, session=session)
    assert await dee.answer("DELETE", path, {"auth": auth}) == (200, {})
    assert await ids(dee) == {dee.device_id}
    assert (await other.answer("GET", V3 + "/devices"))[0] == 401
    # The session is used up; deleting what is gone is no error.
    status, body = await dee.answer("DELETE", path, {"auth": auth})
    assert (status, body["errcode"]) == (401, "M_UNKNOWN")
    auth = by_password(dee)
    assert await dee.answer("DELETE", path, {"auth": auth}) == (200, {})


async def test_the_password_of_another_does_not_do(hearth: Running) -> None:
    eli = await hearth.registers()
    fox = await hearth.registers()
    path = f"{V3}/devices/{eli.device_id}"
    for auth in (
        by_password(fox),
        by_password(eli, identifier={"type": "m.id.user", "user": "nobody.here"}),
        {"type": "m.login.dummy"},
        {"type": "m.login.password"},
    ):
        status, _ = await eli.answer("DELETE", path, {"auth": auth})
        assert status == 401
    # Nor does a session that another user has begun.
    _, asked = await fox.answer("DELETE", f"{V3}/devices/{fox.device_id}")
    auth = by_password(eli, session=asked["session"])
    status, body = await eli.answer("DELETE", path, {"auth": auth})
    assert (status, body["errcode"]) == (401, "M_UNKNOWN")
    assert await ids(eli) == {eli.device_id}


async def test_several_devices_are_deleted_at_once(hearth: Running) -> None:
    gus = await hearth.registers()
    first, second, third = [await hearth.logs_in(gus.user_id) for _ in range(3)]
    stranger = await hearth.registers()
    body = {
        "devices": [first.device_id, third.device_id, stranger.device_id, "X", "\0"],
        "auth": by_password(gus),
    }
    assert await gus.post(V3 + "/delete_devices", body) == {}
    assert await ids(gus) == {gus.device_id, second.device_id}
    assert await ids(stranger) == {stranger.device_id}
    await gus.post(V3 + "/delete_devices", {"devices": [], "auth": by_password(gus)})
    assert await ids(gus) == {gus.device_id, second.device_id}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_BAD_JSON"),
        ({"devices": "ALL"}, "M_BAD_JSON"),
        ({"devices": [1]}, "M_BAD_JSON"),
        ({"devices": ["x"] * 1001}, "M_INVALID_PARAM"),
        ({"devices": [], "auth": []}, "M_BAD_JSON"),
    ],
)
async def test_a_bad_list_is_refused(hearth: Running, body: Json, errcode: str) -> None:
    hank = await hearth.registers()
    answer = hank.answer("POST", V3 + "/delete_devices", body)
    assert await refused(answer) == (400, errcode)
