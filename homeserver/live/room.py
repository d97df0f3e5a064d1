"""What the live view keeps of rooms and users."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from federation.ids import RoomId, ServerName, UserId, server_of
from federation.pdu import StateKey
from federation.room_versions import RoomVersion
from homeserver.events.stored import StoredEvent

# Memberships that `Room.members` keeps; others are found through the state.
PRESENT: Final = frozenset(("join", "invite", "knock"))
RECENT_EVENTS: Final = 60
_ROOM_COST: Final = 4000  # bytes, roughly; of the room itself and of each entry
_STATE_COST: Final = 250
_MEMBER_COST: Final = 250
_MANY: Final = 100


@dataclass(frozen=True, slots=True)
class Head:
    """Where a room stands: what its next event builds on.

    `guard` is the number of the event that was written last, so no two writes ever
    leave the same; `state_root` is the current state, resolved over
    the extremities.
    """

    guard: int
    extremities: tuple[int, ...]
    state_root: int
    depth: int
    # None for a whole room. Of one whose state lacks most members still: the other
    # servers that were in it when we joined.
    partial: frozenset[ServerName] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A user's membership in a room, the event that says so, and since when."""

    membership: str
    event_nid: int
    position: int
    forgotten: bool = False


@dataclass(slots=True)
class Pulse:
    """The last positions at which a room moved, for each thing that can move."""

    events: int = 0
    receipts: int = 0
    typing: int = 0
    members: int = 0  # with events: when a membership changed
    devices: int = 0  # the device list of a member
    people: int = 0  # presence or profile of a member; few clients want these

    @property
    def last(self) -> int:
        """The last position at which anything moved that every client wants."""
        return max(self.events, self.receipts, self.typing, self.devices)


@dataclass(slots=True)
class RoomDelta:
    """What one commit meant for a room: positions `first` to `last`."""

    room_nid: int
    first: int
    last: int
    events: list[StoredEvent]  # in order, each at its position
    head: Head
    state: dict[StateKey, int | None]  # changed entries; None: gone
    members: dict[UserId, Member]
    # Another process's commit to a room that was not at hand: `state` is not known.
    is_partial: bool = False
    # The events' positions and numbers: all that a room that is loaded later needs.
    placed: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.placed:
            self.placed = tuple(
                (event.position, event.nid)
                for event in self.events
                if event.position is not None
            )

    def for_log(self) -> "RoomDelta":
        """The same without the events, which take most of the memory."""
        return replace(self, events=[])


@dataclass(slots=True, weakref_slot=True, eq=False)
class Room:
    """A room as of `position`. Only the view changes it."""

    nid: int
    room_id: RoomId
    version: RoomVersion
    position: int
    head: Head
    state: dict[StateKey, int]
    members: dict[UserId, Member]
    our_name: ServerName
    # (position, event_nid) of the newest events: all of those after `recent_from`.
    recent: deque[tuple[int, int]] = field(default_factory=deque)
    recent_from: int = 0
    joined: int = 0
    joined_local: set[UserId] = field(default_factory=set)
    servers: Counter[ServerName] = field(default_factory=Counter)
    waiters: set[asyncio.Future[None]] = field(default_factory=set)  # for all members

    def __post_init__(self) -> None:
        for user_id, member in self.members.items():
            if member.membership == "join":
                self._count(user_id, 1)
        self._count_servers(self.head.partial or (), 1)

    @property
    def cost(self) -> int:
        """Bytes in memory, roughly."""
        return (
            _ROOM_COST
            + _STATE_COST * len(self.state)
            + _MEMBER_COST * len(self.members)
        )

    @property
    def size(self) -> int:
        """How many are joined; while not all of them are known, at least many.

        Who hands over a room leaves out the members of large ones only.
        """
        return self.joined if self.head.partial is None else max(self.joined, _MANY)

    def is_joined(self, user_id: str) -> bool:
        """Whether the user is joined now."""
        member = self.members.get(UserId(user_id))
        return member is not None and member.membership == "join"

    def may_be_joined(self, user_id: UserId) -> bool:
        """The same; while not all members are known, whether the user may be one."""
        if self.is_joined(user_id):
            return True
        return self.head.partial is not None and self.servers[server_of(user_id)] > 0

    @property
    def is_resident(self) -> bool:
        """Whether a user of ours is joined: whether we get the room's events."""
        return bool(self.joined_local)

    @property
    def is_partial(self) -> bool:
        """Whether its members are on their way still."""
        return self.head.partial is not None

    def apply(self, delta: RoomDelta) -> None:
        """Move forward by one commit."""
        if delta.last <= self.position:
            return
        if self.head.partial != delta.head.partial:
            self._count_servers(self.head.partial or (), -1)
            self._count_servers(delta.head.partial or (), 1)
        self.head = delta.head
        self.recent.extend(place for place in delta.placed if place[0] > self.position)
        while len(self.recent) > RECENT_EVENTS:
            self.recent_from = self.recent.popleft()[0]
        for key, nid in delta.state.items():
            if nid is None:
                self.state.pop(key, None)
            else:
                self.state[key] = nid
        for user_id, member in delta.members.items():
            self._set_member(user_id, member)
        self.position = delta.last
        if not self.is_partial:
            self._wake()

    async def wait_until_whole(self, timeout_s: float) -> None:
        """Return when the room has its members, or after a while."""
        if not self.is_partial:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass
        finally:
            self.waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def set_aside_member(self, user_id: UserId, member: Member, position: int) -> None:
        """Note a membership that no event of the room's own timeline gave.

        `position` of the room stays: deltas that begin before may follow.
        """
        if position > self.position:
            self._set_member(user_id, member)

    def _set_member(self, user_id: UserId, member: Member) -> None:
        if self.is_joined(user_id):
            self._count(user_id, -1)
        if member.membership == "join":
            self._count(user_id, 1)
        if member.membership in PRESENT:
            self.members[user_id] = member
        else:
            self.members.pop(user_id, None)

    def _count(self, user_id: UserId, by: int) -> None:
        server = server_of(user_id)
        self.joined += by
        self._count_servers((server,), by)
        if server != self.our_name:
            return
        if by > 0:
            self.joined_local.add(user_id)
        else:
            self.joined_local.discard(user_id)

    def _count_servers(self, servers: Iterable[ServerName], by: int) -> None:
        for server in servers:
            self.servers[server] += by
            if not self.servers[server]:
                del self.servers[server]


@dataclass(slots=True, weakref_slot=True, eq=False)
class User:
    """A local user's rooms, every membership included, as of `position`."""

    user_id: UserId
    position: int
    rooms: dict[int, Member]
    # Last positions of what is the user's own.
    moved: int = 0  # memberships, account data, receipts of theirs …: anything
    to_device: int = 0  # messages to devices of theirs
    people: int = 0  # their own presence or profile

    @property
    def joined(self) -> list[int]:
        """The numbers of the rooms that the user is in."""
        return [nid for nid, each in self.rooms.items() if each.membership == "join"]

    @property
    def cost(self) -> int:
        """Bytes in memory, roughly."""
        return _ROOM_COST + _MEMBER_COST * len(self.rooms)
