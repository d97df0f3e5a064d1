"""The endpoint by which a user says that they are typing."""

from typing import Final

import msgspec

from federation.ids import RoomId, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.typing.note import note_typing

DEFAULT_MS: Final = 30_000
MAX_MS: Final = 120_000
_MIN_MS: Final = 1_000


class Typing(msgspec.Struct):
    """The body."""

    typing: bool
    timeout: int | None = None


@route(
    "PUT",
    "/_matrix/client/v3/rooms/{roomId}/typing/{userId}",
    auth=by_access_token,
    limit=writes,
)
async def set_typing(ctx: Context, request: ClientRequest) -> Answer:
    """Say that the user types, or has stopped. Raises: M_FORBIDDEN, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3roomsroomidtypinguserid
    """
    room_id = request.path(RoomId, "roomId")
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("Only users themselves can say that they type.")
    body = request.body(Typing)
    room = await ctx.live.require_joined(room_id, request.user_id)
    timeout_ms = None
    if body.typing:
        wanted = DEFAULT_MS if body.timeout is None else body.timeout
        timeout_ms = max(_MIN_MS, min(wanted, MAX_MS))
    await note_typing(ctx.live, room, request.user_id, timeout_ms)
    return {}
