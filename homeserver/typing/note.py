"""Noting who types: for our users and for those of other servers."""

import structlog

from federation.ids import UserId
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.live.live import Live
from homeserver.live.room import Room
from homeserver.typing import store
from homeserver.typing.store import Typing

log = structlog.get_logger(__name__)


async def note_typing(
    live: Live, room: Room, user_id: UserId, timeout_ms: int | None
) -> None:
    """Note that a user types for so long, or has stopped when it is None.

    Nothing is noted while the server has more to write than it can.
    """
    item = Typing(room.nid, user_id, timeout_ms)
    change = Change(Kind.TYPING, room_nid=room.nid, user_id=user_id)
    try:
        await live.commit(store.put, item, change)
    except Overloaded:
        log.info("typing dropped", room_id=room.room_id)
