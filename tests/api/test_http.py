"""What every request goes through, seen from outside, with endpoints made for it."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.support.fake_http import FEDERATION, V3, FakeServer, fake_server

GOOD = {"Authorization": "Bearer good"}
EVENT_ID = "$" + "a" * 43


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as running:
        yield running


async def refused(server: FakeServer, *call: object, **headers: str) -> tuple[int, str]:
    status, body, _ = await server.call(*call, **headers)  # type: ignore[arg-type]
    assert isinstance(body, dict), body
    assert isinstance(body["error"], str)
    return status, body["errcode"]


# ── Routes ───────────────────────────────────────────────────────────────────────────


async def test_an_endpoint_gets_typed_parameters(server: FakeServer) -> None:
    path = f"{V3}/rooms/!a%2Fb:hearth.test/event/{EVENT_ID}"
    assert (await server.call("GET", path, **GOOD))[:2] == (
        200,
        {
            "room_id": "!a/b:hearth.test",
            "event_id": EVENT_ID,
            "user_id": "@alice:hearth.test",
            "device_id": "PHONE",
        },
    )


@pytest.mark.parametrize(
    "path",
    [
        f"/rooms/!a/event/{EVENT_ID}",
        f"/rooms/%40alice:hearth.test/event/{EVENT_ID}",
        "/rooms/!a:hearth.test/event/nonsense",
        "/rooms/!a:hearth.test/event/%00",
        f"/rooms/!%ff:hearth.test/event/{EVENT_ID}",
        f"/rooms/!a:hearth.test%4/event/{EVENT_ID}",
        f"/rooms//event/{EVENT_ID}",
        f"/rooms/!{'a' * 300}:hearth.test/event/{EVENT_ID}",
    ],
)
async def test_a_bad_identifier_is_an_invalid_parameter(
    server: FakeServer, path: str
) -> None:
    assert await refused(server, "GET", V3 + path, **GOOD) == (400, "M_INVALID_PARAM")


async def test_a_path_may_leave_out_its_last_parameter(server: FakeServer) -> None:
    for path, key in [("/m.x/key", "key"), ("/m.x/", ""), ("/m.x", "")]:
        _, body, _ = await server.call(
            "GET", f"{V3}/rooms/!a:hearth.test/state{path}", **GOOD
        )
        assert body == {"state_key": key}


async def test_what_is_not_there_is_unrecognized(server: FakeServer) -> None:
    assert await refused(server, "GET", "/") == (404, "M_UNRECOGNIZED")
    assert await refused(server, "GET", V3 + "/nothing") == (404, "M_UNRECOGNIZED")
    assert await refused(server, "GET", V3 + "/form/") == (404, "M_UNRECOGNIZED")
    assert await refused(server, "GET", "/_matrix/key/v2/server") == (
        404,
        "M_UNRECOGNIZED",
    )


async def test_another_method_is_unrecognized_too(server: FakeServer) -> None:
    status, body, headers = await server.call("PUT", V3 + "/form")
    assert (status, body["errcode"]) == (405, "M_UNRECOGNIZED")
    assert headers["Allow"] == "POST"
    assert await refused(server, "PATCH", V3 + "/query") == (405, "M_UNRECOGNIZED")


async def test_old_clients_find_old_endpoints_only(server: FakeServer) -> None:
    status, _, _ = await server.call(
        "POST", "/_matrix/client/r0/form", b'{"name": "x"}'
    )
    assert status == 200
    # Marked as added in v1.1.
    assert await refused(server, "POST", "/_matrix/client/r0/object", b"{}") == (
        404,
        "M_UNRECOGNIZED",
    )


async def test_browsers_may_ask_from_anywhere(server: FakeServer) -> None:
    for method, path in [
        ("OPTIONS", "/form"),
        ("GET", "/form"),
        ("GET", "/nothing"),
        ("GET", "/maybe"),
    ]:
        status, body, headers = await server.call(method, V3 + path)
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert "DELETE" in headers["Access-Control-Allow-Methods"]
        if method == "OPTIONS":
            assert (status, body) == (204, b"")
    _, _, headers = await server.call("GET", FEDERATION + "/nothing")
    assert "Access-Control-Allow-Origin" not in headers


async def test_a_listener_answers_only_for_its_apis() -> None:
    async with fake_server(serves=("metrics",)) as server:
        assert (await server.call("GET", "/metrics"))[1] == b"# metrics"
        assert await refused(server, "GET", V3 + "/maybe") == (404, "M_UNRECOGNIZED")
    async with fake_server(serves=("federation",)) as server:
        assert await refused(server, "GET", V3 + "/maybe") == (404, "M_UNRECOGNIZED")
        assert await refused(server, "PUT", FEDERATION + "/send/1", b"{}") == (
            401,
            "M_UNAUTHORIZED",
        )


# ── Who asks ─────────────────────────────────────────────────────────────────────────


async def test_a_token_is_needed_and_must_be_good(server: FakeServer) -> None:
    path = f"{V3}/rooms/!a:hearth.test/event/{EVENT_ID}"
    assert await refused(server, "GET", path) == (401, "M_MISSING_TOKEN")
    for header in ("Bearer", "Bearer ", "Basic good", "good"):
        assert await refused(server, "GET", path, Authorization=header) == (
            401,
            "M_MISSING_TOKEN",
        )
    assert await refused(server, "GET", path, Authorization="Bearer bad") == (
        401,
        "M_UNKNOWN_TOKEN",
    )
    assert await refused(server, "GET", path + "?access_token=bad") == (
        401,
        "M_UNKNOWN_TOKEN",
    )
    for target, headers in [
        (path, GOOD),
        (path, {"Authorization": "bearer good"}),
        (path + "?access_token=good", {}),
    ]:
        assert (await server.call("GET", target, **headers))[0] == 200


async def test_an_optional_token_must_be_good_when_it_is_there(
    server: FakeServer,
) -> None:
    path = V3 + "/maybe"
    assert (await server.call("GET", path))[1] == {"user_id": None}
    assert (await server.call("GET", path, **GOOD))[1] == {
        "user_id": "@alice:hearth.test"
    }
    assert await refused(server, "GET", path, Authorization="Bearer bad") == (
        401,
        "M_UNKNOWN_TOKEN",
    )


async def test_a_server_signs_its_body(server: FakeServer) -> None:
    path = FEDERATION + "/send/1"
    # Integers and floats of old room versions arrive as they were sent.
    sent = b'{"big": 123456789012345678901234567890, "float": 1.5}'
    signed = {"Authorization": "X-Matrix signed"}
    status, body, _ = await server.call("PUT", path, sent, **signed)
    assert status == 200
    assert body["origin"] == "origin.test"
    assert body["content"] == json.loads(sent)
    assert await refused(server, "PUT", path, sent) == (401, "M_UNAUTHORIZED")
    for broken, errcode in [
        (b"[]", "M_BAD_JSON"),
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
    ]:
        assert await refused(server, "PUT", path, broken, **signed) == (400, errcode)


# ── Bodies ───────────────────────────────────────────────────────────────────────────

DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
NOT_JSON = [b"", b"{", b"nonsense", b'{"a": NaN}', b'{"a": "\xff"}', b'"\\ud800"', DEEP]
NOT_AN_OBJECT = [b"[]", b'"text"', b"1", b"null", b"true"]
OUT_OF_RANGE = [
    b'{"a": 9007199254740992}',
    b'{"a": [-9007199254740992]}',
    b'{"a": 18446744073709551616}',
    b'{"a": {"b": 1e3, "c": 123456789012345678901234567890}}',
    b'{"a":' * 300 + b"1" + b"}" * 300,
]
BAD_JSON = [*NOT_AN_OBJECT, *OUT_OF_RANGE]


@pytest.mark.parametrize("body", NOT_JSON)
async def test_what_is_not_json_is_refused(server: FakeServer, body: bytes) -> None:
    for method, path in [("POST", "/form"), ("PUT", "/content/x")]:
        assert await refused(server, method, V3 + path, body, **GOOD) == (
            400,
            "M_NOT_JSON",
        )


@pytest.mark.parametrize("body", BAD_JSON)
async def test_json_that_nobody_can_use_is_refused(
    server: FakeServer, body: bytes
) -> None:
    for method, path in [("POST", "/form"), ("PUT", "/content/x")]:
        assert await refused(server, method, V3 + path, body, **GOOD) == (
            400,
            "M_BAD_JSON",
        )


async def test_floats_stand_in_bodies_but_not_in_events(server: FakeServer) -> None:
    body = b'{"order": 0.25, "zero": "\\u0000"}'
    status, seen, _ = await server.call("POST", V3 + "/object", body)
    assert (status, seen) == (200, {"order": 0.25, "zero": "\0"})
    assert await refused(server, "PUT", V3 + "/content/x", body, **GOOD) == (
        400,
        "M_BAD_JSON",
    )
    limits = b'{"a": 9007199254740991, "b": -9007199254740991}'
    status, seen, _ = await server.call("PUT", V3 + "/content/x", limits, **GOOD)
    assert (status, seen) == (200, json.loads(limits))


async def test_no_body_is_an_empty_object_only_where_that_is_said(
    server: FakeServer,
) -> None:
    path = V3 + "/object"
    assert (await server.call("POST", path + "?empty_ok=true"))[1] == {}
    assert await refused(server, "POST", path) == (400, "M_NOT_JSON")


@pytest.mark.parametrize(
    "body",
    ['{"size": 1}', '{"name": 1}', '{"name": "x", "size": "1"}', '{"name": null}'],
)
async def test_a_form_says_what_is_wrong(server: FakeServer, body: str) -> None:
    status, reply, _ = await server.call("POST", V3 + "/form", body.encode())
    assert (status, reply["errcode"]) == (400, "M_BAD_JSON")
    assert "name" in reply["error"] or "size" in reply["error"]


async def test_the_content_type_does_not_matter(server: FakeServer) -> None:
    status, body, _ = await server.call(
        "POST", V3 + "/form", b'{"name": "x", "other": 1}', **{"Content-Type": "x/y"}
    )
    assert (status, body) == (200, {"name": "x", "size": 0, "flag": None})


async def test_a_body_over_the_bound_is_refused(server: FakeServer) -> None:
    fits = json.dumps({"x": "y" * 980}).encode()
    assert (await server.call("POST", V3 + "/object", fits))[0] == 200
    over = json.dumps({"x": "y" * 1000}).encode()
    assert await refused(server, "POST", V3 + "/object", over) == (413, "M_TOO_LARGE")
    # Also when its length was not announced.
    chunked = (
        b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        % (V3 + "/object").encode()
        + b"100\r\n"
        + b" " * 256
        + b"\r\n"
    )
    answer = await server.raw(chunked + (b"400\r\n" + b" " * 1024 + b"\r\n") * 3)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"M_TOO_LARGE" in answer


async def test_a_client_that_asks_first_is_told_to_send_its_body(
    server: FakeServer,
) -> None:
    async def ask(length: int) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST {V3}/object HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(b" " * (length - 2) + b"{}")
            answer = await reader.read()
        writer.close()
        return first, answer

    first, answer = await ask(100)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"{}")
    # Who would be refused need not send it.
    first, _ = await ask(5000)
    assert first.startswith(b"HTTP/1.1 413 ")


async def test_a_compressed_body_is_bounded_by_what_it_becomes(
    server: FakeServer,
) -> None:
    bomb = zlib.compress(b" " * 10_000_000)
    status, body, _ = await server.call(
        "POST", V3 + "/object", bomb, **{"Content-Encoding": "deflate"}
    )
    assert (status, body["errcode"]) == (413, "M_TOO_LARGE")
    status, body, _ = await server.call(
        "POST", V3 + "/object", b"nonsense", **{"Content-Encoding": "gzip"}
    )
    assert (status, body["errcode"]) == (400, "M_UNKNOWN")


# ── Queries ──────────────────────────────────────────────────────────────────────────


async def test_a_query_is_typed(server: FakeServer) -> None:
    target = V3 + "/query?int=7&bool=true&dir=b&via=a&via=b%20c&user=%40a:b&must="
    assert (await server.call("GET", target))[1] == {
        "int": 7,
        "bool": True,
        "dir": "b",
        "via": ["a", "b c"],
        "user": "@a:b",
        "must": "",
    }
    defaults = (await server.call("GET", V3 + "/query?must=x&int=5000"))[1]
    assert defaults == {
        "int": 100,
        "bool": False,
        "dir": None,
        "via": [],
        "user": None,
        "must": "x",
    }


@pytest.mark.parametrize(
    "query",
    [
        "int=0",
        "int=-1",
        "int=x",
        "int=1_0",
        "int=%D9%A1",
        "int=99999999999999999",
        "bool=yes",
        "dir=c",
        "user=alice",
        "user=%ff",
        "&".join("x=1" for _ in range(300)),
    ],
)
async def test_a_bad_query_is_an_invalid_parameter(
    server: FakeServer, query: str
) -> None:
    assert await refused(server, "GET", f"{V3}/query?must=1&{query}") == (
        400,
        "M_INVALID_PARAM",
    )


async def test_a_required_query_parameter_is_missed(server: FakeServer) -> None:
    assert await refused(server, "GET", V3 + "/query") == (400, "M_MISSING_PARAM")


# ── Answers ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("bug", (500, "M_UNKNOWN")),
        ("connection", (500, "M_UNKNOWN")),
        ("timeout", (500, "M_UNKNOWN")),
        ("malformed", (400, "M_BAD_JSON")),
        ("too_large", (413, "M_TOO_LARGE")),
        ("rejected", (403, "M_FORBIDDEN")),
        ("database", (503, "M_UNKNOWN")),
        ("unknown", (503, "M_UNKNOWN")),
        ("gateway", (502, "M_UNKNOWN")),
    ],
)
async def test_an_exception_becomes_an_error_without_internals(
    server: FakeServer, how: str, expected: tuple[int, str]
) -> None:
    status, body, _ = await server.call("GET", f"{V3}/fail/{how}")
    assert (status, body["errcode"]) == expected
    assert "secret" not in json.dumps(body)


async def test_a_reply_may_have_any_form(server: FakeServer) -> None:
    status, body, headers = await server.call("GET", V3 + "/reply")
    assert (status, body) == (201, b"plain")
    assert headers["X-More"] == "1"
    assert headers["Content-Type"] == "text/plain"
    assert headers["Server"] == "hearth"


async def test_a_stream_is_whole_or_cut(server: FakeServer) -> None:
    status, body, _ = await server.call("GET", V3 + "/stream/3")
    assert (status, body) == (200, {"parts": [0, 1, 2, 0]})
    answer = await server.raw(
        f"GET {V3}/stream/-3 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    )
    # The last chunk of length 0 is what makes a body whole.
    assert not answer.endswith(b"0\r\n\r\n")
    assert server.state.seen == ["stream closed", "stream closed"]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_http_is_refused(server: FakeServer, sent: bytes) -> None:
    answer = await server.raw(sent)
    assert answer.split(b" ", 2)[1] == b"400", answer[:100]
    assert b'"errcode":"M_UNKNOWN"' in answer
