"""The messages that wait for a device, as its syncs get them.

A sync's token says up to where the device has got messages; those are deleted. While
nothing waits for a user, and nothing has come since a look at the device's empty inbox,
the database is not asked.

Spec: client-server-api#send-to-device-messaging
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from federation.ids import DeviceId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.devices.store import to_device as store
from homeserver.devices.store.to_device import Waiting
from homeserver.live.live import Live
from homeserver.live.room import User

_DEVICES: Final = 32 * MIB
_DEVICE: Final = 200  # bytes, roughly
# Where each device's inbox was found empty, for each server of this process.
_empty: "WeakKeyDictionary[Live, LruCache[tuple[str, str], int]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Inbox:
    """Messages for one sync; `upto` is how far they reach when more wait."""

    messages: Sequence[Waiting] = ()
    upto: int | None = None


async def read(
    db: Database,
    live: Live,
    user: User,
    device_id: DeviceId,
    acknowledged: int,
    upto: int,
) -> Inbox:
    """Delete what was acknowledged; the next messages up to a position."""
    if not user.to_device:
        return Inbox()
    empty = _empty.get(live)
    if empty is None:
        empty = _empty[live] = LruCache("empty inboxes", _DEVICES, _DEVICE)
    key = (user.user_id, device_id)
    if user.to_device <= (empty.get(key) or 0):
        return Inbox()
    async with db.read() as tx:
        waiting = await store.take(tx, user.user_id, device_id, acknowledged, upto)
    if not waiting:
        empty.put(key, upto)
    return portion(waiting)


def portion(waiting: Sequence[Waiting]) -> Inbox:
    """As many of what waits as come at once."""
    if len(waiting) <= store.MAX_PER_SYNC and not _is_cut(waiting):
        return Inbox(waiting)
    kept = waiting[: store.MAX_PER_SYNC]
    return Inbox(kept, kept[-1].position)


def _is_cut(waiting: Sequence[Waiting]) -> bool:
    """Whether there may be more, left out for their size."""
    return sum(len(each.content) for each in waiting) > store.MAX_BYTES_PER_SYNC
