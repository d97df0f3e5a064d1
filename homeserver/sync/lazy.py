"""Which member events a device has got, so that lazy loading spares them.

What was sent counts only once the client comes back with the token of that answer, so
an answer that was lost is simply sent again. All of it may be forgotten at any time.

Spec: client-server-api#lazy-loading-room-members
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from homeserver.bounded import MIB, LruCache

_BYTES: Final = 48 * MIB
_DEVICE: Final = 1000  # bytes, roughly; and of each member
_MEMBER: Final = 220
_MAX_SENT: Final = 5_000  # member events remembered for one device


@dataclass(slots=True)
class SentMembers:
    """One device's: (room, user) to the member event that it has."""

    confirmed: dict[tuple[int, str], int] = field(default_factory=dict)
    pending: dict[int, dict[tuple[int, str], int]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    @property
    def cost(self) -> int:
        """Bytes in memory, roughly."""
        members = len(self.confirmed) + sum(map(len, self.pending.values()))
        return _DEVICE + _MEMBER * members

    def confirm(self, since: int | None) -> None:
        """The client has the answer whose `next_batch` this is, and no other."""
        if since is None:
            self.confirmed.clear()
        else:
            self.confirmed.update(self.pending.get(since, {}))
        self.pending.clear()
        if len(self.confirmed) > _MAX_SENT:
            self.confirmed.clear()

    def has(self, room_nid: int, user_id: str, event_nid: int) -> bool:
        """Whether the device has that member event for sure."""
        return self.confirmed.get((room_nid, user_id)) == event_nid

    def note(self, upto: int, room_nid: int, user_id: str, event_nid: int) -> None:
        """It is sent in the answer whose token is `upto`."""
        sent = self.pending[upto]
        if len(sent) < _MAX_SENT:
            sent[room_nid, user_id] = event_nid


class LazyMembers:
    """What every device of this process has."""

    def __init__(self) -> None:
        self._devices: LruCache[tuple[str | None, ...], SentMembers] = LruCache(
            "members sent", _BYTES, lambda sent: sent.cost
        )

    def of(self, *key: str | None) -> SentMembers:
        """The device's, or what else the key names."""
        sent = self._devices.get(key)
        if sent is None:
            sent = SentMembers()
            self._devices.put(key, sent)
        else:
            self._devices.weigh(key)  # of what came the last time
        return sent
