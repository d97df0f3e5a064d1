"""What users keep here: account data, tags, filters."""

import asyncio
from collections.abc import Awaitable

import pytest

from tests.support.api import Json
from tests.support.app import Running, User

V3 = "/_matrix/client/v3"


async def refused(answer: Awaitable[tuple[int, Json]]) -> tuple[int, str]:
    status, body = await answer
    return status, body["errcode"]


async def with_room(hearth: Running) -> tuple[User, str, str]:
    """A user, a room of theirs, and where their things of that room are."""
    user = await hearth.registers()
    room = (await user.post(V3 + "/createRoom", {}))["room_id"]
    return user, room, f"{V3}/user/{user.escaped()}/rooms/{room}"


# ── Account data ─────────────────────────────────────────────────────────────────────


async def test_what_is_set_is_there(hearth: Running) -> None:
    ann = await hearth.registers()
    path = f"{V3}/user/{ann.escaped()}/account_data/"
    for type_, content in [
        ("org.example.one", {"a": 1, "float": 0.5, "zero": "\0", "é": [None, {}]}),
        ("org.example.empty", {}),
        ("org%00%10x%2Fy", {"odd": True}),
    ]:
        assert await refused(ann.answer("GET", path + type_)) == (404, "M_NOT_FOUND")
        await ann.put(path + type_, {"old": 1})
        assert await ann.put(path + type_, content) == {}
        assert await ann.get(path + type_) == content


async def test_a_room_has_its_own(hearth: Running) -> None:
    ben, _, room = await with_room(hearth)
    _, _, other = await with_room(hearth)
    mine = f"{V3}/user/{ben.escaped()}/account_data/x"
    await ben.put(mine, {"of": "all"})
    assert (await ben.answer("GET", room + "/account_data/x"))[0] == 404
    await ben.put(room + "/account_data/x", {"of": "room"})
    assert await ben.get(mine) == {"of": "all"}
    assert await ben.get(room + "/account_data/x") == {"of": "room"}
    assert (await ben.answer("GET", other + "/account_data/x"))[0] == 403


async def test_it_takes_a_position_that_the_user_syncs(hearth: Running) -> None:
    cal, room, path = await with_room(hearth)
    since = (await cal.get(V3 + "/sync"))["next_batch"]
    await cal.put(f"{V3}/user/{cal.escaped()}/account_data/x", {"n": 1})
    await cal.put(path + "/account_data/y", {"n": 2})
    synced = await cal.get(V3 + "/sync", since=since)
    assert synced["account_data"]["events"] == [{"type": "x", "content": {"n": 1}}]
    assert synced["rooms"]["join"][room]["account_data"]["events"] == [
        {"type": "y", "content": {"n": 2}}
    ]


async def test_what_others_keep_is_closed(hearth: Running) -> None:
    dot, _, path = await with_room(hearth)
    eve = await hearth.registers()
    for where in (
        f"{V3}/user/{dot.escaped()}/account_data/x",
        path + "/account_data/x",
        path + "/tags/x",
    ):
        assert await refused(eve.answer("PUT", where, {})) == (403, "M_FORBIDDEN")
    for where in (
        f"{V3}/user/{dot.escaped()}/account_data/x",
        path + "/account_data/x",
        path + "/tags",
        f"{V3}/user/{dot.escaped()}/filter/1",
    ):
        assert await refused(eve.answer("GET", where)) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("type_", ["m.fully_read", "m.push_rules"])
async def test_what_the_server_sets_cannot_be_set(hearth: Running, type_: str) -> None:
    fay, _, path = await with_room(hearth)
    for where in (f"{V3}/user/{fay.escaped()}", path):
        answer = fay.answer("PUT", f"{where}/account_data/{type_}", {})
        assert await refused(answer) == (405, "M_BAD_JSON")


async def test_a_room_must_be_one_that_the_user_knows(hearth: Running) -> None:
    gil, room, _ = await with_room(hearth)
    hal = await hearth.registers()
    where = f"{V3}/user/{hal.escaped()}/rooms"
    for room_id, expected in [
        ("nonsense", (400, "M_INVALID_PARAM")),
        (gil.escaped(), (400, "M_INVALID_PARAM")),
        ("!unknown:hearth.test", (404, "M_NOT_FOUND")),
        (room, (404, "M_NOT_FOUND")),
    ]:
        for method, what in [("PUT", "account_data/x"), ("PUT", "tags/x")]:
            answer = hal.answer(method, f"{where}/{room_id}/{what}", {})
            assert await refused(answer) == expected
        for what in ("account_data/x", "tags"):
            answer = hal.answer("GET", f"{where}/{room_id}/{what}")
            assert await refused(answer) == expected


async def test_bad_contents_and_types_are_refused(hearth: Running) -> None:
    ida = await hearth.registers()
    path = f"{V3}/user/{ida.escaped()}/account_data/"
    for type_, body, expected in [
        ("x", [], (400, "M_BAD_JSON")),
        ("x", {"n": 2**60}, (400, "M_BAD_JSON")),
        ("", {}, (400, "M_INVALID_PARAM")),
        ("x" * 256, {}, (400, "M_INVALID_PARAM")),
    ]:
        assert await refused(ida.answer("PUT", path + type_, body)) == expected


# ── Tags ─────────────────────────────────────────────────────────────────────────────


