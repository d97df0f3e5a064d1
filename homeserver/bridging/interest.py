"""What interests a service: compiled, and remembered for each room.

Spec: application-service-api#registration
"""

from collections.abc import Collection, Mapping
from typing import Final

from federation.ids import RoomId, UserId
from homeserver.appservices.registration import Service
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.room import Room, RoomDelta

MEMBER: Final = "m.room.member"
_BYTES: Final = 16 * MIB
_ROOM: Final = 300  # bytes, roughly; and of each member
_MEMBER: Final = 70


class Interest:
    """One service's interest, as one process follows it."""

    def __init__(self, service: Service, db: Database, live: Live) -> None:
        self.service = service
        self._db = db
        self._live = live
        # The joined users of the service in rooms that have been asked for.
        self._members: LruCache[int, set[UserId]] = LruCache(
            "services' users in rooms",
            _BYTES,
            lambda members: _ROOM + _MEMBER * len(members),
        )

    def forget(self) -> None:
        """Look at everything anew."""
        self._members.clear()

    def members(self, room: Room) -> Collection[UserId]:
        """The service's users who are joined now."""
        found = self._members.get(room.nid)
        if found is None:
            found = set(filter(self.service.is_user, room.joined_local))
            self._members.put(room.nid, found)
        return found

    def follow(self, delta: RoomDelta) -> None:
        """Note who came and went."""
        found = self._members.peek(delta.room_nid) if delta.members else None
        if found is None:
            return
        for user_id, member in delta.members.items():
            if member.membership == "join" and self.service.is_user(user_id):
                found.add(user_id)
            else:
                found.discard(user_id)
        self._members.weigh(delta.room_nid)

    # ── Quickly, without asking the database ─────────────────────────────────────

    def may_want(self, delta: RoomDelta, room: Room | None) -> bool:
        """False only when nothing of the commit interests the service."""
        if room is None or self.may_want_room(room):
            return True
        is_user = self.service.is_user
        return any(map(is_user, delta.members)) or any(
            is_user(event.pdu.sender) for event in delta.events
        )

    def may_want_room(self, room: Room | None) -> bool:
        """False only when the room does not interest the service now."""
        if room is None or self.service.has_aliases:
            return True
        return self.service.is_room(room.room_id) or bool(self.members(room))

    # ── For certain ──────────────────────────────────────────────────────────────

    async def aliased(self, rooms: Collection[Room]) -> set[RoomId]:
        """Those of the rooms that have an alias in the service's namespace."""
        if not self.service.has_aliases or not rooms:
            return set()
        async with self._db.read() as tx:
            rows = await tx.fetch(
                "SELECT room_id, alias FROM room_aliases WHERE room_id = ANY($1)",
                [room.room_id for room in rooms],
            )
        return {row["room_id"] for row in rows if self.service.is_alias(row["alias"])}

    async def rooms(self, rooms: Mapping[int, Room]) -> set[int]:
        """Those of the rooms that interest the service now."""
        aliased = await self.aliased(rooms.values())
        return {
            nid
            for nid, room in rooms.items()
            if room.room_id in aliased
            or self.service.is_room(room.room_id)
            or self.members(room)
        }

    async def wants(
        self, event: StoredEvent, room: Room, aliased: Collection[RoomId]
    ) -> bool:
        """Whether the service is told of this event."""
        service, pdu = self.service, event.pdu
        if service.is_user(pdu.sender):
            return True
        if pdu.type == MEMBER and service.is_user(pdu.state_key or ""):
            return True
        if room.room_id in aliased or service.is_room(room.room_id):
            return True
        return await self._had_member(event, room)

    async def _had_member(self, event: StoredEvent, room: Room) -> bool:
        """Whether a user of the service was joined when the event came."""
        position = event.position or 0
        for user_id in self.members(room):
            member = room.members.get(user_id)
            if member is not None and member.position <= position:
                return True
        async with self._db.read() as tx:
            rows = await tx.fetch(
                """
                SELECT user_id FROM memberships
                 WHERE room_nid = $1 AND local AND position > $2
                """,
                room.nid,
                position,
            )
        moved = [r["user_id"] for r in rows if self.service.is_user(r["user_id"])]
        root = event.state_after
        if not moved or root is None:
            return bool(moved)
        keys = [(MEMBER, user_id) for user_id in moved]
        nids = await self._live.states.get(root, keys)
        events = await self._live.events.by_nids(nids.values())
        return any(each.pdu.membership == "join" for each in events.values())
