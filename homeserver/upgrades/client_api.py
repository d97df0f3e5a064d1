"""The endpoint that replaces a room. Spec: client-server-api#room-upgrades."""

import msgspec

from federation import room_versions
from federation.errors import Malformed
from federation.ids import RoomId, UserId, parse_user_id
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import room_creations
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.upgrades.upgrade import Upgrade, upgrade

MAX_CREATORS = 50


class UpgradeRoom(msgspec.Struct):
    """The body."""

    new_version: str
    additional_creators: list[str] | None = None


@route(
    "POST",
    "/_matrix/client/v3/rooms/{roomId}/upgrade",
    auth=by_access_token,
    limit=room_creations,
)
async def upgrade_room(ctx: Context, request: ClientRequest) -> Answer:
    """Replace a room by one of another version.

    Raises: M_UNSUPPORTED_ROOM_VERSION; M_FORBIDDEN; M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3roomsroomidupgrade
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(UpgradeRoom)
    version = room_versions.find(body.new_version)
    if version is None:
        raise errors.unsupported_room_version(body.new_version)
    creators: tuple[UserId, ...] = ()
    if version.privileged_creators:
        creators = _creators(body.additional_creators or [], request.user_id)
    wanted = Upgrade(request.user_id, room_id, version, creators)
    return {"replacement_room": await upgrade(ctx, wanted)}


def _creators(given: list[str], user_id: UserId) -> tuple[UserId, ...]:
    if len(given) > MAX_CREATORS:
        raise errors.too_large(f"A room can have at most {MAX_CREATORS} creators.")
    try:
        parsed = [parse_user_id(value) for value in dict.fromkeys(given)]
    except Malformed as error:
        raise errors.invalid_param(f"additional_creators: {error}.") from None
    return tuple(each for each in parsed if each != user_id)
