"""The endpoints about aliases and published rooms."""

from dataclasses import replace
from typing import Final, Literal

import msgspec

from federation import auth_rules
from federation.canonical_json import JsonValue
from federation.errors import Malformed, Rejected
from federation.ids import RoomAlias, RoomId, ServerName, parse_room_id, server_of
from federation.query_bodies import PublicRoomsQuery, parse_public_rooms_query
from homeserver import errors
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.directory.listing import MAX_LIMIT, list_published
from homeserver.directory.remote import ask_for_published
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import lookups, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.live.room import Room
from homeserver.rooms import aliases
from homeserver.rooms.access import is_world_readable
from homeserver.rooms.aliases import Alias
from homeserver.rooms.build import NewEvent
from homeserver.rooms.restricted import CREATE, POWER_LEVELS, state_pdus
from homeserver.rooms.send import send_event

ALIAS: Final = "/_matrix/client/v3/directory/room/{roomAlias}"
LISTED: Final = "/_matrix/client/v3/directory/list/room/{roomId}"
PUBLIC: Final = "/_matrix/client/v3/publicRooms"
_CANONICAL_ALIAS: Final = "m.room.canonical_alias"


class NewAlias(msgspec.Struct):
    """The body of a new alias."""

    room_id: str


class Visibility(msgspec.Struct):
    """Whether a room is published."""

    visibility: Literal["public", "private"] = "public"


# ── Aliases ──────────────────────────────────────────────────────────────────────────


@route("PUT", ALIAS, auth=by_access_token, limit=writes)
async def set_room_alias(ctx: Context, request: ClientRequest) -> Answer:
    """Give a room a name. Raises: M_INVALID_PARAM, M_FORBIDDEN, M_UNKNOWN with 409.

    Spec: client-server-api#put_matrixclientv3directoryroomroomalias
    """
    alias = request.path(RoomAlias, "roomAlias")
    if server_of(alias) != ctx.server_name:
        raise errors.invalid_param(
            f"roomAlias: this server makes only aliases that end with"
            f" ':{ctx.server_name}'."
        )
    services = ctx.parts.get(Services)
    services.check_alias(alias, services.get(request.who.service_id or ""))
    try:
        room_id = parse_room_id(request.body(NewAlias).room_id)
    except Malformed as error:
        raise errors.invalid_param(f"room_id: {error}.") from None
    await ctx.live.require_joined(room_id, request.user_id)
    async with ctx.db.transaction() as tx:
        is_new = await aliases.insert_alias(tx, Alias(alias, room_id, request.user_id))
    if not is_new:
        raise errors.unknown(f"The alias {alias} exists already.", status=409)
    return {}


@route("GET", ALIAS, auth=nobody, limit=lookups)
async def get_room_id_by_alias(ctx: Context, request: Request) -> Answer:
    """The room behind an alias. Raises: M_INVALID_PARAM, M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3directoryroomroomalias
    """
    alias = request.path(RoomAlias, "roomAlias")
    return (await aliases.resolve_alias(ctx, alias)).json


@route("DELETE", ALIAS, auth=by_access_token, limit=writes)
async def delete_room_alias(ctx: Context, request: ClientRequest) -> Answer:
    """Take a name from a room. Raises: M_NOT_FOUND, M_FORBIDDEN.

    Who gave it may take it away, as may those who could change the room's canonical
    alias, and administrators.

    Spec: client-server-api#delete_matrixclientv3directoryroomroomalias
    """
    alias = request.path(RoomAlias, "roomAlias")
    async with ctx.db.read() as tx:
        found = await aliases.find_alias(tx, alias)
    if found is None:
        raise aliases.no_such_alias(alias)
    room = await ctx.live.room(found.room_id)
    if not await _may_delete(ctx, request, found, room):
        raise errors.forbidden("This alias was given by somebody else.")
    async with ctx.db.transaction() as tx:
        is_gone = await aliases.delete_alias(tx, alias, found.room_id)
    if not is_gone:
        raise aliases.no_such_alias(alias)
    if room is not None and room.is_joined(request.user_id):
        await _take_out_of_state(ctx, request, room, alias)
    return {}


async def _may_delete(
    ctx: Context, request: ClientRequest, alias: Alias, room: Room | None
) -> bool:
    services = ctx.parts.get(Services)
    service = services.get(request.who.service_id or "")
    if service is not None and service.is_alias(alias.alias):
        return True
    if request.who.is_admin:
        return True
    services.check_alias(alias.alias)
    if alias.creator == request.user_id:
        return True
    return room is not None and await _may_name(ctx, request, room)


