"""What lists ask about rooms and about the user's own data, remembered.

All of it can be read again at any time. What events change is forgotten as they come;
a read under way meanwhile is used once and not kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import RoomId, UserId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database, Tx
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.live.room import Member, Room, RoomDelta
from homeserver.sync.left import pending_section, read_stripped
from homeserver.sync.sliding.required import MEMBER

# Events that are somebody doing something, in the order of the proposal; the last two
# are what clients send before the names are stable.
BUMPS: Final = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
    "org.matrix.msc3381.poll.start",
    "org.matrix.msc3672.beacon_info",
)
_NAME: Final = "m.room.name"
_TYPES: Final = ("m.room.create", "m.room.encryption")
_KEYS: Final = frozenset((event_type, "") for event_type in (*_TYPES, _NAME))
# Bytes, and what each takes, roughly.
_ROOMS: Final = 24 * MIB
_ROOM_COST: Final = 250
_ROOM_ID_COST: Final = 100
_BUMP_COST: Final = 32
_USERS: Final = 16 * MIB
_USER_COST: Final = 800
_TAG_COST: Final = 300
_INVITES: Final = 16 * MIB
_INVITE_COST: Final = 200
_EVENT_COST: Final = 1500
_LEAVES: Final = 16 * MIB
_MOST_STEPS: Final = 20  # back through memberships


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What filters ask about a room. Its name is known only when it `is_named`."""

    room_type: str | None = None
    is_encrypted: bool = False
    name: str | None = None
    is_named: bool = True


@dataclass(frozen=True, slots=True)
class Own:
    """What a user says of rooms: direct chats by room ID, tags by room number."""

    direct: frozenset[str] = frozenset()
    tags: Mapping[int, frozenset[str]] = field(default_factory=dict)


