"""No request to any endpoint is answered with 500, whatever is in it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from federation.ids import ServerName
from federation.wire.client import WireClient
from federation.wire.errors import NotReachable
from homeserver.app import ENDPOINTS
from homeserver.http.auth import Who
from homeserver.http.routes import Route, collect
from tests.support import openapi
from tests.support.app import PASSWORD, Running, User, configuration, running
from tests.support.contract import BESIDES_THE_SPECIFICATION
from tests.support.samples import Sampler

pytestmark = pytest.mark.skipif(
    not openapi.is_there(), reason="the specification is not at hand"
)

TIMES = 30
ROUTES = [
    each
    for each in collect(ENDPOINTS)
    if each.path.startswith("/_matrix/")
    and not each.path.startswith(BESIDES_THE_SPECIFICATION)
]
REMOTE = ServerName("remote.test")
# Another server that is not there is nobody's fault.
NOT_OURS = {502, 504}


@dataclass
class Target:
    """Somebody who is in a room, and good values of what requests name."""

    user: User
    known: dict[str, list[str]]


@pytest.fixture(scope="module")
async def server(
    hearth: Running, hearth_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    async def anybody(_ctx: Any, _request: Any) -> ServerName:
        return REMOTE

    async def nowhere(
        _self: WireClient, destination: ServerName, *_: Any, **__: Any
    ) -> Any:
        raise NotReachable(destination, "no other server is there in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homeserver.app.authenticate_server", anybody)
        patch.setattr(WireClient, "request", nowhere)
        config = configuration(tmp_path_factory.mktemp("bad-input"))
        async with running(config, hearth_dsn) as started:
            yield started


async def furnished(server: Running) -> Target:
    user = await server.registers()
    v3 = "/_matrix/client/v3"
    room = (await user.post(v3 + "/createRoom", {"preset": "public_chat"}))["room_id"]
    path = f"{v3}/rooms/{room}/send/m.room.message/1"
    event = (await user.put(path, {"body": "x", "msgtype": "m.text"}))["event_id"]
    other = await server.registers()
    return Target(
        user,
        {
            "userId": [user.user_id],
            "user_id": [other.user_id, user.user_id, "@remote:remote.test"],
            "roomId": [room],
            "roomIdOrAlias": [room, "#nothing:hearth.test"],
            "roomAlias": ["#new:hearth.test", "#nothing:remote.test"],
            "eventId": [event],
            "event_id": [event],
            "eventType": ["m.room.message", "m.room.name", "m.room.member"],
            "stateKey": ["", user.user_id],
            "txnId": ["1", "2"],
            "receiptType": ["m.read", "m.read.private", "m.fully_read"],
            "deviceId": [user.device_id],
            "devices": [user.device_id],
            "token": ["x"],
            "username": ["x"],
            "ts": ["1"],
            "visibility": ["public", "private"],
            "minimum_valid_until_ts": ["1"],
            "room_alias": ["#nothing:hearth.test"],
            "at": ["t1"],
            "filterId": ["1"],
            "tag": ["u.x"],
            "user": [user.user_id],
            "password": [PASSWORD],
            "room_version": ["12", "1"],
            "membership": ["join", "leave"],
            "server": ["hearth.test", "remote.test"],
            "type": ["m.tag", "x"],
            "keyName": ["displayname", "avatar_url", "org.example.x"],
            "serverName": ["hearth.test", "remote.test"],
            "dir": ["b", "f"],
            "limit": ["1", "10"],
            "from": ["t1"],
            "since": ["1", "s1"],
            # Nothing here has news, and no test waits for any.
            "timeout": ["0"],
            "ver": ["12"],
        },
    )


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_no_request_is_our_fault(server: Running, route: Route) -> None:
    operation = next(
        each
        for each in openapi.operations()
        if (each.method, each.path) == (route.method, route.path)
    )
    target = await furnished(server)
    sampler = Sampler(named(route), target.known)
    failures = []
    for _ in range(TIMES):
        where, body = sampler.request(operation, route.path)
        if route.long_poll and "timeout=" not in where:
            where += "&timeout=0" if "?" in where else "?timeout=0"
        token = target.user.access_token
        if route.operation in ENDS_SESSIONS:
            token = (await server.registers()).access_token
        headers = {"Authorization": f"Bearer {token}"} if route.who in USERS else {}
        status, answer = await call(server, route.method, where, body, headers)
        if status >= 500 and status not in NOT_OURS:
            failures.append((status, where[:300], (body or b"")[:400], answer))
    assert not failures, failures[:3]


ENDS_SESSIONS = {"logout", "logout_all", "change_password", "delete_device"}
USERS = {Who.USER, Who.USER_OR_NOBODY}


async def call(
    hearth: Running,
    method: str,
    where: str,
    body: bytes | None,
    headers: dict[str, str],
) -> tuple[int, Any]:
    async with hearth.session.request(
        method,
        URL(hearth.base_url + where, encoded=True),
        data=body,
        headers=headers,
        timeout=aiohttp.ClientTimeout(30),
    ) as reply:
        return reply.status, json.loads(await reply.read())
