"""Endpoints about presence. Spec: client-server-api#presence."""

from typing import Final

import msgspec

from federation.ids import UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.presence import reading
from homeserver.presence.attendance import attendance
from homeserver.presence.content import content_of
from homeserver.presence.states import MAX_STATUS, OFFLINE, RANKS

STATUS: Final = "/_matrix/client/v3/presence/{userId}/status"
# Everybody who shares a room is told.
changes: Final = Limit("presence", per_second=0.5, burst=20)


class _Status(msgspec.Struct):
    presence: str
    status_msg: str | None = None


@route("PUT", STATUS, auth=by_access_token, limit=changes)
async def set_presence(ctx: Context, request: ClientRequest) -> Answer:
    """Say how one is. Raises: M_FORBIDDEN, M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#put_matrixclientv3presenceuseridstatus
    """
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("The presence of other users is not yours.")
    body = request.body(_Status)
    if body.presence not in RANKS:
        raise errors.bad_json(f"presence: one of {', '.join(RANKS)} is needed.")
    if body.status_msg is not None and len(body.status_msg) > MAX_STATUS:
        raise errors.invalid_param(
            f"status_msg: at most {MAX_STATUS} characters are taken."
        )
    present = attendance(ctx.live)
    if present is not None:
        await present.set_state(
            request.user_id, request.device_id or "", body.presence, body.status_msg
        )
    return {}


@route("GET", STATUS, auth=by_access_token)
async def get_presence(ctx: Context, request: ClientRequest) -> Answer:
    """How a user is. Raises: M_FORBIDDEN for who shares no room with the one who asks.

    Spec: client-server-api#get_matrixclientv3presenceuseridstatus
    """
    user_id = request.path(UserId, "userId")
    async with ctx.db.read() as tx:
        may = user_id == request.user_id or await reading.share_a_room(
            tx, request.user_id, user_id
        )
        found = await reading.presences(tx, (user_id,)) if may else []
    if not may:
        raise errors.forbidden("You share no room with this user.")
    if not found or not ctx.config.presence.enabled:
        return {"presence": OFFLINE}
    return content_of(found[0])
