"""EDUs to the features that they are for.

Spec: server-server-api#edus, server-server-api#server-access-control-lists-acls
"""

import itertools
from collections.abc import Sequence
from typing import Final

import structlog

from federation.canonical_json import JsonObject
from federation.edu import (
    DEVICE_LIST_UPDATE,
    DIRECT_TO_DEVICE,
    PRESENCE,
    RECEIPT,
    SIGNING_KEY_UPDATE,
    TYPING,
    Edu,
)
from federation.errors import ProtocolError
from federation.ids import ServerName
from homeserver.context import Context
from homeserver.db.errors import DatabaseUnavailable
from homeserver.devices import edus as devices
from homeserver.presence import edus as presence
from homeserver.receipts import edus as receipts
from homeserver.rooms import acl
from homeserver.typing import edus as typing

_OF_USERS: Final = {
    PRESENCE: presence.receive,
    DIRECT_TO_DEVICE: devices.receive_message,
    DEVICE_LIST_UPDATE: devices.receive_device_list_update,
    SIGNING_KEY_UPDATE: devices.receive_signing_key_update,
}

# Servers send receipts room by room; nobody needs more in one EDU.
MOST_ROOMS: Final = 200

log = structlog.get_logger(__name__)


class Admission:
    """In which rooms a server may speak, found out once for a whole transaction."""

    def __init__(self, ctx: Context, origin: ServerName) -> None:
        self._ctx = ctx
        self._origin = origin
        self._found: dict[str, bool] = {}
        self._is_up_to_date = False

    async def admits(self, room_id: object) -> bool:
        """Whether the server is in that room of ours, and its ACL admits it."""
        if not isinstance(room_id, str):
            return False
        if room_id not in self._found:
            self._found[room_id] = await self._admits(room_id)
        return self._found[room_id]

    async def _admits(self, room_id: str) -> bool:
        live, origin = self._ctx.live, self._origin
        room = await live.room(room_id)
        if (room is None or origin not in room.servers) and not self._is_up_to_date:
            await live.follower.pull()  # another process may be a moment ahead
            self._is_up_to_date = True
            room = await live.room(room_id)
        if room is None or origin not in room.servers:
            return False
        return await acl.is_allowed(live, room, origin)


async def receive_edus(ctx: Context, origin: ServerName, edus: Sequence[Edu]) -> None:
    """Take EDUs in their order. One that is wrong is left out and spoils no other.

    Raises: DatabaseUnavailable, so that the origin tries again.
    """
    admission = Admission(ctx, origin)
    for edu in edus:
        try:
            await _receive(ctx, origin, admission, edu)
        except ProtocolError as error:
            log.info("EDU dropped", type=edu.edu_type, origin=origin, reason=str(error))
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("EDU failed", type=edu.edu_type, origin=origin)


async def _receive(
    ctx: Context, origin: ServerName, admission: Admission, edu: Edu
) -> None:
    content = edu.content
    if edu.edu_type == TYPING:
        if await admission.admits(content.get("room_id")):
            await typing.receive(ctx, origin, content)
    elif edu.edu_type == RECEIPT:
        admitted: JsonObject = {
            room_id: by_type
            for room_id, by_type in itertools.islice(content.items(), MOST_ROOMS)
            if await admission.admits(room_id)
        }
        await receipts.receive(ctx, origin, admitted)
    elif edu.edu_type in _OF_USERS:
        await _OF_USERS[edu.edu_type](ctx, origin, content)
    else:
        log.debug("EDU of an unknown type", type=edu.edu_type, origin=origin)
