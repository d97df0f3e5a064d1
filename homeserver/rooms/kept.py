"""Which events a filter keeps, also by what relates to them: that takes a look.

Spec: client-server-api#filtering; MSC3440, MSC3874
"""

from collections.abc import Sequence

from homeserver.db.pool import Database, Tx
from homeserver.db.rows import to_text
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter
from homeserver.events.stored import StoredEvent


async def kept_events(
    db: Database, wanted: RoomEventFilter, events: Sequence[StoredEvent]
) -> list[StoredEvent]:
    """Those of the events that the filter keeps, in order."""
    if wanted.keeps_all:
        kept = list(events)
    else:
        kept = [event for event in events if wanted.keeps_event(event.shown)]
    if not kept or not wanted.asks_for_children:
        return kept
    async with db.read() as tx:
        parents = await _read_parents(tx, wanted, kept)
    return [event for event in kept if (event.room_nid, event.event_id) in parents]


async def kept_sights(
    db: Database, wanted: RoomEventFilter, sights: Sequence[Sight]
) -> list[Sight]:
    """The same for events as a reader sees them."""
    kept = await kept_events(db, wanted, [sight.event for sight in sights])
    if len(kept) == len(sights):
        return list(sights)
    nids = {event.nid for event in kept}
    return [sight for sight in sights if sight.event.nid in nids]


async def _read_parents(
    tx: Tx, wanted: RoomEventFilter, events: Sequence[StoredEvent]
) -> set[tuple[int, str]]:
    """(room, event ID) of those that have a child as the filter wants it."""
    senders, rel_types = wanted.related_by_senders, wanted.related_by_rel_types
    rows = await tx.fetch(
        """
        SELECT DISTINCT room_nid, relates_to FROM events
         WHERE relates_to = ANY($1)
           AND ($2::text[] IS NULL OR sender = ANY($2))
           AND ($3::text[] IS NULL OR rel_type = ANY($3))
           AND position IS NOT NULL AND redacted_by IS NULL
        """,
        [event.event_id for event in events],
        None if senders is None else list(senders),
        None if rel_types is None else list(map(to_text, rel_types)),
    )
    return {(row[0], row[1]) for row in rows}
