"""Rooms whose members are on their way still: waiting for them.

What needs only the rest of the state goes on. Who asks for members, or judges by them,
waits here.

Spec: MSC3902
"""

from typing import Final

from federation.ids import RoomId, UserId
from homeserver import errors
from homeserver.live.live import Live
from homeserver.live.room import Room

CLIENT_SECONDS: Final = 60.0
SERVER_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0  # the view may be loaded anew meanwhile


async def until_whole(live: Live, room: Room, seconds: float = CLIENT_SECONDS) -> Room:
    """The room with its members, or what we know of one that we have left.

    Raises: M_UNKNOWN with 503 when they do not come in time.
    """
    left = seconds
    while room.is_partial and room.is_resident:
        if left <= 0 or live.is_stopping:
            raise errors.MatrixError(
                503, "M_UNKNOWN", "The members of this room are still on their way."
            )
        await room.wait_until_whole(min(left, _LOOK_SECONDS))
        left -= _LOOK_SECONDS
        room = await live.room(room.room_id) or room
    return room


async def joined_and_whole(live: Live, room_id: RoomId, user_id: UserId) -> Room:
    """The room, of which the user is a joined member, with its other members.

    Raises: M_FORBIDDEN; M_UNKNOWN with 503 when they do not come in time.
    """
    return await until_whole(live, await live.require_joined(room_id, user_id))
