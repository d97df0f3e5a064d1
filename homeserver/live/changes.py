"""What can happen at a position, and what a feature hands to the committer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import Any, Generic, TypeVar

from homeserver.db.pool import Tx

Item = TypeVar("Item")


@unique
class Kind(IntEnum):
    """The kinds in `changes.kind`; numbers are stored, never reuse one."""

    EVENT = 1  # room_nid, ref: event_nid
    RECEIPT = 2  # room_nid, user_id
    TYPING = 3  # room_nid, user_id
    ACCOUNT_DATA = 4  # user_id, room_nid (None: not of a room)
    TOKENS = 5  # user_id: devices or access tokens went away
    FORGOTTEN = 6  # user_id, room_nid
    REDACTED = 7  # room_nid, ref: event_nid of what was redacted
    NOTHING = 8  # a position that was given out and not used
    # room_nid, user_id, ref: event_nid. A membership that no event of the room's own
    # timeline gave: an invite to, a knock on, or a refusal of a room we are not in.
    MEMBERSHIP = 9
    # room_nid, ref: event_nid of an outlier that became history; None: others did.
    BACKFILLED = 10
    STATE = 11  # room_nid: its state changed by no event, so it takes a position
    DEVICE_KEYS = 20  # user_id: a device's one-time or fallback keys
    TO_DEVICE = 21  # messages to devices; for whom, `Reach` says
    DEVICE_LIST = 22  # user_id (anybody's): devices, their keys, cross-signing keys
    PUSHERS = 30  # user_id
    THREADS = 32  # user_id, room_nid: a thread that the user follows, or no longer
    STICKY = 31  # room_nid, ref: event_nid of a sticky event that was admitted late
    APPSERVICES = 33  # a registration of an application service
    # user_id (anybody's); `Reach` has the rooms where it is seen.
    PRESENCE = 45
    PROFILE = 46
    DEACTIVATED = 47  # user_id


@dataclass(slots=True)
class Reach:
    """Whom a change concerns besides what its columns say.

    The store function fills it while it writes; other processes read it again.
    """

    users: set[str] = field(default_factory=set)  # ours, with messages to devices
    rooms: set[int] = field(default_factory=set)  # of the user who changed
    servers: set[str] = field(default_factory=set)  # with an EDU at this position


@dataclass(frozen=True, slots=True)
class Change:
    """One row of `changes`: it takes one position."""

    kind: Kind
    room_nid: int | None = None
    user_id: str | None = None
    ref: int | None = None
    # Of MEMBERSHIP: which it is. Not a column, other processes look at the event.
    membership: str | None = None
    # Of TO_DEVICE, DEVICE_LIST and TOKENS, which may change a device list, and of
    # PRESENCE and PROFILE. No column.
    reach: Reach | None = None


@dataclass(frozen=True, slots=True)
class Positioned(Generic[Item]):
    """An item with the position that the committer gave it."""

    position: int
    item: Item


# A store function that writes a batch of items at their positions, in few statements.
StoreFunction = Callable[[Tx, Sequence[Positioned[Any]]], Awaitable[None]]
