"""The endpoint about rooms that two users share."""

import re
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

_PAGE: Final = 100
_TOKEN: Final = re.compile(r"m([0-9]{1,18})")


@route(
    "GET",
    "/_matrix/client/v1/mutual_rooms",
    auth=by_access_token,
    limit=lookups,
)
async def get_mutual_rooms(ctx: Context, request: ClientRequest) -> Answer:
    """A page of the rooms that the user shares with another. Raises: M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv1mutual_rooms
    """
    rooms, count, next_batch = await _page(ctx, request, request.query_str("from"))
    answer: JsonObject = {"joined": rooms, "count": count}
    return answer if next_batch is None else {**answer, "next_batch": next_batch}


@route(
    "GET",
    "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    auth=by_access_token,
    limit=lookups,
    flag="uk.half-shot.msc2666.query_mutual_rooms",
)
async def query_mutual_rooms(ctx: Context, request: ClientRequest) -> Answer:
    """The same as it was proposed, with other names for tokens. MSC2666."""
    token = request.query_str("batch_token") or request.query_str("from")
    rooms, count, next_batch = await _page(ctx, request, token)
    answer: JsonObject = {"joined": rooms, "count": count}
    if next_batch is None:
        return answer
    return {**answer, "next_batch_token": next_batch, "next_batch": next_batch}


async def _page(
    ctx: Context, request: ClientRequest, token: str | None
) -> tuple[list[JsonValue], int, str | None]:
    request.query_required("user_id")
    other = request.query(UserId, "user_id")
    if other == request.user_id:
        raise errors.invalid_param("user_id: this is you.")
    match = None if token is None else _TOKEN.fullmatch(token)
    if token is not None and match is None:
        raise errors.invalid_param("from: this is not a token of this server.")
    after = 0 if match is None else int(match[1])
    user = await ctx.live.user(request.user_id)
    mine = [nid for nid, each in user.rooms.items() if each.membership == "join"]
    async with ctx.db.read() as tx:
        rows = await tx.fetch(
            """
            SELECT r.room_nid, r.room_id
              FROM memberships m JOIN rooms r USING (room_nid)
             WHERE m.user_id = $1 AND m.membership = 'join' AND m.room_nid = ANY($2)
             ORDER BY r.room_nid
            """,
            other,
            mine,
        )
    further = [row for row in rows if row["room_nid"] > after]
    page = further[:_PAGE]
    next_batch = f"m{page[-1]['room_nid']}" if len(further) > _PAGE else None
    return [row["room_id"] for row in page], len(rows), next_batch
