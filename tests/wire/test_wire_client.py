"""Signed requests: what goes out, what comes back, and every bound on both."""

import asyncio
import gzip
import json
import ssl
import time

import pytest
from aiohttp import web
from wire_support import KEY, NOWHERE, PATH, US, Wire, answering, ask

from federation import x_matrix
from federation.ids import ServerName
from federation.wire.client import Limits, RequestReport, path_of
from federation.wire.errors import BadResponse, NotReachable, RemoteError
from homeserver.demo.certificates import CertificateAuthority


@pytest.fixture
async def there(wire: Wire):
    """A remote server, reachable as `there.name`."""
    remote = await wire.remote("a.test")
    wire.resolver.hosts["a.test"] = ["127.0.0.1"]
    remote.name = ServerName(f"a.test:{remote.port}")
    return remote


class TestWhatGoesOut:
    async def test_the_signature_verifies_over_what_arrived(self, wire, there) -> None:
        body = {"pdus": [{"a": "ä\u2028"}], "big": 2**53 - 1}
        await wire.client().request(
            there.name,
            "PUT",
            path_of("/_matrix/federation/v1/send", "!:/ä%2F?#&+ ~"),
            query=[("a b", "c&d=é"), ("v", "$1"), ("v", "$2")],
            body=body,
        )
        (seen,) = there.seen
        auth = x_matrix.parse(seen.headers["Authorization"])
        assert (auth.origin, auth.destination) == (US, there.name)
        x_matrix.check_destination(auth, there.name)
        request = x_matrix.signed_object(
            seen.method, seen.target, auth.origin, there.name, seen.json
        )
        x_matrix.check_signature(auth, request, KEY.public)
        assert seen.json == body
        assert seen.target == (
            "/_matrix/federation/v1/send/%21%3A%2F%C3%A4%252F%3F%23%26%2B%20~"
            "?a%20b=c%26d%3D%C3%A9&v=%241&v=%242"
        )

    async def test_headers(self, wire, there) -> None:
        client = wire.client(user_agent="hearth test")
        await client.request(there.name, "POST", PATH, body={})
        await client.request(there.name, "GET", PATH)
        post, get = there.seen
        assert post.headers["Content-Type"] == "application/json"
        assert "Content-Type" not in get.headers
        assert get.headers["User-Agent"] == "hearth test"
        assert get.headers["Accept"] == "application/json"
        assert get.body == b""

    async def test_put_and_post_always_have_a_body(self, wire, there) -> None:
        await wire.client().request(there.name, "POST", PATH)
        assert there.seen[0].body == b"{}"
        signed = x_matrix.signed_object("POST", PATH, US, there.name, {})
        auth = x_matrix.parse(there.seen[0].headers["Authorization"])
        x_matrix.check_signature(auth, signed, KEY.public)

    async def test_unsigned_requests_have_no_authorization(self, wire, there) -> None:
        await wire.client().request(there.name, "GET", PATH, signed=False)
        assert "Authorization" not in there.seen[0].headers

    async def test_nothing_goes_to_ourselves(self, wire) -> None:
        client = wire.client()
        with pytest.raises(NotReachable, match="ourselves"):
            await ask(client, US)
        assert client.backoff.export() == ()


