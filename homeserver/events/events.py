"""Events by number and by ID, from the cache or the database."""

import sys
from collections.abc import Iterable
from typing import Final

from federation.ids import EventId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.events import store
from homeserver.events.numbers import Numbers
from homeserver.events.stored import StoredEvent

_DEFAULT_BYTES: Final = 10 * 1024 * 1024
_IDS: Final = 10 * MIB
_ID_COST: Final = 60  # the text is the event's own, mostly
_AUTH_EDGES: Final = 16 * MIB
_EDGE_COST: Final = 40
_PAGE: Final = 20  # so many at once are wanted by somebody who reads, not who writes
_BATCH: Final = 250  # parsed at once: a few milliseconds
_IDS_AT_ONCE: Final = 2000


class Events:
    """Every stored event of this server; what was read stays while there is room."""

    def __init__(self, db: Database, capacity: int = _DEFAULT_BYTES) -> None:
        self._db = db
        self.numbers = Numbers(db, "event_nids")
        self._by_nid: LruCache[int, StoredEvent] = LruCache(
            "events", capacity, lambda event: event.cost
        )
        self._nid_of: LruCache[str, int] = LruCache("event IDs", _IDS, _ID_COST)
        self._auth_nids: LruCache[int, tuple[int, ...]] = LruCache(
            "auth events", _AUTH_EDGES, lambda nids: _EDGE_COST * (2 + len(nids))
        )
        # Counts forgotten events, so that a read under way does not bring back what
        # changed meanwhile.
        self._changes = 0

    def put(self, event: StoredEvent) -> None:
        """Keep an event that was just written or that changed."""
        self._changes += 1
        if self._by_nid.peek(event.nid) is event:
            return  # kept by whoever built it, and now it has its position
        event.pdu.pack(sys.intern)
        self._by_nid.put(event.nid, event)
        self._nid_of.put(event.event_id, event.nid)

    def forget(self, nid: int) -> None:
        """Read this event anew next time: its row changed."""
        self._changes += 1
        self._by_nid.pop(nid)
        self._auth_nids.pop(nid)

    def discard(self, event: StoredEvent) -> None:
        """Forget an event that was kept and then could not be stored."""
        self._changes += 1
        self._by_nid.pop(event.nid)
        if self._nid_of.peek(event.event_id) == event.nid:
            self._nid_of.pop(event.event_id)

    def cached(self, nid: int) -> StoredEvent | None:
        """The event when it is at hand."""
        return self._by_nid.get(nid)

    async def by_nid(self, nid: int) -> StoredEvent | None:
        """One event, or None when there is none of that number."""
        event = self._by_nid.get(nid)
        return event if event is not None else (await self.by_nids((nid,))).get(nid)

    async def by_nids(self, nids: Iterable[int]) -> dict[int, StoredEvent]:
        """Those events that exist, in the order asked."""
        wanted = list(nids)
        found: dict[int, StoredEvent] = {}
        missing: list[int] = []
        for nid in wanted:
            event = self._by_nid.get(nid)
            if event is None:
                missing.append(nid)
            else:
                found[nid] = event
        if not missing:
            return found
        for start in range(0, len(missing), _BATCH):
            found.update(await self._read(missing[start : start + _BATCH]))
        return {nid: found[nid] for nid in wanted if nid in found}

    async def _read(self, nids: list[int]) -> dict[int, StoredEvent]:
        changes = self._changes
        if len(nids) < _PAGE:
            async with self._db.read() as tx:
                events = await store.read_events(tx, nids)
        else:
            events = await self._db.read_old(lambda tx: store.read_events(tx, nids))
        for nid, event in events.items():
            event.pdu.pack(sys.intern)
            if changes == self._changes and nid not in self._by_nid:
                self._by_nid.put(nid, event)
            self._nid_of.put(event.event_id, nid)
        return events

    async def nids_of(self, event_ids: Iterable[str]) -> dict[EventId, int]:
        """The numbers of those events that we have in any form."""
        found: dict[EventId, int] = {}
        missing: list[str] = []
        for event_id in event_ids:
            nid = self._nid_of.get(event_id)
            if nid is None:
                missing.append(event_id)
            else:
                found[EventId(event_id)] = nid
        for start in range(0, len(missing), _IDS_AT_ONCE):
            async with self._db.read() as tx:
                read = await store.read_nids(tx, missing[start : start + _IDS_AT_ONCE])
            for event_id, nid in read.items():
                self._nid_of.put(event_id, nid)
            found.update(read)
        return found

    async def by_id(self, event_id: str) -> StoredEvent | None:
        """One event, outliers and rejected ones included."""
        nid = (await self.nids_of((event_id,))).get(EventId(event_id))
        return None if nid is None else await self.by_nid(nid)

    async def by_ids(self, event_ids: Iterable[str]) -> dict[EventId, StoredEvent]:
        """Those events that we have in any form."""
        nids = await self.nids_of(event_ids)
        events = await self.by_nids(nids.values())
        return {
            event_id: events[nid] for event_id, nid in nids.items() if nid in events
        }

    async def sent_by(
        self, room_nid: int, sender: str, depth: int, limit: int
    ) -> list[int]:
        """The newest events of a sender above a depth, without memberships."""
        async with self._db.read() as tx:
            return await store.read_sent(tx, room_nid, sender, depth, limit)

    async def auth_nids(self, nids: Iterable[int]) -> dict[int, tuple[int, ...]]:
        """The auth events of those events, by number."""
        found: dict[int, tuple[int, ...]] = {}
        missing: list[int] = []
        for nid in nids:
            event = self._by_nid.peek(nid)
            edges = self._auth_nids.get(nid) if event is None else event.auth_nids
            if edges is None:
                missing.append(nid)
            else:
                found[nid] = edges
        for start in range(0, len(missing), _IDS_AT_ONCE):
            async with self._db.read() as tx:
                read = await store.read_auth_nids(
                    tx, missing[start : start + _IDS_AT_ONCE]
                )
            for nid, edges in read.items():
                self._auth_nids.put(nid, edges)
            found.update(read)
        return found

    async def auth_chain(self, nids: Iterable[int]) -> set[int]:
        """Everything reachable over auth_events from those events, without them.

        Spec: rooms/v12#definitions
        """
        chain: set[int] = set()
        frontier = set(nids)
        while frontier:
            edges = await self.auth_nids(frontier)
            frontier = {nid for auth in edges.values() for nid in auth} - chain
            chain |= frontier
        return chain