async def _may_name(ctx: Context, request: ClientRequest, room: Room) -> bool:
    """Whether the user may change the room's canonical alias."""
    if not room.is_joined(request.user_id):
        return False
    levels = auth_rules.PowerLevels.of(
        await state_pdus(ctx.live, room, POWER_LEVELS, CREATE), room.version
    )
    needed = levels.required(_CANONICAL_ALIAS, is_state=True)
    return levels.user(request.user_id) >= needed


async def _take_out_of_state(
    ctx: Context, request: ClientRequest, room: Room, alias: RoomAlias
) -> None:
    """List the alias in the room's state no longer, if the user may change that."""
    key = (_CANONICAL_ALIAS, "")
    pdu = (await state_pdus(ctx.live, room, key)).get(key)
    content = None if pdu is None else aliases.without_alias(pdu.content, alias)
    if content is None:
        return
    try:
        new = NewEvent(_CANONICAL_ALIAS, request.user_id, content, "")
        await send_event(ctx, room, new)
    except Rejected:
        # "Return a successful response even if the user does not have permission."
        return


@route(
    "GET",
    "/_matrix/client/v3/rooms/{roomId}/aliases",
    auth=by_access_token,
    limit=lookups,
)
async def get_local_aliases(ctx: Context, request: ClientRequest) -> Answer:
    """The names that this server has for a room. Raises: M_FORBIDDEN.

    Spec: client-server-api#get_matrixclientv3roomsroomidaliases
    """
    room_id = request.path(RoomId, "roomId")
    room = await ctx.live.room(room_id)
    if room is None or not await is_world_readable(ctx.live, room):
        await ctx.live.require_joined(room_id, request.user_id)
    async with ctx.db.read() as tx:
        found: list[JsonValue] = [*await aliases.aliases_of(tx, room_id)]
    return {"aliases": found}


# ── Published rooms ──────────────────────────────────────────────────────────────────


async def _known_room(ctx: Context, room_id: RoomId) -> Room:
    room = await ctx.live.room(room_id)
    if room is None or not room.head.extremities:
        raise errors.not_found("This server does not know this room.")
    return room


@route("GET", LISTED, auth=nobody, limit=lookups)
async def get_room_visibility_on_directory(ctx: Context, request: Request) -> Answer:
    """Whether a room is published here. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3directorylistroomroomid
    """
    room = await _known_room(ctx, request.path(RoomId, "roomId"))
    async with ctx.db.read() as tx:
        is_published = await aliases.is_published(tx, room.nid)
    return {"visibility": "public" if is_published else "private"}


@route("PUT", LISTED, auth=by_access_token, limit=writes)
async def set_room_visibility_on_directory(
    ctx: Context, request: ClientRequest
) -> Answer:
    """Publish a room, or no longer. Raises: M_NOT_FOUND, M_FORBIDDEN.

    For those who may change its canonical alias, and administrators.

    Spec: client-server-api#put_matrixclientv3directorylistroomroomid
    """
    room_id = request.path(RoomId, "roomId")
    wanted = request.body(Visibility, empty_ok=True).visibility
    room = await _known_room(ctx, room_id)
    if not request.who.is_admin and not await _may_name(ctx, request, room):
        raise errors.forbidden("You have too little power in this room to publish it.")
    async with ctx.db.transaction() as tx:
        if wanted == "public":
            await aliases.publish(tx, room.nid)
        else:
            await aliases.unpublish(tx, room.nid)
    return {}


@route("GET", PUBLIC, auth=nobody, limit=lookups)
async def get_public_rooms(ctx: Context, request: Request) -> Answer:
    """A page of the rooms that a server publishes. Raises: M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv3publicrooms
    """
    query = PublicRoomsQuery(
        limit=_limit(request.query_int("limit", 0)),
        since=request.query_str("since"),
    )
    return await _list(ctx, request, query)


@route("POST", PUBLIC, auth=by_access_token, limit=lookups)
async def query_public_rooms(ctx: Context, request: ClientRequest) -> Answer:
    """A page of those that match. Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3publicrooms
    """
    query = parse_public_rooms_query(request.json_object(empty_ok=True))
    query = replace(query, limit=_limit(query.limit or 0))
    return await _list(ctx, request, query)


def _limit(asked: int) -> int | None:
    """The number of rooms wanted; none, or 0, leaves it to the server."""
    return min(asked, MAX_LIMIT) if asked > 0 else None


async def _list(ctx: Context, request: Request, query: PublicRoomsQuery) -> Answer:
    server = request.query(ServerName, "server")
    if server is None or server == ctx.server_name:
        page = await list_published(ctx.db, ctx.live, query, to_server=False)
    else:
        page = await ask_for_published(ctx, server, query)
    return page.json
