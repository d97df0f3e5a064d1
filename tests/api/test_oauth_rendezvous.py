"""Two devices meet: MSC4388, and MSC4108 with ETags."""

import asyncio
from collections.abc import Mapping

import pytest

from homeserver.oauth import rendezvous_api, tasks
from tests.support.api import Json
from tests.support.app import Running

OLD = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
NEW = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
Old = tuple[int, Mapping[str, str], bytes]


async def begins(server: Running, data: str = "hello") -> Json:
    return await (await server.registers()).post(NEW, {"data": data})


async def test_two_devices_exchange_what_they_have(hearth: Running) -> None:
    made = await begins(hearth)
    assert 120_000 <= made["expires_in_ms"] <= 300_000
    where = f"{NEW}/{made['id']}"
    seen = await hearth.nobody.get(where)
    assert seen["data"] == "hello"
    assert seen["sequence_token"] == made["sequence_token"]
    token = seen["sequence_token"]
    answer = await hearth.nobody.put(where, {"data": "you", "sequence_token": token})
    assert answer["sequence_token"] != token
    assert (await hearth.nobody.get(where))["data"] == "you"
    # Repeated, since the answer was lost.
    again = await hearth.nobody.put(where, {"data": "you", "sequence_token": token})
    assert again == answer
    status, refused = await hearth.nobody.answer(
        "PUT", where, {"data": "other", "sequence_token": token}
    )
    assert (status, refused["errcode"]) == (409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE")
    assert await hearth.nobody.call("DELETE", where) == {}
    for method in ("GET", "DELETE"):
        status, refused = await hearth.nobody.answer(method, where)
        assert (status, refused["errcode"]) == (404, "M_NOT_FOUND")


async def test_the_same_text_again_is_something_new(hearth: Running) -> None:
    made = await begins(hearth, "a")
    where, token = f"{NEW}/{made['id']}", made["sequence_token"]
    changed = await hearth.nobody.put(where, {"data": "a", "sequence_token": token})
    assert changed["sequence_token"] != token


async def test_of_two_writers_one_wins(hearth: Running) -> None:
    made = await begins(hearth)
    where, token = f"{NEW}/{made['id']}", made["sequence_token"]
    answers = await asyncio.gather(
        *(
            hearth.nobody.answer(
                "PUT", where, {"data": str(n), "sequence_token": token}
            )
            for n in range(5)
        )
    )
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]


async def test_only_users_begin_one(hearth: Running) -> None:
    status, refused = await hearth.nobody.answer("POST", NEW, {"data": ""})
    assert (status, refused["errcode"]) == (403, "M_FORBIDDEN")
    assert await hearth.nobody.get(NEW) == {"create_available": False}
    user = await hearth.registers()
    assert await user.get(NEW) == {"create_available": True}


async def test_it_is_bounded(hearth: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await hearth.registers()
    for data, fits in (("ä" * 2048, True), ("x" * 4097, False), ("ä" * 2049, False)):
        status, _ = await user.answer("POST", NEW, {"data": data})
        assert status == (200 if fits else 413)
    made = await begins(hearth)
    body = {"data": "x" * 4097, "sequence_token": made["sequence_token"]}
    assert (await user.answer("PUT", f"{NEW}/{made['id']}", body))[0] == 413
    monkeypatch.setattr(rendezvous_api, "MOST", 1)
    status, refused = await user.answer("POST", NEW, {"data": ""})
    assert (status, refused["errcode"]) == (429, "M_LIMIT_EXCEEDED")


async def test_it_is_over_after_a_while(hearth: Running) -> None:
    made = await begins(hearth)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("UPDATE rendezvous SET expires_at = now()")
    status, _ = await hearth.nobody.answer("GET", f"{NEW}/{made['id']}")
    assert status == 404
    await tasks.forget_old(hearth.ctx)
    async with hearth.ctx.db.read() as tx:
        assert await tx.fetchval("SELECT count(*) FROM rendezvous") == 0


async def test_browsers_do_not_show_it(hearth: Running) -> None:
    made = await begins(hearth)
    url = f"{hearth.base_url}{NEW}/{made['id']}"
    headers = {"Sec-Fetch-Mode": "navigate"}
    async with hearth.session.get(url, headers=headers) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("body", [{}, {"data": 1}, {"data": None}, {"data": "\ud800"}])
async def test_what_is_no_text_is_refused(hearth: Running, body: Json) -> None:
    user = await hearth.registers()
    assert (await user.answer("POST", NEW, body))[0] == 400


async def test_a_rendezvous_is_of_one_kind(hearth: Running) -> None:
    made = await begins(hearth)
    assert (await calls(hearth, "GET", f"{OLD}/{made['id']}"))[0] == 404
    assert (await calls(hearth, "GET", f"{OLD}/%00"))[0] == 404


# ── With ETags ───────────────────────────────────────────────────────────────────────


async def calls(
    server: Running, method: str, where: str, body: bytes | None = None, **headers: str
) -> Old:
    url = where if where.startswith("http") else server.base_url + where
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        given.setdefault("Content-Type", "text/plain")
    async with server.session.request(method, url, data=body, headers=given) as answer:
        return answer.status, answer.headers.copy(), await answer.read()


async def test_two_devices_exchange_with_etags(hearth: Running) -> None:
    status, headers, body = await calls(hearth, "POST", OLD, b"hello")
    assert status == 201
    assert headers["Expires"].endswith("GMT")
    assert "etag" in headers["Access-Control-Expose-Headers"].lower()
    url, first = body.decode().split('"')[3], headers["ETag"]
    assert url.startswith(f"{hearth.base_url}{OLD}/")

    status, headers, body = await calls(hearth, "GET", url)
    assert (status, headers["ETag"], body) == (200, first, b"hello")
    assert headers["Content-Type"] == "text/plain"
    assert (await calls(hearth, "GET", url, If_None_Match=first))[0] == 304

    status, headers, _ = await calls(hearth, "PUT", url, b"you", If_Match=first)
    assert (status, headers["ETag"] != first) == (202, True)
    status, _, body = await calls(hearth, "GET", url, If_None_Match=first)
    assert (status, body) == (200, b"you")
    assert (await calls(hearth, "PUT", url, b"other", If_Match=first))[0] == 412
    assert (await calls(hearth, "PUT", url, b"other"))[0] == 400
    assert (await calls(hearth, "DELETE", url))[0] == 204
    assert (await calls(hearth, "GET", url))[0] == 404


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * 4096, "text/plain", 201),
        (b"x" * 4097, "text/plain", 413),
        (b"{}", "application/json", 400),
        (b"\xff\x00", "text/plain; charset=utf-8", 201),
    ],
)
async def test_only_a_little_text_may_lie_there(
    hearth: Running, body: bytes, kind: str, status: int
) -> None:
    found, _, _ = await calls(hearth, "POST", OLD, body, Content_Type=kind)
    assert found == status


async def test_browsers_of_web_clients_may_ask(hearth: Running) -> None:
    _, headers, _ = await calls(hearth, "OPTIONS", f"{OLD}/x")
    allowed = headers["Access-Control-Allow-Headers"].lower()
    assert "if-match" in allowed
    assert "if-none-match" in allowed
    versions = await hearth.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4108"] is True
