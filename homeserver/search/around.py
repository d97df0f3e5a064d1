"""What was said before and after a result."""

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.db.pool import Database
from homeserver.events.client_format import Sight
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.rooms.access import Access
from homeserver.rooms.history import (
    ALL,
    Range,
    after,
    before,
    newest_point,
    read_page,
)
from homeserver.rooms.timeline import Point


@dataclass(frozen=True, slots=True)
class Around:
    """Events on both sides, the nearest first, and where paging goes on."""

    events_before: Sequence[Sight]
    events_after: Sequence[Sight]
    start: Point
    end: Point


async def read_around(
    db: Database, live: Live, may: Access, event: StoredEvent, older: int, newer: int
) -> Around:
    """So many events before and after one, as far as the reader may see them."""
    newest = newest_point(live, may)
    depth, at = event.pdu.depth, event.position or 0
    backwards = Range(before(newest, depth, at), backwards=True)
    forwards = Range(after(newest, depth, at), backwards=False)
    earlier = (await read_page(db, live, may, backwards, older, ALL)).sights
    later = (await read_page(db, live, may, forwards, newer, ALL)).sights
    first = earlier[-1].event if earlier else event
    last = later[-1].event if later else event
    return Around(
        earlier,
        later,
        before(newest, first.pdu.depth, first.position or 0),
        after(newest, last.pdu.depth, last.position or 0),
    )
