"""The tree of a space, and the summary of a room, for clients."""

from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import RoomAlias, RoomId, ServerName, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token, optional_access_token
from homeserver.http.limits import Limit, lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.rooms.aliases import resolve_alias
from homeserver.rooms.membership_api import room_id_or_alias, via_of
from homeserver.rooms.stripped import read_stripped_state
from homeserver.rooms.summaries import outline_of
from homeserver.spaces import summaries, walk
from homeserver.spaces.remote import RemoteRooms
from homeserver.spaces.walk import MAX_DEPTH, Wanted

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100
_SUMMARY: Final = "/_matrix/client/unstable/im.nheko.summary"
# What makes us ask other servers, by somebody who does not say who they are.
strangers: Final = Limit("strangers", per_second=0.5, burst=20)


@route(
    "GET",
    "/_matrix/client/v1/rooms/{roomId}/hierarchy",
    auth=by_access_token,
    limit=lookups,
    since="1.2",
)
async def get_space_hierarchy(ctx: Context, request: ClientRequest) -> Answer:
    """A part of a space's tree. Raises: M_FORBIDDEN, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
    """
    suggested_only = request.query_bool("suggested_only")
    max_depth = request.query_int("max_depth", MAX_DEPTH, at_most=MAX_DEPTH)
    token = request.query_str("from")
    skip = 0
    if token is not None:
        skip = walk.skipped(token, suggested_only=suggested_only, max_depth=max_depth)
    wanted = Wanted(
        user_id=request.user_id,
        root=request.path(RoomId, "roomId"),
        suggested_only=suggested_only,
        max_depth=max_depth,
        limit=request.query_int("limit", DEFAULT_LIMIT, minimum=1, at_most=MAX_LIMIT),
        skip=skip,
    )
    rooms, next_batch = await walk.page(ctx, wanted)
    answer: JsonObject = {"rooms": list[JsonValue](rooms)}
    return answer if next_batch is None else {**answer, "next_batch": next_batch}


# ── One room ─────────────────────────────────────────────────────────────────────────


@route(
    "GET",
    "/_matrix/client/v1/room_summary/{roomIdOrAlias}",
    auth=optional_access_token,
    limit=lookups,
    since="1.15",
    aliases=(
        f"{_SUMMARY}/summary/{{roomIdOrAlias}}",
        f"{_SUMMARY}/rooms/{{roomIdOrAlias}}/summary",
    ),
)
async def get_room_summary(ctx: Context, request: ClientRequest) -> Answer:
    """What a room is, for who may join it or look at it. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv1room_summaryroomidoralias
    """
    given = request.path(room_id_or_alias, "roomIdOrAlias")
    via = via_of(request)
    if given.startswith("#"):
        if not given.endswith(f":{ctx.server_name}"):
            _count_stranger(request)
        entry = await resolve_alias(ctx, RoomAlias(given))
        room_id, via = entry.room_id, [*via, *entry.servers]
    else:
        room_id = RoomId(given)
    user_id = None if request.requester is None else request.user_id
    summary = await _summary(ctx, request, user_id, room_id, via)
    if summary is None or not await summaries.may_user_see(ctx, user_id, summary):
        raise errors.not_found("There is no such room, or you may not see it.")
    if user_id is None:
        return summary
    membership = await summaries.membership_in(ctx, user_id, room_id)
    return {**summary, "membership": membership}


def _count_stranger(request: ClientRequest) -> None:
    if request.requester is None:
        request.spend(strangers, request.ip)


async def _summary(
    ctx: Context,
    request: ClientRequest,
    user_id: UserId | None,
    room_id: RoomId,
    via: list[ServerName],
) -> JsonObject | None:
    here = await summaries.resident_rooms(ctx, (room_id,))
    if here:
        described = (await summaries.describe(ctx, here)).get(room_id)
        return None if described is None else described.summary
    _count_stranger(request)
    told = await ctx.parts.get(RemoteRooms).ask(ctx, room_id, via)
    if told is not None:
        return told.room.summary
    return None if user_id is None else await _from_invite(ctx, user_id, room_id)


async def _from_invite(
    ctx: Context, user_id: UserId, room_id: RoomId
) -> JsonObject | None:
    """What an invited or knocking user was told of the room."""
    if await summaries.membership_in(ctx, user_id, room_id) not in ("invite", "knock"):
        return None
    room_nid = await ctx.live.room_nid(room_id)
    if room_nid is None:
        return None
    async with ctx.db.read() as tx:
        events = await read_stripped_state(tx, room_nid, user_id)
    return outline_of(events).full_summary(room_id, 0)
