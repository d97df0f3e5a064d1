"""Every endpoint before callers who should not be there, and odd input where the
specification has no page: no 5xx, no answer without a token, no secret of others.

The routes are those of the table, so a new endpoint is tested as soon as it is there.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from homeserver.app import ENDPOINTS
from homeserver.http.auth import Who
from homeserver.http.routes import Route, collect
from tests.support import openapi
from tests.support.api import path
from tests.support.app import Running, User, configuration, running
from tests.support.contract import BESIDES_THE_SPECIFICATION
from tests.support.openapi import Operation
from tests.support.samples import Sampler

pytestmark = pytest.mark.skipif(
    not openapi.is_there(), reason="the specification is not at hand"
)

ROUTES = [each for each in collect(ENDPOINTS) if each.path.startswith("/_")]
UNSPECIFIED = [r for r in ROUTES if r.path.startswith(BESIDES_THE_SPECIFICATION)]
SECRET = "nobody-else-may-read-this"
TIMES = 8
# Another server that is not there is nobody's fault.
NOT_OURS = {502, 504}
# What bodies of endpoints without a page may have.
NAMES = {
    "action": "string",
    "content": "object",
    "conn_id": "string",
    "delay_ms": "integer",
    "device_data": "object",
    "device_id": "string",
    "extensions": "object",
    "lists": "object",
    "nonce": "string",
    "pos": "string",
    "room_subscriptions": "object",
    "state_key": "string",
    "timeout": "integer",
    "username": "string",
}


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
async def server(
    hearth_dsn: str, hearth: Running, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """One more process, which knows no other server."""
    config = configuration(
        tmp_path_factory.mktemp("bad-callers"),
        signing_key_file=hearth.ctx.config.signing_key_file,
        federation={"enabled": True, "verify_certificates": True},
    )
    async with running(config, hearth_dsn) as started:
        yield started


def operation_of(route: Route) -> Operation:
    """The page of the path, of another path of the endpoint, or one made up."""
    for each in openapi.operations():
        if (each.method, each.path) == (route.method, route.path):
            return each
    twins = {r.path for r in ROUTES if r.operation == route.operation}
    for each in openapi.operations():
        if each.method == route.method and each.path in twins:
            return each
    properties = {name: {"type": kind} for name, kind in NAMES.items()}
    body = {"content": {"application/json": {"schema": {"properties": properties}}}}
    return Operation(
        api="made up",
        method=route.method,
        path=route.path,
        operation_id=route.operation,
        security=(),
        since=None,
        file=Path("made-up.yaml"),
        responses={},
        parameters=[
            {"in": "query", "name": n} for n in ("from", "limit", "pos", "dir")
        ],
        request=body,
    )


async def call(
    server: Running, method: str, where: str, body: bytes | None, token: str
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Without the contract: it is for answers to those who may ask.
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            URL(server.base_url + where, encoded=True),
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(30),
        ) as reply,
    ):
        return reply.status, await reply.read()


# ── Without a token, with a bad one, without a signature ─────────────────────────────


def is_page(answer: bytes) -> bool:
    """Whether it is for people: browsers are told of errors in pages."""
    return answer.lower().startswith(b"<!doctype html>")


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_nobody_is_answered_who_has_to_say_who_they_are(
    server: Running, route: Route
) -> None:
    where = openapi.PARAMETER.sub("x", route.path)
    body = None if route.method == "GET" else b"{}"
    for token in ("", "nonsense"):
        status, answer = await call(server, route.method, where, body, token)
        errcode = None
        if status >= 400 and not is_page(answer):
            errcode = json.loads(answer).get("errcode")
        match route.who:
            case Who.USER:
                wanted = "M_UNKNOWN_TOKEN" if token else "M_MISSING_TOKEN"
                assert (status, errcode) == (401, wanted)
            case Who.SERVER:
                assert (status, errcode) == (401, "M_UNAUTHORIZED")
            case Who.USER_OR_NOBODY if token:
                assert (status, errcode) == (401, "M_UNKNOWN_TOKEN")
            case _:
                assert status < 500 or status in NOT_OURS


# ── Endpoints without a page ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", UNSPECIFIED, ids=named)
async def test_no_request_is_our_fault(server: Running, route: Route) -> None:
    user = await server.registers()
    known = await furnished(user)
    sampler = Sampler(named(route), known)
    operation = operation_of(route)
    for _ in range(2 * TIMES):
        where, body = sampler.request(operation, route.path)
        token = user.access_token if route.who is not Who.NOBODY else ""
        status, answer = await call(server, route.method, where, body, token)
        assert status < 500 or status in NOT_OURS, (where[:300], body, answer)
        if status >= 400 and not is_page(answer):
            assert b'"errcode"' in answer or b'"flows"' in answer


# ── Strangers ────────────────────────────────────────────────────────────────────────


async def furnished(user: User) -> dict[str, list[str]]:
    """Give the user secrets; the names under which they can be asked for."""
    room = (
        await user.post(
            path("createRoom"),
            {"preset": "private_chat", "name": SECRET, "topic": SECRET},
        )
    )["room_id"]
    message = {"msgtype": "m.text", "body": SECRET}
    where = path("rooms", room, "send", "m.room.message", "1")
    event = (await user.put(where, message))["event_id"]
    mine = path("user", user.user_id)
    await user.put(f"{mine}/account_data/org.example.x", {"x": SECRET})
    await user.put(f"{mine}/rooms/{room}/account_data/org.example.x", {"x": SECRET})
    filtered = await user.post(f"{mine}/filter", {"event_fields": [SECRET]})
    later = f"{path('rooms', room, 'send', 'm.x', '2')}?org.matrix.msc4140.delay=600000"
    delayed = (await user.put(later, {"body": SECRET}))["delay_id"]
    return {
        "userId": [user.user_id],
        "user_id": [user.user_id],
        "roomId": [room],
        "roomIdOrAlias": [room],
        "room_id": [room],
        "eventId": [event],
        "event_id": [event],
        "eventType": ["m.room.message", "m.room.name", "m.room.topic"],
        "stateKey": [""],
        "txnId": ["1"],
        "type": ["org.example.x"],
        "filterId": [filtered["filter_id"]],
        "filter": [filtered["filter_id"]],
        "deviceId": [user.device_id],
        "delayId": [delayed],
        "action": ["restart"],
        "search_term": [SECRET[:6]],
        "generic_search_term": [SECRET[:6]],
        "dir": ["b"],
        "timeout": ["0"],
        "limit": ["10"],
        "relType": ["m.thread"],
        "keyName": ["displayname"],
    }


STRANGER_MAY = {Who.USER, Who.USER_OR_NOBODY}


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.who in STRANGER_MAY], ids=named
)
async def test_strangers_learn_nothing(server: Running, route: Route) -> None:
    owner, stranger = await server.registers(), await server.registers()
    known = await furnished(owner)
    sampler = Sampler(named(route), known)
    operation = operation_of(route)
    token = stranger.access_token
    for _ in range(TIMES):
        where, body = sampler.request(operation, route.path)
        if body is not None and SECRET.encode() in body:
            continue  # they knew it already
        if route.long_poll and "timeout=" not in where:
            where += ("&" if "?" in where else "?") + "timeout=0"
        status, answer = await call(server, route.method, where, body, token)
        assert SECRET.encode() not in answer, where
        assert status < 500 or status in NOT_OURS, (where[:300], body, answer)
        if status == 401:
            token = (await server.registers()).access_token  # logged itself out
    await _still_there(owner, known)


async def _still_there(owner: User, known: dict[str, list[str]]) -> None:
    """The stranger has changed nothing either."""
    room, event = known["roomId"][0], known["eventId"][0]
    shown: Any = await owner.get(path("rooms", room, "event", event))
    assert shown["content"]["body"] == SECRET
    data = path("user", owner.user_id, "account_data", "org.example.x")
    assert await owner.get(data) == {"x": SECRET}
