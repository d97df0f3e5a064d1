"""What other servers may ask about aliases and published rooms."""

from dataclasses import replace

from federation.errors import Malformed
from federation.ids import parse_room_alias, server_of
from federation.query_bodies import PublicRoomsQuery, parse_public_rooms_query
from homeserver import errors
from homeserver.context import Context
from homeserver.directory.listing import list_published
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.rooms.aliases import no_such_alias, resolve_local_alias

PUBLIC = "/_matrix/federation/v1/publicRooms"


@route(
    "GET",
    "/_matrix/federation/v1/query/directory",
    auth=by_server,
    limit=federation,
)
async def query_room_directory(ctx: Context, request: FederationRequest) -> Answer:
    """The room behind an alias of ours. Raises: M_NOT_FOUND, M_INVALID_PARAM.

    Spec: server-server-api#get_matrixfederationv1querydirectory
    """
    try:
        alias = parse_room_alias(request.query_required("room_alias"))
    except Malformed as error:
        raise errors.invalid_param(f"room_alias: {error}.") from None
    if server_of(alias) != ctx.server_name:
        raise no_such_alias(alias)
    return (await resolve_local_alias(ctx, alias)).json


@route("GET", PUBLIC, auth=by_server, limit=federation)
async def get_public_rooms(ctx: Context, request: FederationRequest) -> Answer:
    """A page of the rooms that we publish. Raises: M_INVALID_PARAM.

    Spec: server-server-api#get_matrixfederationv1publicrooms
    """
    query = PublicRoomsQuery(
        limit=request.query_int("limit", 0) or None,
        since=request.query_str("since"),
        include_all_networks=request.query_bool("include_all_networks"),
        third_party_instance_id=request.query_str("third_party_instance_id"),
    )
    return (await list_published(ctx.db, ctx.live, query, to_server=True)).json


@route("POST", PUBLIC, auth=by_server, limit=federation)
async def query_public_rooms(ctx: Context, request: FederationRequest) -> Answer:
    """A page of those that match. Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: server-server-api#post_matrixfederationv1publicrooms
    """
    query = parse_public_rooms_query(request.json_object())
    query = replace(query, limit=query.limit or None)
    return (await list_published(ctx.db, ctx.live, query, to_server=True)).json
