"""Looking for people and places of other networks: asked of all services at once.

Spec: client-server-api#third-party-lookups
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from orjson import dumps

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import RoomAlias, UserId
from homeserver import errors
from homeserver.appservices.calls import ServiceFailed
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.bounded import MIB, LruCache
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

THIRD: Final = "/_matrix/client/v3/thirdparty"
_OLD: Final = "/_matrix/app/unstable"
_NOT_FIELDS: Final = frozenset(("access_token", "user_id", "device_id"))
_KEPT_SECONDS: Final = 60.0
_BYTES: Final = 4 * MIB
_EACH: Final = 500  # bytes beside what the service says
_PARSED: Final = 5  # times the text, in memory

log = structlog.get_logger(__name__)


class Protocols:
    """What services say of their protocols, kept for a minute."""

    def __init__(self) -> None:
        self.known: LruCache[tuple[str, str], tuple[float, JsonObject]] = LruCache(
            "third-party protocols", _BYTES, _EACH
        )


async def _ask(
    ctx: Context, service: Service, *parts: str, query: Iterable[tuple[str, str]] = ()
) -> JsonValue:
    """What one service answers; None when it has nothing to say."""
    try:
        answer = await ctx.parts.get(Services).calls.ask(
            service, "GET", "thirdparty", *parts, query=tuple(query), old_base=_OLD
        )
    except ServiceFailed as error:
        log.info("a service gives no answer", service=service.service_id, reason=error)
        return None
    return answer.json if answer.status == 200 else None


async def _protocol(ctx: Context, service: Service, name: str) -> JsonObject | None:
    known = ctx.parts.get(Protocols).known
    key, now = (service.service_id, name), ctx.clock.monotonic()
    kept = known.get(key)
    if kept is not None and now - kept[0] < _KEPT_SECONDS:
        return kept[1]
    found = await _ask(ctx, service, "protocol", name)
    if not isinstance(found, dict):
        return None
    known.put(key, (now, found), _PARSED * len(dumps(found)))
    return found


async def _described(ctx: Context, name: str) -> JsonObject | None:
    """A protocol as all services that speak it have it, with all their instances."""
    services = [s for s in ctx.parts.get(Services).all if name in s.protocols]
    asked = await asyncio.gather(*(_protocol(ctx, each, name) for each in services))
    found = [
        (service, each)
        for service, each in zip(services, asked, strict=True)
        if each is not None
    ]
    if not found:
        return None
    instances: list[JsonValue] = []
    for service, each in found:
        given = each.get("instances")
        for one in given if isinstance(given, list) else ():
            if isinstance(one, dict):
                network = one.get("network_id")
                # What clients give as third_party_instance_id.
                instance_id = f"{service.service_id}|{network}"
                instances.append({**one, "instance_id": instance_id})
    merged: JsonObject = {
        "user_fields": [],
        "location_fields": [],
        "icon": "",
        "field_types": {},
    }
    return {**merged, **found[0][1], "instances": instances}


@route("GET", f"{THIRD}/protocols", auth=by_access_token, limit=lookups)
async def get_protocols(ctx: Context, _request: ClientRequest) -> Answer:
    """The networks that services bridge to.

    Spec: client-server-api#get_matrixclientv3thirdpartyprotocols
    """
    services = ctx.parts.get(Services).all
    names = list(dict.fromkeys(name for each in services for name in each.protocols))
    found = await asyncio.gather(*(_described(ctx, name) for name in names))
    return {
        name: each for name, each in zip(names, found, strict=True) if each is not None
    }


@route("GET", f"{THIRD}/protocol/{{protocol}}", auth=by_access_token, limit=lookups)
async def get_protocol_metadata(ctx: Context, request: ClientRequest) -> Answer:
    """One of the networks. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3thirdpartyprotocolprotocol
    """
    found = await _described(ctx, request.path(str, "protocol"))
    if found is None:
        raise errors.not_found("No service bridges to this network.")
    return found


async def _all(
    ctx: Context,
    services: Iterable[Service],
    *parts: str,
    query: Iterable[tuple[str, str]],
) -> Reply:
    """The answers of all that answer, as one list. Raises: M_NOT_FOUND."""
    fields = list(query)
    answers = await asyncio.gather(
        *(_ask(ctx, service, *parts, query=fields) for service in services)
    )
    found = [
        each
        for answer in answers
        if isinstance(answer, list)
        for each in answer
        if isinstance(each, dict)
    ]
    if not found:
        raise errors.not_found("No service knows of this.")
    return Reply(body=dumps(found))


def _fields(request: ClientRequest) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in request.query_pairs()
        if name not in _NOT_FIELDS
    ]


def _of_protocol(ctx: Context, request: ClientRequest) -> tuple[list[Service], str]:
    name = request.path(str, "protocol")
    services = ctx.parts.get(Services).all
    return [each for each in services if name in each.protocols], name


@route("GET", f"{THIRD}/location/{{protocol}}", auth=by_access_token, limit=lookups)
async def query_location_by_protocol(ctx: Context, request: ClientRequest) -> Answer:
    """Rooms that lead to a place in a network. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3thirdpartylocationprotocol
    """
    services, name = _of_protocol(ctx, request)
    return await _all(ctx, services, "location", name, query=_fields(request))


@route("GET", f"{THIRD}/user/{{protocol}}", auth=by_access_token, limit=lookups)
async def query_user_by_protocol(ctx: Context, request: ClientRequest) -> Answer:
    """Users who stand for somebody in a network. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3thirdpartyuserprotocol
    """
    services, name = _of_protocol(ctx, request)
    return await _all(ctx, services, "user", name, query=_fields(request))


@route("GET", f"{THIRD}/location", auth=by_access_token, limit=lookups)
async def query_location_by_alias(ctx: Context, request: ClientRequest) -> Answer:
    """Places in networks that an alias leads to. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3thirdpartylocation
    """
    request.query_required("alias")
    alias = request.query(RoomAlias, "alias") or RoomAlias("")
    services = [s for s in ctx.parts.get(Services).all if s.is_alias(alias)]
    return await _all(ctx, services, "location", query=(("alias", alias),))


@route("GET", f"{THIRD}/user", auth=by_access_token, limit=lookups)
async def query_user_by_id(ctx: Context, request: ClientRequest) -> Answer:
    """Users of networks for whom a user stands. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3thirdpartyuser
    """
    request.query_required("userid")
    user_id = request.query(UserId, "userid") or UserId("")
    services = [s for s in ctx.parts.get(Services).all if s.is_user(user_id)]
    return await _all(ctx, services, "user", query=(("userid", user_id),))
