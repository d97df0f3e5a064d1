"""Pages of a room's history, and what surrounds an event.

A page is read until it is full, the history ends, or enough was looked through; then
the token says where to go on.

Spec: client-server-api#getting-events-for-a-room
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from federation.pdu import StateKey
from homeserver.db.pool import Database, Tx
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter
from homeserver.live.live import Live
from homeserver.rooms.access import Access
from homeserver.rooms.kept import kept_sights
from homeserver.rooms.timeline import Place, Point, read_backwards, read_forwards
from homeserver.rooms.viewing import state_sights, visible

MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = 10
MEMBER: Final = "m.room.member"
ALL: Final = RoomEventFilter()  # keeps everything
_MAX_PAGES: Final = 8
_PAGE: Final = 15
_MAX_PAGE: Final = 200
_FIRST: Final = -(10**18 - 1)  # a position before all


@dataclass(frozen=True, slots=True)
class Range:
    """Where to read: from a point, towards older or newer events, not beyond `stop`."""

    start: Point
    backwards: bool
    stop: Point | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order read; `end` is None when there is nothing further.

    `lowest` is the depth down to which events were looked at, `gap` the greatest depth
    at which others are missing.
    """

    sights: Sequence[Sight]
    end: Point | None
    lowest: int | None = None
    gap: int | None = None

    @property
    def has_first(self) -> bool:
        """Whether the last event is the room's first."""
        return bool(self.sights) and self.sights[-1].event.pdu.is_create


def newest_point(live: Live, may: Access) -> Point:
    """The end of what the reader may see."""
    position = live.position if may.upto is None else min(live.position, may.upto)
    return Point(max(position, 0))


def oldest_point(live: Live, may: Access) -> Point:
    """The beginning of the room's history."""
    return Point(newest_point(live, may).position, 0, _FIRST)


def bounded(point: Point, may: Access) -> Point:
    """The point, not showing what came after the reader left."""
    if may.upto is None or point.position <= may.upto:
        return point
    return Point(max(may.upto, 0), point.depth, point.at)


def before(point: Point, depth: int, at: int) -> Point:
    """The place right before the event that stands there."""
    return Point(point.position, max(depth, 0), at - 1)


def after(point: Point, depth: int, at: int) -> Point:
    """The place right after the event that stands there."""
    return Point(point.position, max(depth, 0), at)


async def read_page(
    db: Database,
    live: Live,
    may: Access,
    where: Range,
    limit: int,
    wanted: RoomEventFilter,
) -> Page:
    """Up to `limit` events that the reader may see and the filter keeps."""
    if limit == 0:
        return Page((), where.start)
    newest = newest_point(live, may)
    point = where.start
    sights: list[Sight] = []
    lowest: int | None = None
    gap: int | None = None
    is_end = False
    for attempt in range(_MAX_PAGES):
        # More each time, since many seem to be hidden or filtered.
        size = min(max(limit - len(sights), _PAGE << attempt), _MAX_PAGE)
        read = partial(
            _read, may=may, where=where, point=point, newest=newest, limit=size
        )
        places, highest = await db.read_old(read)
        found, last = await take(db, live, may, places, limit - len(sights), wanted)
        sights += found
        if last is not None:
            gap = highest
            lowest = last.depth if lowest is None else min(lowest, last.depth)
            point = beyond(point if where.backwards else newest, last, where)
        is_end = len(places) < size and (last is None or last is places[-1])
        if is_end or len(sights) >= limit:
            break
    page = Page(sights, None if is_end else point, lowest, gap)
    if where.backwards and page.has_first:
        return replace(page, end=None)
    return page


def beyond(point: Point, place: Place, where: Range) -> Point:
    """The point on the other side of a place, in the direction of reading."""
    step = before if where.backwards else after
    return step(point, place.depth, place.position)