class Facts:
    """Of one process: rooms, users' own data, and why users are out of rooms."""

    def __init__(self, db: Database, live: Live) -> None:
        self._db = db
        self._live = live
        self._rooms: LruCache[int, RoomFacts] = LruCache(
            "sliding facts of rooms", _ROOMS, _ROOM_COST
        )
        self._room_ids: LruCache[int, RoomId] = LruCache(  # never change
            "sliding room IDs", _ROOMS, _ROOM_ID_COST
        )
        self._bumps: LruCache[int, int] = LruCache("sliding bumps", _ROOMS, _BUMP_COST)
        self._own: LruCache[str, Own] = LruCache(
            "sliding tags",
            _USERS,
            lambda own: _USER_COST + _TAG_COST * (len(own.direct) + len(own.tags)),
        )
        # By the number of the member event; all of these never change.
        self._pending: LruCache[int, list[JsonObject]] = LruCache(
            "sliding invites",
            _INVITES,
            lambda events: _INVITE_COST + _EVENT_COST * len(events),
        )
        self._removed: LruCache[int, bool] = LruCache("sliding leaves", _LEAVES, 32)
        self._changes = 0
        live.on_events(self._on_events)
        live.on_change(Kind.ACCOUNT_DATA, self._on_account_data)
        live.on_change(Kind.REDACTED, self._on_redacted)

    # ── Rooms ────────────────────────────────────────────────────────────────────

    async def of_rooms(
        self, user_id: UserId, members: Mapping[int, Member], *, named: bool
    ) -> dict[int, RoomFacts]:
        """The facts of these rooms of a user; `named`: also what they are called."""
        found: dict[int, RoomFacts] = {}
        missing: list[int] = []
        for nid in members:
            facts = self._rooms.get(nid)
            if facts is None or (named and not facts.is_named):
                missing.append(nid)
            else:
                found[nid] = facts
        if missing:
            changes = self._changes
            read = await self._read_rooms(missing, named=named)
            if changes == self._changes:
                for nid, facts in read.items():
                    self._rooms.put(nid, facts)
            found.update(read)
        outside = {
            nid: member
            for nid, member in members.items()
            if nid not in found and member.membership in {"invite", "knock"}
        }
        if outside:
            found.update(await self._facts_outside(user_id, outside))
        return found

    async def _read_rooms(
        self, nids: list[int], *, named: bool
    ) -> dict[int, RoomFacts]:
        """The facts of rooms whose state is here."""
        async with self._db.read() as tx:
            rows = await _read_naming(tx, nids, named=named)
        wanted = {event_nid for _, _, event_nid in rows if event_nid is not None}
        events = await self._live.events.by_nids(wanted)
        contents: dict[int, dict[str, JsonObject]] = {}
        for room_nid, event_type, event_nid in rows:
            event = None if event_nid is None else events.get(event_nid)
            content = {} if event is None else event.shown.content
            contents.setdefault(room_nid, {})[event_type] = content
        return {
            nid: _facts(of_room, is_named=named) for nid, of_room in contents.items()
        }

    async def _facts_outside(
        self, user_id: UserId, members: Mapping[int, Member]
    ) -> dict[int, RoomFacts]:
        """The facts of rooms of which only an invite or a knock is here."""
        rooms = await self._live.rooms(members)
        shown = await self.pending(user_id, members, rooms)
        found = {}
        for nid, events in shown.items():
            contents = {
                str(event.get("type")): content
                for event in events
                if isinstance(content := event.get("content"), dict)
            }
            found[nid] = _facts(contents)
        return found

    async def pending(
        self, user_id: UserId, members: Mapping[int, Member], rooms: Mapping[int, Room]
    ) -> dict[int, list[JsonObject]]:
        """The stripped state of rooms that a user is invited to or knocks on."""
        found: dict[int, list[JsonObject]] = {}
        missing: list[int] = []
        for nid, member in members.items():
            shown = self._pending.get(member.event_nid)
            if shown is None:
                missing.append(nid)
            else:
                found[nid] = shown
        if missing:
            async with self._db.read() as tx:
                given = await read_stripped(tx, user_id, missing)
            for nid in missing:
                if nid not in rooms:
                    continue
                member, of_room = members[nid], given.get(nid, ())
                section = await pending_section(self._live, rooms[nid], member, of_room)
                if of_room:  # a room that is here may still change
                    self._pending.put(member.event_nid, section)
                found[nid] = section
        return found

    async def room_ids(self, nids: Iterable[int]) -> dict[int, RoomId]:
        """The IDs of these rooms."""
        found: dict[int, RoomId] = {}
        missing: list[int] = []
        for nid in nids:
            room_id = self._room_ids.get(nid)
            if room_id is None:
                missing.append(nid)
            else:
                found[nid] = room_id
        if missing:
            async with self._db.read() as tx:
                rows = await tx.fetch(
                    "SELECT room_nid, room_id FROM rooms WHERE room_nid = ANY($1)",
                    missing,
                )
            for nid, room_id in rows:
                found[nid] = RoomId(room_id)
                self._room_ids.put(nid, found[nid])
        return found

    async def bumps(self, nids: Iterable[int]) -> dict[int, int]:
        """When somebody last did something in these rooms."""
        found: dict[int, int] = {}
        missing: list[int] = []
        for nid in nids:
            at = self._bumps.get(nid)
            if at is None:
                missing.append(nid)
            else:
                found[nid] = at
        if missing:
            async with self._db.read() as tx:
                read = await _read_bumps(tx, missing)
            for nid, at in read.items():
                known = self._bumps.peek(nid) or 0
                found[nid] = max(at, known)
                self._bumps.put(nid, found[nid])
        return found

    # ── Users ────────────────────────────────────────────────────────────────────

    async def own(self, user_id: UserId) -> Own:
        """What the user says of rooms."""
        own = self._own.get(user_id)
        if own is None:
            changes = self._changes
            async with self._db.read() as tx:
                own = await _read_own(tx, user_id)
            if changes == self._changes:
                self._own.put(user_id, own)
        return own

    async def removed(self, members: Mapping[int, Member]) -> set[int]:
        """Of rooms that a user is out of, those that somebody put them out of.

        Who was banned, or whose invite was taken back, without ever having been in the
        room, does not count.
        """
        missing = [
            member.event_nid
            for member in members.values()
            if member.event_nid not in self._removed
        ]
        await self._live.events.by_nids(missing)
        for event_nid in missing:
            self._removed.put(event_nid, await self._was_removed(event_nid))
        return {
            nid
            for nid, member in members.items()
            if self._removed.get(member.event_nid)
        }

    async def _was_removed(self, event_nid: int) -> bool:
        event = await self._live.events.by_nid(event_nid)
        if event is None or event.pdu.sender == event.pdu.state_key:
            return False
        key = (MEMBER, event.pdu.state_key or "")
        for _ in range(_MOST_STEPS):
            if event is None or not event.state_before:
                return False
            nid = (await self._live.states.get(event.state_before, (key,))).get(key)
            event = None if nid is None else await self._live.events.by_nid(nid)
            if event is not None and event.pdu.membership not in {"leave", "ban"}:
                return event.pdu.membership == "join"
        return False

    # ── Forgetting ───────────────────────────────────────────────────────────────

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        if delta.is_partial or not _KEYS.isdisjoint(delta.state):
            self._changes += 1
            self._rooms.pop(delta.room_nid)
        for event in delta.events:
            if event.pdu.type in BUMPS and event.position is not None:
                known = self._bumps.peek(delta.room_nid) or 0
                self._bumps.put(delta.room_nid, max(known, event.position))

    def _on_redacted(self, _position: int, change: Change) -> None:
        self._changes += 1
        self._rooms.pop(change.room_nid or 0)

    def _on_account_data(self, _position: int, change: Change) -> None:
        self._changes += 1
        self._own.pop(change.user_id or "")

    def forget_all(self) -> None:
        """Changes were missed: read everything again that may change."""
        self._changes += 1
        self._rooms.clear()
        self._bumps.clear()
        self._own.clear()


