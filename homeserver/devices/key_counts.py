"""How many keys each device has left, which every sync tells: kept in memory.

Laws. What is remembered of a user's devices is dropped by each change of their keys, in
every process. What was read while such a change went by is used once, not remembered.
"""

from typing import Final
from weakref import WeakKeyDictionary

from federation.ids import DeviceId, UserId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.devices.store import keys
from homeserver.devices.store.keys import DeviceCounts
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live

_BYTES: Final = 24 * MIB
_USER: Final = 300  # bytes, roughly; and of each device
_DEVICE: Final = 700


class KeyCounts:
    """What one process knows of devices' keys."""

    def __init__(self, db: Database, live: Live) -> None:
        self._db = db
        self._known: LruCache[str, dict[DeviceId, DeviceCounts]] = LruCache(
            "numbers of keys", _BYTES, lambda devices: _USER + _DEVICE * len(devices)
        )
        self._changes = 0
        for kind in (Kind.DEVICE_KEYS, Kind.DEVICE_LIST, Kind.TOKENS):
            live.on_change(kind, self._forget)
        live.on_reset(self._forget_all)

    async def of(self, user_id: UserId, device_id: DeviceId) -> DeviceCounts:
        """The counts of a device."""
        found = (self._known.get(user_id) or {}).get(device_id)
        if found is not None:
            return found
        changes = self._changes
        async with self._db.snapshot() as tx:
            found = await keys.device_counts(tx, user_id, device_id)
        if changes == self._changes:
            of_user = self._known.get(user_id)
            if of_user is None:
                of_user = {}
                self._known.put(user_id, of_user)
            of_user[device_id] = found
            self._known.weigh(user_id)
        return found

    def _forget(self, _position: int, change: Change) -> None:
        self._changes += 1
        self._known.pop(change.user_id or "")

    def _forget_all(self) -> None:
        self._changes += 1
        self._known.clear()


_of_live: "WeakKeyDictionary[Live, KeyCounts]" = WeakKeyDictionary()


def key_counts(db: Database, live: Live) -> KeyCounts:
    """The counts that this process keeps."""
    found = _of_live.get(live)
    if found is None:
        found = _of_live[live] = KeyCounts(db, live)
    return found
