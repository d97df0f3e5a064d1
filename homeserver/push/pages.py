"""The way from a position of a room to another: digests of its events, in pages.

What the view has at hand is not read. Beyond that, pages that somebody has gone over
are kept, so that nobody has to load those events again to count them.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.db.pool import Database, Tx
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.room import Room
from homeserver.push.digests import Digest, Digests, decode_digests, encode_digests
from homeserver.push.keeping import may_keep

PAGE: Final = 256
_PAGES: Final = 20  # read at once


@dataclass(frozen=True, slots=True)
class Page:
    """The digests of all events after one position, up to and with another."""

    after: int
    last: int
    digests: Sequence[Digest]


class Pages:
    """Goes over the events of rooms."""

    def __init__(self, db: Database, live: Live, digests: Digests) -> None:
        self._db = db
        self._live = live
        self._digests = digests

    async def digests(
        self, room: Room, after: int, upto: int
    ) -> AsyncIterator[Sequence[Digest]]:
        """The digests of the room's events in between, in order."""
        while after < upto and after < room.recent_from:
            pages = await self._kept(room, after, upto)
            for page in pages:
                yield [d for d in page.digests if after < d.position <= upto]
                after = page.last
            if pages:
                continue
            page = await self._make(room, after)
            yield [d for d in page.digests if d.position <= upto]
            after = page.last
        if after < upto:
            yield await self._digests.of_events(await self._recent(room, after, upto))

    async def events(
        self, room: Room, after: int, upto: int
    ) -> AsyncIterator[Sequence[tuple[StoredEvent, Digest]]]:
        """The room's events in between with their digests, in order."""
        while after < upto and after < room.recent_from:
            async with self._db.read() as tx:
                places = await read_forwards(tx, room.nid, after, PAGE)
            nids = [nid for position, nid in places if position <= upto]
            events = list((await self._live.events.by_nids(nids)).values())
            yield list(zip(events, await self._digests.of_events(events), strict=True))
            after = places[-1][0] if len(places) == PAGE else upto
        if after < upto:
            events = await self._recent(room, after, upto)
            yield list(zip(events, await self._digests.of_events(events), strict=True))

    async def _recent(self, room: Room, after: int, upto: int) -> list[StoredEvent]:
        nids = [nid for position, nid in room.recent if after < position <= upto]
        return list((await self._live.events.by_nids(nids)).values())

    async def _kept(self, room: Room, after: int, upto: int) -> list[Page]:
        """Pages that lead on from a position, each from the end of the one before."""
        async with self._db.read() as tx:
            rows = await read_pages(tx, room.nid, after, upto)
        found = []
        for page_after, last, text in rows:
            if page_after <= after < last:
                found.append(Page(page_after, last, decode_digests(text)))
                after = last
        return found

    async def extend(self, room: Room, start: int) -> int:
        """Make the pages that follow the last one, or `start`; how many were made."""
        async with self._db.read() as tx:
            last = await read_last(tx, room.nid)
        after = start if last is None else last
        made = 0
        while made < _PAGES:
            page = await self._make(room, after)
            if len(page.digests) < PAGE:
                break
            after = page.last
            made += 1
        return made

    async def _make(self, room: Room, after: int) -> Page:
        """The page that begins at a position; it is kept when it is full."""
        seen = self._live.position
        async with self._db.read() as tx:
            places = await read_forwards(tx, room.nid, after, PAGE)
        events = await self._live.events.by_nids(nid for _, nid in places)
        digests = await self._digests.of_events(events.values())
        if len(places) < PAGE:
            return Page(after, max(seen, after + 1), digests)
        page = Page(after, places[-1][0], digests)
        async with self._db.transaction() as tx:
            await insert_page(tx, room.nid, page, seen)
        return page


async def read_forwards(
    tx: Tx, room_nid: int, after: int, limit: int
) -> list[tuple[int, int]]:
    """The first events that came after a position: (position, number), in order."""
    rows = await tx.fetch(
        """
        SELECT position, event_nid FROM events
         WHERE room_nid = $1 AND position > $2
         ORDER BY position LIMIT $3
        """,
        room_nid,
        max(after, 0),
        limit,
    )
    return [(row[0], row[1]) for row in rows]


async def read_pages(
    tx: Tx, room_nid: int, after: int, upto: int
) -> list[tuple[int, int, str]]:
    """Pages that end after a position and begin before another, by where they end."""
    rows = await tx.fetch(
        """
        SELECT after, last, digests FROM push_pages
         WHERE room_nid = $1 AND last > $2 AND after < $3
         ORDER BY last, after LIMIT $4
        """,
        room_nid,
        after,
        upto,
        _PAGES,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def read_last(tx: Tx, room_nid: int) -> int | None:
    """Where the room's last page ends."""
    last: int | None = await tx.fetchval(
        "SELECT max(last) FROM push_pages WHERE room_nid = $1", room_nid
    )
    return last


async def insert_page(tx: Tx, room_nid: int, page: Page, seen: int) -> None:
    """Keep a page, unless something of the room was redacted after `seen`."""
    if not await may_keep(tx, room_nid, seen):
        return
    await tx.execute(
        """
        INSERT INTO push_pages (room_nid, after, last, digests) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        """,
        room_nid,
        page.after,
        page.last,
        encode_digests(page.digests),
    )
