"""Typing of other servers' users.

Spec: server-server-api#typing-notifications
"""

from typing import Final

from federation import edu
from federation.canonical_json import JsonObject
from federation.ids import ServerName
from homeserver.context import Context
from homeserver.typing.note import note_typing

# Other servers say when a user stops, but may be cut off before.
TIMEOUT_MS: Final = 60_000


async def receive(ctx: Context, origin: ServerName, content: JsonObject) -> None:
    """Take an `m.typing` EDU. Raises: Malformed."""
    notice = edu.parse_typing(content, origin)
    room = await ctx.live.room(notice.room_id)
    if room is None or not room.is_resident or not room.may_be_joined(notice.user_id):
        return
    timeout_ms = TIMEOUT_MS if notice.typing else None
    await note_typing(ctx.live, room, notice.user_id, timeout_ms)