async def test_tags_come_and_go_one_by_one(hearth: Running) -> None:
    jan, _, path = await with_room(hearth)
    assert await jan.get(path + "/tags") == {"tags": {}}
    await jan.put(path + "/tags/m.favourite", {"order": 0.25})
    await jan.put(path + "/tags/u.W%C3%B6rk%2Fx", {"order": 1, "more": "kept"})
    both = {
        "m.favourite": {"order": 0.25},
        "u.Wörk/x": {"order": 1, "more": "kept"},
    }
    assert await jan.get(path + "/tags") == {"tags": both}
    assert await jan.get(path + "/account_data/m.tag") == {"tags": both}
    await jan.put(path + "/tags/m.favourite", {})
    assert await jan.delete(path + "/tags/u.W%C3%B6rk%2Fx") == {}
    assert await jan.delete(path + "/tags/never.there") == {}
    assert await jan.get(path + "/tags") == {"tags": {"m.favourite": {}}}


async def test_tags_that_come_at_once_are_all_kept(hearth: Running) -> None:
    kai, _, path = await with_room(hearth)
    await asyncio.gather(
        *(kai.put(f"{path}/tags/u.{n}", {"order": n / 30}) for n in range(30))
    )
    tags = (await kai.get(path + "/tags"))["tags"]
    assert set(tags) == {f"u.{n}" for n in range(30)}


async def test_bad_tags_are_refused(hearth: Running) -> None:
    lou, _, path = await with_room(hearth)
    for tag, body, expected in [
        ("x" * 256, {}, (400, "M_INVALID_PARAM")),
        ("%C3%A9" * 128, {}, (400, "M_INVALID_PARAM")),
        ("", {}, (400, "M_INVALID_PARAM")),
        ("x", {"order": "first"}, (400, "M_BAD_JSON")),
        ("x", {"order": True}, (400, "M_BAD_JSON")),
        ("x", [], (400, "M_BAD_JSON")),
        ("x", {"order": 1, "long": "x" * 70_000}, (413, "M_TOO_LARGE")),
    ]:
        answer = lou.answer("PUT", f"{path}/tags/{tag}", body)
        assert await refused(answer) == expected
    assert await lou.get(path + "/tags") == {"tags": {}}


async def test_tags_survive_whatever_a_client_has_put_there(hearth: Running) -> None:
    mia, _, path = await with_room(hearth)
    await mia.put(path + "/account_data/m.tag", {"tags": "nonsense", "x": 1})
    assert await mia.get(path + "/tags") == {"tags": {}}
    await mia.put(path + "/tags/u.x", {})
    assert await mia.get(path + "/account_data/m.tag") == {"tags": {"u.x": {}}, "x": 1}


# ── Filters ──────────────────────────────────────────────────────────────────────────


async def test_a_filter_is_kept_as_it_was_given(hearth: Running) -> None:
    nan = await hearth.registers()
    path = f"{V3}/user/{nan.escaped()}/filter"
    given = {
        "room": {"timeline": {"limit": 10, "types": ["m.room.*"]}, "unknown": "é\0"},
        "event_fields": ["content.body"],
        "event_format": "client",
    }
    made = await nan.post(path, given)
    assert set(made) == {"filter_id"}
    assert not made["filter_id"].startswith("{")
    assert await nan.get(f"{path}/{made['filter_id']}") == given
    # The same again is the same.
    assert await nan.post(path, dict(reversed(given.items()))) == made
    assert await nan.post(path, {}) != made


@pytest.mark.parametrize("filter_id", ["0", "x", "-1", "9" * 19, "9" * 30, "%00", ""])
async def test_a_filter_that_is_not_there_is_not_found(
    hearth: Running, filter_id: str
) -> None:
    oli = await hearth.registers()
    answer = oli.answer("GET", f"{V3}/user/{oli.escaped()}/filter/{filter_id}")
    assert await refused(answer) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    "given",
    [
        [],
        {"room": []},
        {"room": {"timeline": {"limit": "ten"}}},
        {"room": {"timeline": {"limit": -1}}},
        {"room": {"rooms": ["not a room"]}},
        {"presence": {"senders": ["not a user"]}},
        {"event_format": "xml"},
        {"event_fields": [1]},
    ],
)
async def test_a_bad_filter_is_refused(hearth: Running, given: object) -> None:
    pat = await hearth.registers()
    answer = pat.answer("POST", f"{V3}/user/{pat.escaped()}/filter", given)
    assert await refused(answer) == (400, "M_BAD_JSON")


async def test_filters_are_made_for_oneself(hearth: Running) -> None:
    ray, sue = await hearth.registers(), await hearth.registers()
    answer = ray.answer("POST", f"{V3}/user/{sue.escaped()}/filter", {})
    assert await refused(answer) == (403, "M_FORBIDDEN")


async def test_a_filter_is_used_by_its_id_or_inline(hearth: Running) -> None:
    tea, _, _ = await with_room(hearth)
    where = f"{V3}/user/{tea.escaped()}"
    await tea.put(where + "/account_data/wanted", {})
    await tea.put(where + "/account_data/unwanted", {})
    inline = '{"account_data": {"types": ["wanted"]}}'
    made = await tea.post(where + "/filter", {"account_data": {"types": ["wanted"]}})
    for chosen in (made["filter_id"], inline):
        synced = await tea.get(V3 + "/sync", filter=chosen)
        types = [event["type"] for event in synced["account_data"]["events"]]
        assert types == ["wanted"]
    for chosen, expected in [
        ("123", (400, "M_INVALID_PARAM")),
        ("nonsense", (400, "M_INVALID_PARAM")),
        ("{", (400, "M_NOT_JSON")),
        ('{"room": 1}', (400, "M_BAD_JSON")),
    ]:
        answer = tea.answer("GET", V3 + "/sync", query={"filter": chosen})
        assert await refused(answer) == expected
