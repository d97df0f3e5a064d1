"""Who may read a room's state, and which.

Members see the current state, former members the state as they left it, and everybody
that of a room whose history the world may read.

Spec: client-server-api#get_matrixclientv3roomsroomidstate,
client-server-api#room-history-visibility
"""

from dataclasses import dataclass
from typing import Final

from federation.ids import RoomId, UserId
from federation.pdu import StateKey
from homeserver import errors
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.room import Member, Room
from homeserver.rooms.partial import until_whole
from homeserver.rooms.viewing import Reader
from homeserver.rooms.visibility import HISTORY_VISIBILITY, visibility_of

# How many changes of a former member (bans, unbans …) are looked through for the one
# with which they left.
_MAX_CHANGES: Final = 50


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may read of a room.

    `departure` is None for who may read the present, else the event by which the user
    left: they see the state that it made and nothing later.
    """

    room: Room
    reader: Reader
    departure: StoredEvent | None = None

    @property
    def upto(self) -> int | None:
        """The last position that the user may read; None: there is no bound."""
        return None if self.departure is None else self.departure.position

    async def state(self, live: Live) -> dict[StateKey, int]:
        """The whole state, as event numbers."""
        if self.departure is None:
            return dict((await until_whole(live, self.room)).state)
        return await live.states.items(self._root)

    async def state_nid(self, live: Live, key: StateKey) -> int | None:
        """The number of one event of the state."""
        if self.departure is None:
            room = self.room
            if key[0] == "m.room.member" and key not in room.state:
                room = await until_whole(live, room)
            return room.state.get(key)
        return (await live.states.get(self._root, (key,))).get(key)

    @property
    def _root(self) -> int:
        assert self.departure is not None  # noqa: S101 - both callers have asked
        return self.departure.room_state or self.departure.state_after or 0


async def access(live: Live, room_id: RoomId, user_id: UserId) -> Access:
    """What a local user may read. Raises: M_FORBIDDEN when it is nothing."""
    room = await live.room(room_id)
    found = None if room is None else await _access(live, room, user_id)
    if found is None:
        await live.follower.pull()  # another process may be a moment ahead
        room = await live.room(room_id)
        found = None if room is None else await _access(live, room, user_id)
    if found is None:
        raise errors.forbidden("You are not in this room, and never were.")
    return found


async def _access(live: Live, room: Room, user_id: UserId) -> Access | None:
    if room.is_joined(user_id):
        return Access(room, Reader(user_id, room.members[user_id]))
    member = (await live.user(user_id)).rooms.get(room.nid)
    departure = None
    if member is not None and not member.forgotten:
        departure = await _departure(live, user_id, member)
    left = None
    if departure is not None and departure.position is not None:
        left = Member("leave", departure.nid, departure.position)
    reader = Reader(user_id, left)
    if await is_world_readable(live, room):
        return Access(room, reader)
    return None if left is None else Access(room, reader, departure)


async def is_world_readable(live: Live, room: Room) -> bool:
    """Whether anybody may read what is said in the room now."""
    nid = room.state.get(HISTORY_VISIBILITY)
    event = None if nid is None else await live.events.by_nid(nid)
    return event is not None and visibility_of(event.shown) == "world_readable"


async def _departure(live: Live, user_id: UserId, member: Member) -> StoredEvent | None:
    """The event by which a former member left; None for who never was a member."""
    key = ("m.room.member", user_id)
    event = await live.events.by_nid(member.event_nid)
    for _ in range(_MAX_CHANGES):
        if event is None or event.state_before is None:
            return None
        nid = (await live.states.get(event.state_before, (key,))).get(key)
        before = None if nid is None else await live.events.by_nid(nid)
        if before is None:
            return None
        if before.pdu.membership == "join":
            return event
        event = before
    return None
