"""Addresses are bound at identity servers, and unbound there."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from federation import x_matrix
from federation.ids import ServerName
from tests.api.test_threepids import BOB, THREEPID, V3, with_password
from tests.support.api import Json
from tests.support.app import NAME, Running
from tests.support.certificates import CertificateAuthority
from tests.support.homeserver import HOST

Another = Callable[..., Awaitable[Running]]


class IdentityServer:
    """Binds what it is told to, and keeps who asked."""

    def __init__(self) -> None:
        self.bound: list[Json] = []
        self.unbound: list[tuple[str, Json]] = []
        self.refusal: tuple[int, Json] | None = None
        self.name = ""

    async def bind(self, request: web.Request) -> web.Response:
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        assert request.headers["Authorization"] == "Bearer abc"
        body = await request.json()
        self.bound.append(body)
        return web.json_response({"medium": "email", "address": BOB, **body})

    async def unbind(self, request: web.Request) -> web.Response:
        self.unbound.append((request.headers["Authorization"], await request.json()))
        return web.json_response({})


@pytest.fixture
async def identity(tmp_path: Path) -> AsyncIterator[IdentityServer]:
    authority = CertificateAuthority.create()
    authority.write_ca(tmp_path / "ca.pem")
    certificate, key = authority.issue(tmp_path, "localhost", HOST)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = IdentityServer()
    app = web.Application()
    app.router.add_post("/_matrix/identity/v2/3pid/bind", server.bind)
    app.router.add_post("/_matrix/identity/v2/3pid/unbind", server.unbind)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=context).start()
    server.name = f"{HOST}:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def test_an_address_is_bound_and_unbound(
    another: Another, tmp_path: Path, identity: IdentityServer
) -> None:
    hearth = await another(
        federation={
            "ca_file": str(tmp_path / "ca.pem"),
            "allow_addresses": ["127.0.0.0/8"],
        },
    )
    bob = await hearth.registers("bob")
    creds = {
        "id_server": identity.name,
        "id_access_token": "abc",
        "sid": "1",
        "client_secret": "s",
    }
    await bob.post(THREEPID + "/bind", creds)
    await bob.post(THREEPID, {"three_pid_creds": creds})
    assert (
        identity.bound == [{"sid": "1", "client_secret": "s", "mxid": bob.user_id}] * 2
    )
    # Where it is bound need not be said; the request is signed by this server.
    pair = {"medium": "email", "address": BOB}
    reply = await bob.post(THREEPID + "/unbind", pair)
    assert reply == {"id_server_unbind_result": "success"}
    header, body = identity.unbound[0]
    assert body == {"mxid": bob.user_id, "threepid": pair}
    auth = x_matrix.parse(header)
    signed = x_matrix.signed_object(
        "POST",
        "/_matrix/identity/v2/3pid/unbind",
        ServerName(NAME),
        ServerName(identity.name),
        body,
    )
    x_matrix.check_signature(auth, signed, hearth.ctx.key.public)
    reply = await bob.post(THREEPID + "/unbind", pair)
    assert reply == {"id_server_unbind_result": "no-support"}
    # Errors of the identity server are passed on; nobody is logged out by them.
    identity.refusal = 401, {"errcode": "M_UNAUTHORIZED", "error": "no"}
    status, body = await bob.answer("POST", THREEPID + "/bind", creds)
    assert (status, body["errcode"]) == (403, "M_UNAUTHORIZED")
    # Who leaves is unbound everywhere.
    identity.refusal = None
    await bob.post(THREEPID + "/bind", creds)
    reply = await bob.post(V3 + "/account/deactivate", with_password(bob))
    assert reply == {"id_server_unbind_result": "success"}
    assert len(identity.unbound) == 2


async def test_identity_servers_are_those_that_are_allowed(another: Another) -> None:
    hearth = await another(threepids={"identity_servers": ["id.hearth.test"]})
    bob = await hearth.registers("bob")
    creds = {"id_access_token": "abc", "sid": "1", "client_secret": "s"}
    for name, status, errcode in (
        ("evil.test", 403, "M_SERVER_NOT_TRUSTED"),
        ("a/b", 400, "M_INVALID_PARAM"),
        ("id.hearth.test", 502, "M_UNKNOWN"),  # it is not there
    ):
        answer = await bob.answer(
            "POST", THREEPID + "/bind", {**creds, "id_server": name}
        )
        assert (answer[0], answer[1]["errcode"]) == (status, errcode)
