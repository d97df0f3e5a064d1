"""The endpoints of application services beside those that everybody has.

Spec: application-service-api#client-server-api-extensions
"""

import time
from typing import Final, Literal

import msgspec
import orjson

from federation.canonical_json import JsonObject
from federation.ids import RoomId
from homeserver import errors
from homeserver.appservices import store
from homeserver.appservices.calls import ServiceFailed
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

PING: Final = "/_matrix/client/v1/appservice/{appserviceId}/ping"
LISTED: Final = "/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}"
_MAX_SHOWN: Final = 2000
_MAX_NETWORK: Final = 255


def _service(ctx: Context, request: ClientRequest) -> Service:
    """The service that asks. Raises: M_FORBIDDEN, when it is none."""
    service = ctx.parts.get(Services).get(request.who.service_id or "")
    if service is None:
        raise errors.forbidden("Only application services can do this.")
    return service


class _Ping(msgspec.Struct):
    transaction_id: str | None = None


@route("POST", PING, auth=by_access_token, limit=writes, since="1.7")
async def ping_appservice(ctx: Context, request: ClientRequest) -> Answer:
    """Whether the service can be reached. Raises: M_BAD_STATUS, M_CONNECTION_FAILED.

    One that can is tried again at once with what could not be told before.

    Spec: application-service-api#pinging
    """
    service = _service(ctx, request)
    if request.path(str, "appserviceId") != service.service_id:
        raise errors.forbidden("This is another application service.")
    form = request.body(_Ping, empty_ok=True)
    if service.url is None:
        raise MatrixError(400, "M_URL_NOT_SET", "The registration has no url.")
    body: JsonObject = {}
    if form.transaction_id is not None:
        body["transaction_id"] = form.transaction_id
    started = time.monotonic()
    try:
        answer = await ctx.parts.get(Services).calls.ask(
            service, "POST", "ping", body=orjson.dumps(body)
        )
    except ServiceFailed as error:
        raise MatrixError(
            502, "M_CONNECTION_FAILED", f"The service does not answer: {error}."
        ) from None
    if answer.status != 200:
        raise MatrixError(
            502,
            "M_BAD_STATUS",
            f"The service answered {answer.status}.",
            status=answer.status,
            body=answer.body[:_MAX_SHOWN].decode("utf-8", "replace"),
        )
    async with ctx.db.transaction() as tx:
        await store.wake(tx, service.service_id)
    return {"duration_ms": int((time.monotonic() - started) * 1000)}


class _Visibility(msgspec.Struct):
    visibility: Literal["public", "private"]


@route("PUT", LISTED, auth=by_access_token, limit=writes)
async def update_appservice_room_directory_visibility(
    ctx: Context, request: ClientRequest
) -> Answer:
    """List a room among those of a third-party network, or no longer.

    Spec: application-service-api#published-room-directories

    Raises: M_FORBIDDEN, M_NOT_FOUND.
    """
    service = _service(ctx, request)
    network_id = request.path(str, "networkId")
    if not 0 < len(network_id) <= _MAX_NETWORK:
        raise errors.invalid_param("networkId: this is too long.")
    form = request.body(_Visibility)
    nid = await ctx.live.room_nid(request.path(RoomId, "roomId"))
    if nid is None:
        raise errors.not_found("This server does not know this room.")
    write = store.list_room if form.visibility == "public" else store.unlist_room
    async with ctx.db.transaction() as tx:
        await write(tx, service.service_id, network_id, nid)
    return {}
