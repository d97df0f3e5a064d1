"""Which events have children that are told with them: known without asking.

For each room that was looked at, the hashes of the IDs of such parents, kept true by
what is stored. A hash that two IDs share, and a child that was redacted, cost a query
and nothing else. Of a room with very many parents it is only known that there are many.

Spec: client-server-api#aggregations-of-child-events
"""

from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database, Tx
from homeserver.events.relations import REFERENCE, REPLACE, THREAD, relation_of
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.live.room import Room, RoomDelta

BUNDLED: Final = frozenset((REPLACE, THREAD, REFERENCE))
_MARK: Final = b'"m.relates_to"'
_KEPT: Final = 16 * MIB
_ROOM_COST: Final = 300  # bytes, roughly; and of each hash
_HASH_COST: Final = 80
# More children in a room than are read to find their parents.
_MANY: Final = 20_000


class Parents:
    """The parents of one room; `hashes` None: nearly any event may be one."""

    __slots__ = ("hashes",)

    def __init__(self, hashes: set[int] | None) -> None:
        self.hashes = hashes

    @property
    def cost(self) -> int:
        """Bytes in memory, roughly."""
        return _ROOM_COST + _HASH_COST * len(self.hashes or ())

    def may_have(self, event_id: str) -> bool:
        """Whether the event may be one."""
        return self.hashes is None or hash(event_id) in self.hashes


class Related:
    """The parents of the rooms that were looked at last, in this process."""

    def __init__(self, db: Database, live: Live) -> None:
        self._db = db
        self._rooms: LruCache[int, Parents] = LruCache(
            "events with relations", _KEPT, lambda p: p.cost
        )
        # What was stored while a room was read, by reader.
        self._noted: list[list[tuple[int, int]]] = []
        self._forgotten = 0
        live.on_events(self._on_events)
        live.on_change(Kind.BACKFILLED, self._on_backfilled)
        live.on_reset(self._on_reset)

    async def parents_among(self, events: Iterable[StoredEvent]) -> set[int]:
        """The numbers of those events that may have children to tell."""
        wanted = list(events)
        rooms = await self._of({event.room_nid for event in wanted})
        return {
            event.nid
            for event in wanted
            if event.pdu.state_key is None
            and rooms[event.room_nid].may_have(event.event_id)
        }

    async def _of(self, room_nids: Iterable[int]) -> dict[int, Parents]:
        found: dict[int, Parents] = {}
        missing: list[int] = []
        for nid in room_nids:
            known = self._rooms.get(nid)
            if known is None:
                missing.append(nid)
            else:
                found[nid] = known
        if missing:
            found.update(await self._read(missing))
        return found

    async def _read(self, room_nids: Sequence[int]) -> dict[int, Parents]:
        noted: list[tuple[int, int]] = []
        forgotten = self._forgotten
        self._noted.append(noted)
        try:
            async with self._db.read() as tx:
                hashes = await _read_parents(tx, room_nids)
        finally:
            self._noted.remove(noted)
        for nid, parent in noted:
            of_room = hashes.get(nid)
            if of_room is not None:
                of_room.add(parent)
        found = {nid: Parents(hashes.get(nid)) for nid in room_nids}
        if forgotten == self._forgotten:
            for nid, parents in found.items():
                self._rooms.put(nid, parents)
        return found

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for event in delta.events:
            if is_child(event):
                relation = relation_of(event.pdu)
                if relation is not None and relation.rel_type in BUNDLED:
                    self._note(delta.room_nid, hash(relation.event_id))

    def _note(self, room_nid: int, parent: int) -> None:
        for noted in self._noted:
            noted.append((room_nid, parent))
        parents = self._rooms.peek(room_nid)
        if parents is None or parents.hashes is None or parent in parents.hashes:
            return
        self._rooms.pop(room_nid)  # its cost is what it was
        parents.hashes.add(parent)
        if len(parents.hashes) > _MANY:
            parents.hashes = None
        self._rooms.put(room_nid, parents)

    def _on_backfilled(self, _position: int, change: Change) -> None:
        self._forgotten += 1
        if change.room_nid is not None:
            self._rooms.pop(change.room_nid)

    def _on_reset(self) -> None:
        self._forgotten += 1
        self._rooms.clear()


def is_child(event: StoredEvent) -> bool:
    """Whether it may relate to another one: a look at its text, which is at hand."""
    return _MARK in event.pdu.text


async def _read_parents(tx: Tx, room_nids: Sequence[int]) -> dict[int, set[int] | None]:
    """Hashes of the parents of each room; None for a room with too many children."""
    rows = await tx.fetch(
        """
        SELECT r.room_nid, c.relates_to, count(*) AS children
          FROM unnest($1::bigint[]) AS r (room_nid)
         CROSS JOIN LATERAL (
                SELECT relates_to FROM events
                 WHERE room_nid = r.room_nid
                   AND rel_type IN ('m.replace', 'm.thread', 'm.reference')
                   AND position IS NOT NULL AND redacted_by IS NULL
                 LIMIT $2
               ) AS c
         GROUP BY r.room_nid, c.relates_to
        """,
        room_nids,
        _MANY,
    )
    hashes: dict[int, set[int]] = {nid: set() for nid in room_nids}
    children = dict.fromkeys(room_nids, 0)
    for room_nid, relates_to, count in rows:
        hashes[room_nid].add(hash(relates_to))
        children[room_nid] += count
    return {
        nid: found if children[nid] < _MANY else None for nid, found in hashes.items()
    }


_related: "WeakKeyDictionary[Live, Related]" = WeakKeyDictionary()


def related(db: Database, live: Live) -> Related:
    """The parents that this process knows."""
    found = _related.get(live)
    if found is None:
        found = _related[live] = Related(db, live)
    return found
