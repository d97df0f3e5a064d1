"""A space and its children, for other servers."""

from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import RoomId
from federation.query_bodies import SpaceHierarchy
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.spaces import summaries

_UNKNOWN: Final = "There is no such room, or your server may not see it."


@route(
    "GET",
    "/_matrix/federation/v1/hierarchy/{roomId}",
    auth=by_server,
    limit=federation,
    since="1.2",
)
async def get_space_hierarchy(ctx: Context, request: FederationRequest) -> Answer:
    """A room, and its children when it is a space. Raises: M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1hierarchyroomid
    """
    room_id = request.path(RoomId, "roomId")
    suggested_only = request.query_bool("suggested_only")
    rooms = await summaries.resident_rooms(ctx, (room_id,))
    room = (await summaries.describe(ctx, rooms)).get(room_id)
    if room is None or not await summaries.may_server_see(
        ctx, request.origin, rooms[0], room.summary
    ):
        raise errors.not_found(_UNKNOWN)
    wanted = summaries.children_of(room, suggested_only=suggested_only)
    known = await summaries.resident_rooms(ctx, (each.room_id for each in wanted))
    described = await summaries.describe(ctx, known)
    children: list[JsonObject] = []
    inaccessible: list[RoomId] = []
    for child in known:
        found = described.get(child.room_id)
        if found is None:
            continue
        if await summaries.may_server_see(ctx, request.origin, child, found.summary):
            children.append(found.json)
        else:
            inaccessible.append(child.room_id)
    return SpaceHierarchy(room.json, tuple(children), tuple(inaccessible)).json
