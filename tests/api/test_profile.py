"""Profiles: one's own fields, those of others, and what rooms are told of them."""

from collections.abc import Awaitable
from typing import Any

import pytest

from federation.wire.errors import BadResponse, NotReachable, RemoteError
from homeserver.profile import find
from tests.support.api import Json
from tests.support.app import Running, User

V3 = "/_matrix/client/v3"


async def refused(answer: Awaitable[tuple[int, Json]]) -> tuple[int, str]:
    status, body = await answer
    return status, body["errcode"]


def profile_of(user: User, field: str = "") -> str:
    where = f"{V3}/profile/{user.escaped()}"
    return f"{where}/{field}" if field else where


async def test_a_profile_is_said_and_seen_field_by_field(hearth: Running) -> None:
    ada = await hearth.registers()
    assert await hearth.nobody.get(profile_of(ada)) == {}
    said = {
        "displayname": "Ada \0 Lovelace",
        "avatar_url": "mxc://hearth.test/abc",
        "m.tz": "Europe/London",
        "org.example.job": {"title": ["Countess", 1, None]},
        "us.cloke.msc4175.tz": "x",
    }
    for name, value in said.items():
        assert await ada.put(profile_of(ada, name), {name: value}) == {}
        assert await hearth.nobody.get(profile_of(ada, name)) == {name: value}
    assert await hearth.nobody.get(profile_of(ada)) == said
    assert await ada.delete(profile_of(ada, "m.tz")) == {}
    assert await ada.delete(profile_of(ada, "m.tz")) == {}
    assert await refused(ada.answer("GET", profile_of(ada, "m.tz"))) == (
        404,
        "M_NOT_FOUND",
    )
    # As clients do that cannot delete.
    await ada.put(profile_of(ada, "displayname"), {"displayname": ""})
    assert "displayname" not in await ada.get(profile_of(ada))


async def test_who_is_not_there_has_no_profile(hearth: Running) -> None:
    for user_id in ("%40nobody%3Ahearth.test", "@:hearth.test"):
        for where in ("", "/displayname"):
            answer = hearth.nobody.answer("GET", f"{V3}/profile/{user_id}{where}")
            assert await refused(answer) == (404, "M_NOT_FOUND")
    for bad in ("nobody", "@nobody", "%21a%3Ahearth.test", "@a:%00"):
        answer = hearth.nobody.answer("GET", f"{V3}/profile/{bad}")
        assert await refused(answer) == (400, "M_INVALID_PARAM")


async def test_the_profiles_of_others_cannot_be_changed(hearth: Running) -> None:
    bob, eve = await hearth.registers(), await hearth.registers()
    where = profile_of(bob, "displayname")
    for answer in (
        eve.answer("PUT", where, {"displayname": "Evil"}),
        eve.answer("DELETE", where),
    ):
        assert await refused(answer) == (403, "M_FORBIDDEN")
    assert await refused(hearth.nobody.answer("DELETE", where)) == (
        401,
        "M_MISSING_TOKEN",
    )


@pytest.mark.parametrize(
    ("name", "body", "errcode"),
    [
        ("displayname", {}, "M_MISSING_PARAM"),
        ("displayname", {"avatar_url": "x"}, "M_MISSING_PARAM"),
        ("displayname", {"displayname": 1}, "M_BAD_JSON"),
        ("displayname", {"displayname": None}, "M_BAD_JSON"),
        ("displayname", {"displayname": "x" * 257}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "https://x.test/y"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "mxc://" + "x" * 1000}, "M_INVALID_PARAM"),
        ("m.tz", {"m.tz": 1}, "M_BAD_JSON"),
        ("org.example.x", {"org.example.x": None}, "M_BAD_JSON"),
        ("org.example.x", {"org.example.x": 0.5}, "M_BAD_JSON"),
        ("org.example.x", {"org.example.x": 2**53}, "M_BAD_JSON"),
        ("org.example.x", [], "M_BAD_JSON"),
        ("nonsense", {"nonsense": 1}, "M_INVALID_PARAM"),
        ("Org.Example", {"Org.Example": 1}, "M_INVALID_PARAM"),
        ("org..x", {"org..x": 1}, "M_INVALID_PARAM"),
        ("%00", {"\0": 1}, "M_INVALID_PARAM"),
        ("a.b" + "x" * 300, {}, "M_KEY_TOO_LARGE"),
    ],
)
async def test_a_bad_field_is_refused(
    hearth: Running, name: str, body: object, errcode: str
) -> None:
    cid = await hearth.registers()
    answer = cid.answer("PUT", profile_of(cid, name), body)
    assert await refused(answer) == (400, errcode)
    assert await cid.get(profile_of(cid)) == {}