def _facts(contents: Mapping[str, JsonObject], *, is_named: bool = True) -> RoomFacts:
    room_type = contents.get("m.room.create", {}).get("type")
    name = contents.get(_NAME, {}).get("name")
    return RoomFacts(
        room_type=room_type if isinstance(room_type, str) else None,
        is_encrypted="m.room.encryption" in contents,
        name=name if isinstance(name, str) and name else None,
        is_named=is_named,
    )


async def _read_naming(
    tx: Tx, nids: list[int], *, named: bool
) -> list[tuple[int, str, int | None]]:
    """State that facts come from: room, type, and the event if it has to be read.

    Of encryption it is enough that it is there, and most creations name no type: those
    have the word once, as events do. (The text is canonical, and content comes first.)
    """
    rows = await tx.fetch(
        """
        SELECT c.room_nid, k.type,
               CASE WHEN k.type = 'm.room.name' OR k.type = 'm.room.create' AND
                    (SELECT json LIKE '%"type":%"type":%' FROM event_json
                      WHERE event_nid = c.event_nid) THEN c.event_nid END
          FROM current_state c JOIN state_keys k USING (key_nid)
         WHERE c.room_nid = ANY($1) AND k.type = ANY($2) AND k.state_key = ''
        """,
        nids,
        (*_TYPES, _NAME) if named else _TYPES,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def _read_bumps(tx: Tx, nids: list[int]) -> dict[int, int]:
    rows = await tx.fetch(
        """
        SELECT wanted.room_nid, e.position
          FROM unnest($1::bigint[]) AS wanted (room_nid)
         CROSS JOIN LATERAL (
                SELECT position FROM events
                 WHERE room_nid = wanted.room_nid AND position > 0
                   AND type = ANY($2)
                 ORDER BY position DESC LIMIT 1
               ) AS e
        """,
        nids,
        BUMPS,
    )
    return {row[0]: row[1] for row in rows}


async def _read_own(tx: Tx, user_id: UserId) -> Own:
    rows = await tx.fetch(
        """
        SELECT room_nid, content FROM account_data
         WHERE user_id = $1
           AND ((room_nid = 0 AND type = 'm.direct')
                OR (room_nid <> 0 AND type = 'm.tag'))
        """,
        user_id,
    )
    direct: set[str] = set()
    tags: dict[int, frozenset[str]] = {}
    for room_nid, text in rows:
        content: JsonObject = orjson.loads(text)
        if room_nid:
            of_room = content.get("tags")
            if isinstance(of_room, dict) and of_room:
                tags[room_nid] = frozenset(of_room)
            continue
        for rooms in content.values():
            if isinstance(rooms, list):
                direct.update(room for room in rooms if isinstance(room, str))
    return Own(frozenset(direct), tags)
