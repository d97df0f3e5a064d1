"""The route table against the specification's operations; replies against schemas."""

import re

import pytest

from homeserver.app import ENDPOINTS
from homeserver.http.auth import Who
from homeserver.http.routes import Route, collect
from tests.support import openapi
from tests.support.contract import (
    BESIDES_THE_SPECIFICATION,
    ContractBroken,
    check_reply,
)

pytestmark = pytest.mark.skipif(
    not openapi.is_there(), reason="the specification is not at hand"
)

ROUTES = collect(ENDPOINTS)
SPECIFIED = [
    each for each in ROUTES if not each.path.startswith(BESIDES_THE_SPECIFICATION)
]
# What the pages call the ways of authentication.
WAYS = {
    "": Who.NOBODY,
    "accessTokenBearer": Who.USER,
    "appserviceAccessTokenBearer": Who.USER,
    "signedRequest": Who.SERVER,
}
# Where the page and its text differ, with the reason.
AUTH_SLIPS = {
    # The page says that servers ask, its text that clients do, with a token or without.
    "/_matrix/client/v1/room_summary/{roomIdOrAlias}": {Who.USER_OR_NOBODY},
    # The page says that an access token is needed, its text that servers ask.
    "/_matrix/federation/v1/timestamp_to_event/{roomId}": {Who.SERVER},
}


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def specified(route: Route) -> list[openapi.Operation]:
    """What the specification has for the path; one path may stand for two."""
    return [
        operation
        for operation in openapi.operations()
        if (operation.method, operation.path) == (route.method, route.path)
    ]


@pytest.mark.parametrize("route", SPECIFIED, ids=named)
def test_a_route_is_one_of_the_specification(route: Route) -> None:
    found = {(each.name, each.since) for each in specified(route)}
    assert found, "there is no such path; are its parameters named so?"
    assert (route.operation, route.since) in found


@pytest.mark.parametrize("route", SPECIFIED, ids=named)
def test_a_route_asks_for_what_the_specification_asks(route: Route) -> None:
    if route.path in AUTH_SLIPS:
        assert route.who in AUTH_SLIPS[route.path]
        return
    allowed = {WAYS[way] for each in specified(route) for way in each.security}
    if allowed == {Who.NOBODY, Who.USER}:
        # Whoever need not say who they are may still say it.
        allowed.add(Who.USER_OR_NOBODY)
    assert route.who in allowed


def test_every_route_stands_once() -> None:
    names = [(route.method, path) for route in ROUTES for path in route.paths()]
    assert len(names) == len(set(names))


def test_every_endpoint_is_documented_with_its_place_in_the_specification() -> None:
    lacking = [
        route.operation
        for route in SPECIFIED
        if "Spec: " not in (route.endpoint.__doc__ or "")
    ]
    assert lacking == []


def test_old_clients_find_what_the_oldest_specification_had() -> None:
    paths = {path for route in ROUTES for path in route.paths()}
    assert "/_matrix/client/r0/sync" in paths
    assert not any(path.startswith("/_matrix/client/r0/knock") for path in paths)


# ── The check itself ─────────────────────────────────────────────────────────────────

LOGIN = "/_matrix/client/r0/login"
JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", LOGIN, 200, JSON, b'{"flows": [{"type": 1}]}'),
        ("GET", LOGIN, 200, JSON, b'{"flows": [{}]}'),
        ("GET", LOGIN, 200, JSON, b"nonsense"),
        ("GET", LOGIN, 200, "text/plain", b"{}"),
        ("GET", LOGIN, 201, JSON, b"{}"),
        ("POST", LOGIN, 200, JSON, b'{"user_id": "@a:b"}'),
        ("POST", LOGIN, 403, JSON, b"{}"),
        ("POST", LOGIN, 403, JSON, b'{"errcode": "FORBIDDEN", "error": "x"}'),
        ("POST", LOGIN, 401, JSON, b'{"flows": [{"stages": 1}], "session": "x"}'),
        ("GET", "/_matrix/client/v3/unheard_of", 200, JSON, b"{}"),
    ],
)
def test_a_reply_that_breaks_the_contract_is_noticed(
    method: str, path: str, status: int, content_type: str, body: bytes
) -> None:
    with pytest.raises(ContractBroken):
        check_reply(method, path, status, content_type, body)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", LOGIN, 200, b'{"flows": [{"type": "m.login.password"}]}'),
        ("POST", LOGIN, 403, b'{"errcode": "M_FORBIDDEN", "error": "x"}'),
        ("POST", "/_matrix/client/v3/register", 401, b'{"flows": [], "session": "x"}'),
        ("GET", "/nothing", 404, b'{"errcode": "M_UNRECOGNIZED", "error": "x"}'),
        ("GET", "/_synapse/admin/v1/register", 200, b'{"nonce": "x"}'),
    ],
)
def test_a_reply_that_keeps_the_contract_passes(
    method: str, path: str, status: int, body: bytes
) -> None:
    check_reply(method, path, status, JSON, body)


def test_the_pages_agree_with_the_table_of_endpoints() -> None:
    lines = (openapi.ROOT / "endpoints.tsv").read_text().splitlines()[1:]
    table = {
        (method, path)
        for api, method, path, *_ in (line.split("\t") for line in lines)
        if api in openapi.APIS
    }
    pages = {(each.method, each.path) for each in openapi.operations()}
    assert pages == table
    assert all(re.fullmatch(r"/[\w./{}-]+", path) for _, path in pages)