async def _read(
    tx: Tx, may: Access, where: Range, point: Point, newest: Point, limit: int
) -> tuple[list[Place], int | None]:
    if where.backwards:
        return await read_backwards(tx, may.room.nid, point, limit, where.stop)
    stop = newest if where.stop is None else bounded(where.stop, may)
    return await read_forwards(tx, may.room.nid, point, limit, stop), None


async def take(
    db: Database,
    live: Live,
    may: Access,
    places: Sequence[Place],
    limit: int,
    wanted: RoomEventFilter,
) -> tuple[list[Sight], Place | None]:
    """The events at those places that count, and the last place that was looked at."""
    events = await live.events.by_nids(place.nid for place in places)
    visible_ones = await visible(live, may.reader, list(events.values()))
    seen = {s.event.nid: s for s in await kept_sights(db, wanted, visible_ones)}
    sights: list[Sight] = []
    for place in places:
        sight = seen.get(place.nid)
        if sight is not None:
            sights.append(sight)
            if len(sights) == limit:
                return sights, place
    return sights, places[-1] if places else None


async def members_for(live: Live, root: int, sights: Iterable[Sight]) -> list[Sight]:
    """The member events of those who sent the events, for lazy loading.

    Those that are among the events themselves are left out.
    """
    there = list(sights)
    keys: set[StateKey] = {(MEMBER, sight.event.pdu.sender) for sight in there}
    shown = {sight.event.nid for sight in there}
    nids = (await live.states.get(root, keys)).values()
    return await state_sights(live, [nid for nid in nids if nid not in shown])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around an event, in the order of the specification."""

    events_before: Sequence[Sight]
    events_after: Sequence[Sight]
    start: Point
    end: Point
    state: Sequence[Sight]


async def read_surroundings(
    db: Database,
    live: Live,
    may: Access,
    event: Sight,
    wanted: RoomEventFilter,
    limit: int,
) -> Surroundings:
    """Up to `limit` events around one, and the state at the last of them."""
    newest = newest_point(live, may)
    depth, at = event.event.pdu.depth, event.event.position or 0

    older = Range(before(newest, depth, at), backwards=True)
    newer = Range(after(newest, depth, at), backwards=False)
    pages = [
        await read_page(db, live, may, older, limit // 2, wanted),
        await read_page(db, live, may, newer, limit - limit // 2, wanted),
    ]
    events_before, events_after = pages[0].sights, pages[1].sights
    first = events_before[-1].event if events_before else event.event
    last = events_after[-1].event if events_after else event.event
    root = last.state_after or 0
    if wanted.lazy_load_members:
        shown = [*events_before, event, *events_after]
        state = [
            *await members_for(live, root, shown),
            *await _state_but_members(live, root),
        ]
    else:
        state = await state_sights(live, (await live.states.items(root)).values())
    return Surroundings(
        events_before,
        events_after,
        before(newest, first.pdu.depth, first.position or 0),
        after(newest, last.pdu.depth, last.position or 0),
        await kept_sights(db, wanted, state),
    )


async def _state_but_members(live: Live, root: int) -> list[Sight]:
    state = await live.states.items(root)
    return await state_sights(live, [n for k, n in state.items() if k[0] != MEMBER])


async def read_near_time(
    tx: Tx, room_nid: int, ts: int, *, backwards: bool, limit: int, skip: int
) -> list[int]:
    """Numbers of events by their distance from a time, in one direction from it."""
    if backwards:
        rows = await tx.fetch(
            """
            SELECT event_nid FROM events
             WHERE room_nid = $1 AND position IS NOT NULL AND origin_server_ts <= $2
             ORDER BY origin_server_ts DESC, depth DESC, position DESC
             LIMIT $3 OFFSET $4
            """,
            room_nid,
            ts,
            limit,
            skip,
        )
    else:
        rows = await tx.fetch(
            """
            SELECT event_nid FROM events
             WHERE room_nid = $1 AND position IS NOT NULL AND origin_server_ts >= $2
             ORDER BY origin_server_ts, depth, position
             LIMIT $3 OFFSET $4
            """,
            room_nid,
            ts,
            limit,
            skip,
        )
    return [row[0] for row in rows]