async def test_a_profile_holds_64_kib_in_all(hearth: Running) -> None:
    don = await hearth.registers()
    half = "x" * 33_000
    await don.put(profile_of(don, "org.example.a"), {"org.example.a": half})
    answer = don.answer(
        "PUT", profile_of(don, "org.example.b"), {"org.example.b": half}
    )
    assert await refused(answer) == (400, "M_PROFILE_TOO_LARGE")
    # Instead of the first it fits.
    await don.put(profile_of(don, "org.example.a"), {"org.example.a": half + "y"})
    await don.delete(profile_of(don, "org.example.a"))
    await don.put(profile_of(don, "org.example.b"), {"org.example.b": half})


async def test_rooms_are_told_of_a_new_name(hearth: Running) -> None:
    eva = await hearth.registers()
    rooms = [
        (await eva.post(V3 + "/createRoom", {"name": str(n)}))["room_id"]
        for n in range(2)
    ]
    left = (await eva.post(V3 + "/createRoom", {}))["room_id"]
    await eva.post(f"{V3}/rooms/{left}/leave")
    await eva.put(profile_of(eva, "displayname"), {"displayname": "Eva"})
    await eva.put(profile_of(eva, "avatar_url"), {"avatar_url": "mxc://a.b/c"})
    member = f"state/m.room.member/{eva.escaped()}"
    for room in rooms:
        content = await eva.get(f"{V3}/rooms/{room}/{member}")
        assert content["membership"] == "join"
        assert content["displayname"] == "Eva"
        assert content["avatar_url"] == "mxc://a.b/c"
    assert (await eva.get(f"{V3}/rooms/{left}/{member}"))["membership"] == "leave"
    # New rooms know it from the start.
    room = (await eva.post(V3 + "/createRoom", {}))["room_id"]
    assert (await eva.get(f"{V3}/rooms/{room}/{member}"))["displayname"] == "Eva"
    # What rooms do not show, and what stays the same, is not told.
    before = (await eva.get(V3 + "/sync"))["next_batch"]
    await eva.put(profile_of(eva, "displayname"), {"displayname": "Eva"})
    await eva.put(profile_of(eva, "m.tz"), {"m.tz": "UTC"})
    assert "join" not in (await eva.get(V3 + "/sync", since=before)).get("rooms", {})
    await eva.delete(profile_of(eva, "displayname"))
    content = await eva.get(f"{V3}/rooms/{room}/{member}")
    assert content.get("displayname") is None


# ── Of other servers ─────────────────────────────────────────────────────────────────

THEIRS = f"{V3}/profile/@zoe:elsewhere.test"


async def test_the_profile_of_a_remote_user_is_asked_of_their_server(
    hearth: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    async def answer(_: Any, server: str, user_id: str, field: str | None) -> Json:
        asked.append((server, user_id, field))
        return {"displayname": "Zoe", "org.example.x": 1}

    monkeypatch.setattr(find, "query_profile", answer)
    assert await hearth.nobody.get(THEIRS) == {"displayname": "Zoe", "org.example.x": 1}
    assert await hearth.nobody.get(THEIRS + "/displayname") == {"displayname": "Zoe"}
    assert (await hearth.nobody.answer("GET", THEIRS + "/avatar_url"))[0] == 404
    assert asked == [
        ("elsewhere.test", "@zoe:elsewhere.test", field)
        for field in (None, "displayname", "avatar_url")
    ]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (RemoteError("s", 404, "M_NOT_FOUND", "", {}), (404, "M_NOT_FOUND")),  # type: ignore[arg-type]
        (RemoteError("s", 403, "M_FORBIDDEN", "", {}), (403, "M_FORBIDDEN")),  # type: ignore[arg-type]
        (RemoteError("s", 500, None, "", {}), (502, "M_UNKNOWN")),  # type: ignore[arg-type]
        (NotReachable("s", "down"), (502, "M_UNKNOWN")),  # type: ignore[arg-type]
        (BadResponse("s", "nonsense"), (502, "M_UNKNOWN")),  # type: ignore[arg-type]
    ],
)
async def test_what_their_server_fails_to_say_is_answered(
    hearth: Running,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    expected: tuple[int, str],
) -> None:
    async def fail(*_: object) -> Json:
        raise failure

    monkeypatch.setattr(find, "query_profile", fail)
    assert await refused(hearth.nobody.answer("GET", THEIRS)) == expected
