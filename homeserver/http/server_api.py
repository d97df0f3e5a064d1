"""Endpoints about the server as such, for other servers: discovery, version."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_server, nobody
from homeserver.http.limits import federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest, Request
from homeserver.http.routes import route
from homeserver.http.well_known import delegated_server

NAME: Final = "Hearth"


def our_version() -> str:
    """The version of the distribution that is installed."""
    try:
        return version("hearth-homeserver")
    except PackageNotFoundError:
        return "unknown"


@route("GET", "/.well-known/matrix/server", auth=nobody)
async def get_well_known(ctx: Context, _request: Request) -> Answer:
    """Where other servers reach this one.

    Raises: M_NOT_FOUND, when they are to come here, to port 8448.

    Spec: server-server-api#getwell-knownmatrixserver
    """
    delegated = delegated_server(ctx.config)
    if delegated is None:
        raise errors.not_found("This server is where its name says.")
    return {"m.server": delegated}


@route("GET", "/_matrix/federation/v1/version", auth=nobody)
async def get_version(_ctx: Context, _request: Request) -> Answer:
    """What this server is. Spec: server-server-api#get_matrixfederationv1version."""
    return {"server": {"name": NAME, "version": our_version()}}


@route(
    "GET",
    "/_matrix/federation/v1/query/{queryType}",
    auth=by_server,
    limit=federation,
)
async def query_info(_ctx: Context, request: FederationRequest) -> Answer:
    """Refuse a query of a kind that there is no answer to.

    Those of the specification, `directory` and `profile`, have endpoints of their own.

    Spec: server-server-api#get_matrixfederationv1queryquerytype

    Raises: M_UNRECOGNIZED.
    """
    kind = request.path(str, "queryType")
    raise errors.unrecognized(f"This server answers no queries of type {kind[:50]!r}.")
