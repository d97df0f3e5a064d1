"""The timeline of one room between two positions: from the view, else the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.db.pool import Database
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter
from homeserver.live.live import Live
from homeserver.live.room import Room
from homeserver.rooms import timeline as history
from homeserver.rooms.kept import kept_events
from homeserver.rooms.viewing import Reader, visible

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 500
_CREATE: Final = ("m.room.create", "")
_PAGE: Final = 100
_MAX_PAGES: Final = 10


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a section shows of a room's events, and the states around it.

    `limited`: events before these, after `since`, are left out. `start_root` is the
    state before the first event shown, `end_root` the room's state at the end.
    """

    sights: Sequence[Sight]
    limited: bool
    prev_batch: history.Point
    start_root: int
    end_root: int


async def read_timeline(
    db: Database,
    live: Live,
    room: Room,
    reader: Reader,
    since: int | None,
    upto: int,
    wanted: RoomEventFilter,
) -> Timeline:
    """The newest events after `since` that the reader may see and the filter keeps."""
    limit = DEFAULT_LIMIT if wanted.limit is None else min(wanted.limit, MAX_LIMIT)
    shown: list[Sight] = []
    newest: int | None = None
    pages = _Pages(db, room, since or 0, upto)
    while len(shown) <= limit and not pages.is_over:
        nids = await pages.older(limit + 1 - len(shown))
        events = list((await live.events.by_nids(nids)).values())
        newest = nids[-1] if newest is None and nids else newest
        kept = await kept_events(db, wanted, events)
        shown = [*await visible(live, reader, kept), *shown]
    limited = len(shown) > limit or pages.has_more
    if since is None and not limited:
        limited = not await _reaches_the_start(live, room)
    shown = shown[len(shown) - limit :] if len(shown) > limit else shown
    end_root = await _root_at(db, live, room, newest, upto)
    first = shown[0].event if shown else None
    start_root = end_root
    if first is not None and first.state_before is not None:
        start_root = first.state_before
    position = upto if first is None else (first.position or 1) - 1
    return Timeline(shown, limited, history.Point(position), start_root, end_root)


async def _reaches_the_start(live: Live, room: Room) -> bool:
    """Whether the events with positions are all that the room has.

    A room that was joined at another server has older ones, here or there: clients page
    back only where they are told that there is a gap.
    """
    nid = room.state.get(_CREATE)
    create = None if nid is None else await live.events.by_nid(nid)
    return create is not None and create.position is not None and create.position > 0


class _Pages:
    """The numbers of a room's events after `since`, in pages, the newest page first.

    The first pages are what the view has at hand, as much of it as is wanted; the
    others come from the database.
    """

    def __init__(self, db: Database, room: Room, since: int, upto: int) -> None:
        self._db = db
        self._room = room
        self._since = since
        self._upto = upto
        self._pages = 0
        self._at_hand: list[int] = []
        if upto >= room.recent_from:
            self._at_hand = [nid for at, nid in room.recent if since < at <= upto]
            self._upto = room.recent_from
        self.is_over = self._is_read and not self._at_hand
        self.has_more = False  # events were left out when it was over

    @property
    def _is_read(self) -> bool:
        """Whether nothing is left in the database that the view has not got."""
        return self._since >= self._upto

    async def older(self, wanted: int) -> list[int]:
        """The next page, in order; `is_over` when there is none after it."""
        if self._at_hand:
            nids = self._at_hand[-wanted:]
            del self._at_hand[-wanted:]
            self.is_over = self._is_read and not self._at_hand
            return nids
        self._pages += 1
        room = self._room
        async with self._db.read() as tx:
            page = await history.read_since(
                tx, room.nid, self._since, self._upto, _PAGE
            )
        if len(page) < _PAGE:
            self.is_over = True
        elif self._pages > _MAX_PAGES:
            self.is_over = self.has_more = True
        else:
            self._upto = page[0][0] - 1
        return [nid for _, nid in page]


async def _root_at(
    db: Database, live: Live, room: Room, newest: int | None, upto: int
) -> int:
    """The room's state at a position: what its newest event until then left."""
    event = None if newest is None else await live.events.by_nid(newest)
    if event is not None and event.room_state is not None:
        return event.room_state
    return await room_state_at(db, live, room, upto)


async def room_state_at(db: Database, live: Live, room: Room, position: int) -> int:
    """The root of the room's current state as it was at a position; 0 before it."""
    if room.recent and position >= room.recent[-1][0]:
        return room.head.state_root
    before = [nid for at, nid in room.recent if at <= position]
    if before:
        event = await live.events.by_nid(before[-1])
        if event is not None and event.room_state is not None:
            return event.room_state
    async with db.read() as tx:
        roots = await history.state_roots_at(tx, (room.nid,), position)
    return roots.get(room.nid, 0)