class TestWhatComesBack:
    async def test_json_of_any_kind_with_nothing_lost(self, wire, there) -> None:
        client = wire.client()
        for value in ({"n": 2**70, "x": [1.5, None, "é"]}, [200, {}], "text"):
            there.handler = answering(value)
            assert await client.request(there.name, "GET", PATH) == value

    async def test_a_large_answer_is_parsed_as_well(self, wire, there) -> None:
        value = {"pdus": [{"content": "x" * 100, "n": n} for n in range(5000)]}
        there.handler = answering(value)
        assert await wire.client().request(there.name, "GET", PATH) == value

    async def test_compressed_answers_are_understood(self, wire, there) -> None:
        there.handler = answering(
            gzip.compress(b'{"a":1}'), headers={"Content-Encoding": "gzip"}
        )
        assert await wire.client().request(there.name, "GET", PATH) == {"a": 1}

    @pytest.mark.parametrize(
        ("raw", "content_type"),
        [
            (b"", "application/json"),
            (b"{", "application/json"),
            (b'{"a": NaN}', "application/json"),
            (b'{"a": "\xff"}', "application/json"),
            (b"[" * 10_000, "application/json"),
            (b"{}", "text/html"),
            (b"<html>", "text/html"),
        ],
    )
    async def test_what_is_not_json_is_a_bad_response(
        self, wire, there, raw: bytes, content_type: str
    ) -> None:
        there.handler = answering(raw, headers={"Content-Type": content_type})
        with pytest.raises(BadResponse):
            await ask(wire.client(), there.name)

    async def test_an_error_says_what_the_server_said(self, wire, there) -> None:
        body = {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "No", "more": "3"}
        there.handler = answering(body, status=400)
        with pytest.raises(RemoteError) as error:
            await ask(wire.client(), there.name)
        assert error.value.status == 400
        assert error.value.errcode == "M_INCOMPATIBLE_ROOM_VERSION"
        assert error.value.message == "No"
        assert error.value.body == body
        assert error.value.retry_after_ms is None

    @pytest.mark.parametrize("raw", [b"<html>", b"[]", b'{"errcode": 5}', b""])
    async def test_an_error_of_a_proxy_has_no_errcode(self, wire, there, raw) -> None:
        there.handler = answering(raw, status=502)
        with pytest.raises(RemoteError) as error:
            await ask(wire.client(), there.name)
        assert (error.value.status, error.value.errcode) == (502, None)

    @pytest.mark.parametrize(
        ("headers", "body", "expected"),
        [
            ({"Retry-After": "7"}, {}, 7000),
            ({"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}, {}, 30_000),
            ({"Retry-After": "soon"}, {"retry_after_ms": 50}, 50),
            ({"Retry-After": "7"}, {"retry_after_ms": 50}, 7000),
            ({}, {"retry_after_ms": 50}, 50),
            ({}, {"retry_after_ms": "50"}, None),
            ({}, {"retry_after_ms": True}, None),
            ({}, {}, None),
        ],
    )
    async def test_how_long_to_wait_is_handed_on(
        self, wire, there, headers, body, expected
    ) -> None:
        there.handler = answering({"errcode": "M_LIMIT_EXCEEDED", **body}, 429, headers)
        with pytest.raises(RemoteError) as error:
            await ask(wire.client(), there.name)
        assert error.value.retry_after_ms == expected

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_of_signed_requests_are_not_followed(
        self, wire, there, status: int
    ) -> None:
        there.handler = answering({}, status, {"Location": "/elsewhere"})
        with pytest.raises(RemoteError) as error:
            await ask(wire.client(), there.name)
        assert error.value.status == status
        assert len(there.seen) == 1


class TestBounds:
    async def test_an_answer_with_a_length_that_is_too_large(self, wire, there) -> None:
        there.handler = answering({"a": "x" * 1000})
        with pytest.raises(BadResponse, match="larger than 1000"):
            await wire.client().request(
                there.name, "GET", PATH, limits=Limits(max_bytes=1000)
            )

    async def test_an_answer_that_just_fits(self, wire, there) -> None:
        raw = json.dumps({"a": "x" * 988}).encode()
        assert len(raw) == 1000 - 3
        there.handler = answering(raw)
        limits = Limits(max_bytes=len(raw))
        assert await wire.client().request(there.name, "GET", PATH, limits=limits)

    async def test_an_endless_answer_is_cut_off(self, wire, there) -> None:
        sent = 0

        async def endless(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal sent
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            try:
                while sent < 2**30:
                    await response.write(b" " * 65536)
                    sent += 65536
            except ConnectionError:
                pass
            return response

        there.handler = endless
        with pytest.raises(BadResponse, match="larger"):
            await wire.client().request(
                there.name, "GET", PATH, limits=Limits(max_bytes=100_000)
            )
        await asyncio.sleep(0.1)
        assert sent < 2**26

    async def test_a_compressed_answer_counts_unpacked(self, wire, there) -> None:
        bomb = gzip.compress(b" " * 50_000_000)
        assert len(bomb) < 100_000
        there.handler = answering(bomb, headers={"Content-Encoding": "gzip"})
        with pytest.raises(BadResponse, match="larger"):
            await wire.client().request(
                there.name, "GET", PATH, limits=Limits(max_bytes=1_000_000)
            )

    async def test_an_endless_error_is_cut_off_and_still_an_error(
        self, wire, there
    ) -> None:
        there.handler = answering(b"x" * 1_000_000, status=500)
        with pytest.raises(RemoteError) as error:
            await ask(wire.client(), there.name)
        assert error.value.status == 500

    async def test_an_answer_that_drips_ends_in_time(self, wire, there) -> None:
        async def drip(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for _ in range(200):
                await response.write(b" ")
                await asyncio.sleep(0.05)
            return response

        there.handler = drip
        began = time.monotonic()
        with pytest.raises(NotReachable, match="time-out"):
            await wire.client().request(
                there.name, "GET", PATH, limits=Limits(seconds=0.5)
            )
        assert 0.4 < time.monotonic() - began < 3

    async def test_a_handshake_that_hangs_ends_in_time(self, wire) -> None:
        async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(30)
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        with pytest.raises(NotReachable):
            await ask(wire.client(connect_seconds=0.3), f"127.0.0.1:{port}")
        assert time.monotonic() - began < 3
        server.close()

    async def test_an_answer_that_breaks_off_is_no_answer(self, wire, there) -> None:
        async def break_off(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": "100"}
            )
            await response.prepare(request)
            await response.write(b'{"a":')
            request.transport.abort()
            return response

        there.handler = break_off
        with pytest.raises(NotReachable):
            await ask(wire.client(), there.name)

    async def test_garbage_instead_of_http_is_no_answer(self, wire, authority) -> None:
        async def garbage(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read(10)
            writer.write(b"\x00\x01\x02 garbage\r\n\r\n" * 10)
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue(wire.directory, "127.0.0.1"))
        server = await asyncio.start_server(garbage, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotReachable):
            await ask(wire.client(), f"127.0.0.1:{port}")
        server.close()

    async def test_headers_without_end_are_no_answer(self, wire, there) -> None:
        there.handler = answering({}, headers={"X-Long": "x" * 100_000})
        with pytest.raises(NotReachable):
            await ask(wire.client(), there.name)


class TestConnections:
    async def test_one_connection_serves_many_requests(self, wire, there) -> None:
        client = wire.client()
        for _ in range(5):
            await ask(client, there.name)
        assert len(there.seen) == 5
        assert len(there.handshakes) == 1
        assert client.open_connections == 1

    async def test_servers_at_one_address_do_not_share_connections(self, wire) -> None:
        remote = await wire.remote("a.test", "b.test")
        wire.resolver.hosts |= {"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}
        client = wire.client()
        for host in ("a.test", "b.test", "a.test"):
            await ask(client, f"{host}:{remote.port}")
        assert [seen.sni for seen in remote.seen] == ["a.test", "b.test", "a.test"]
        assert remote.handshakes == ["a.test", "b.test"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
    async def test_a_connection_closed_meanwhile_is_no_failure(
        self, wire, there, method: str
    ) -> None:
        client = wire.client()

        async def close_after(request: web.BaseRequest) -> web.StreamResponse:
            # Says keep-alive and hangs up before the next request, unseen by us.
            asyncio.get_running_loop().call_later(0, request.transport.abort)
            there.handler = answering({})
            return web.json_response({})

        there.handler = close_after
        await client.request(there.name, method, PATH)
        await client.request(there.name, method, PATH)
        assert client.backoff.export() == ()

    async def test_a_post_on_a_connection_that_just_breaks_is_repeated_once(
        self, wire, there
    ) -> None:
        async def abort(request: web.BaseRequest) -> web.StreamResponse:
            request.transport.abort()
            return web.Response()

        async def abort_once(request: web.BaseRequest) -> web.StreamResponse:
            there.handler = answering({})
            return await abort(request)

        client = wire.client()
        there.handler = abort_once
        await client.request(there.name, "POST", PATH)
        assert len(there.seen) == 2
        there.handler = abort
        with pytest.raises(NotReachable):
            await client.request(there.name, "POST", PATH)
        assert len(there.seen) == 4

    async def test_connections_kept_for_later_are_bounded(self, wire) -> None:
        client = wire.client(max_connections=3)
        for number in range(8):
            host = f"h{number}.test"
            remote = await wire.remote(host)
            wire.resolver.hosts[host] = ["127.0.0.1"]
            await ask(client, f"{host}:{remote.port}")
        await asyncio.sleep(0.05)
        assert client.open_connections <= 3

    async def test_requests_to_one_server_take_turns(self, wire, there) -> None:
        running = most = 0

        async def slowly(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.05)
            running -= 1
            return web.json_response({})

        there.handler = slowly
        client = wire.client(max_requests_per_server=3)
        await asyncio.gather(*(ask(client, there.name) for _ in range(12)))
        assert most == 3
        assert len(there.seen) == 12

    async def test_a_slow_server_does_not_take_the_slots_of_others(
        self, wire, there
    ) -> None:
        async def never(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(60)
            return web.Response()

        there.handler = never
        other = await wire.remote("b.test")
        wire.resolver.hosts["b.test"] = ["127.0.0.1"]
        client = wire.client(max_requests=4, max_requests_per_server=2)
        stuck = [asyncio.create_task(ask(client, there.name)) for _ in range(10)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(ask(client, f"b.test:{other.port}"), 2)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    async def test_the_queue_for_one_server_is_bounded(self, wire, there) -> None:
        async def slowly(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(0.2)
            return web.json_response({})

        there.handler = slowly
        client = wire.client(max_requests_per_server=1, max_waiting_per_server=2)
        results = await asyncio.gather(
            *(ask(client, there.name) for _ in range(5)), return_exceptions=True
        )
        refused = [each for each in results if each is not None]
        assert len(refused) == 2
        assert all("waiting" in each.why for each in refused)
        # That is our own doing, and says nothing about the server.
        assert client.backoff.export() == ()

    async def test_waiting_for_a_turn_too_long_is_no_failure_of_the_server(
        self, wire, there
    ) -> None:
        async def slowly(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(0.5)
            return web.json_response({})

        there.handler = slowly
        client = wire.client(max_requests_per_server=1)
        first = asyncio.create_task(ask(client, there.name))
        await asyncio.sleep(0.1)
        with pytest.raises(NotReachable, match="too many"):
            await client.request(there.name, "GET", PATH, limits=Limits(seconds=0.1))
        await first
        assert client.backoff.export() == ()


class TestTrust:
    async def test_an_unknown_authority_is_refused(self, wire) -> None:
        stranger = CertificateAuthority.create()
        remote = await wire.remote("127.0.0.1", authority=stranger)
        with pytest.raises(NotReachable, match="certificate"):
            await ask(wire.client(), f"127.0.0.1:{remote.port}")
        assert remote.seen == []

    async def test_verification_can_be_switched_off(self, wire) -> None:
        stranger = CertificateAuthority.create()
        remote = await wire.remote("elsewhere.test", authority=stranger)
        client = wire.client(verify_certificates=False, ca_file=None)
        await ask(client, f"127.0.0.1:{remote.port}")
        assert len(remote.seen) == 1

    async def test_without_the_file_only_the_systems_authorities_count(
        self, wire, there
    ) -> None:
        with pytest.raises(NotReachable, match="certificate"):
            await ask(wire.client(ca_file=None), there.name)

    async def test_well_known_needs_a_certificate_as_well(self, wire) -> None:
        stranger = CertificateAuthority.create()
        web_server = await wire.remote(
            "a.test", authority=stranger, handler=answering({"m.server": "d.test"})
        )
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        client = wire.client(well_known_port=web_server.port, matrix_port=remote.port)
        await ask(client, "a.test")
        assert (len(web_server.seen), len(remote.seen)) == (0, 1)


class TestReports:
    async def test_each_request_is_reported(self, wire, there) -> None:
        reports: list[RequestReport] = []
        client = wire.client(on_request=reports.append)
        await client.request(there.name, "GET", "/ok", query=[("a", "b")])
        there.handler = answering({"errcode": "M_NOT_FOUND"}, 404)
        with pytest.raises(RemoteError):
            await client.request(there.name, "GET", "/missing")
        wire.resolver.hosts["gone.test"] = [NOWHERE]
        with pytest.raises(NotReachable):
            await client.request(ServerName("gone.test:1"), "PUT", "/gone")
        assert [(r.method, r.path, r.status, r.error) for r in reports] == [
            ("GET", "/ok", 200, None),
            ("GET", "/missing", 404, "RemoteError"),
            ("PUT", "/gone", None, "NotReachable"),
        ]
        assert all(0 <= report.seconds < 5 for report in reports)


async def test_closing_gives_back_everything(wire: Wire, there) -> None:
    client = wire.client()
    async with client:
        await ask(client, there.name)
    assert wire.resolver.closed
    assert client.open_connections == 0
