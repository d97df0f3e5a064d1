"""Pages of the rooms that this server publishes.

A token is a place in the order of the list, and the direction to go on in.

Spec: client-server-api#published-room-directory
"""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from federation.canonical_json import JsonObject
from federation.query_bodies import PublicRooms, PublicRoomsQuery
from homeserver import errors
from homeserver.db.pool import Database
from homeserver.db.rows import to_text
from homeserver.directory import store
from homeserver.directory.store import Networks, Published
from homeserver.live.live import Live
from homeserver.rooms.summaries import Outline, read_outlines

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
_PAGE: Final = 200
_MAX_PAGES: Final = 10
_TOKEN: Final = re.compile(r"([fb])([0-9]{1,10})_([0-9]{1,18})")
_FIRST: Final = (2**40, 0)  # before the largest room


@dataclass(frozen=True, slots=True)
class _Place:
    """After (or, backwards, before) the room of that size and number."""

    backwards: bool
    joined: int
    room_nid: int

    def __str__(self) -> str:
        return f"{'b' if self.backwards else 'f'}{self.joined}_{self.room_nid}"


def _parse(token: str | None) -> _Place:
    if token is None:
        return _Place(False, *_FIRST)  # noqa: FBT003 - as in the class
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise errors.invalid_param("since: this is not a token of this server.")
    direction, joined, room_nid = match.groups()
    return _Place(direction == "b", int(joined), int(room_nid))


class _Search:
    """Which published rooms are asked for."""

    def __init__(self, query: PublicRoomsQuery, *, to_server: bool) -> None:
        self._words = (query.generic_search_term or "").casefold().split()
        self._types = query.room_types
        self._to_server = to_server

    def wants(self, outline: Outline) -> bool:
        """Whether the room is among them."""
        if self._to_server and not outline.federates:
            return False
        if self._types is not None and outline.room_type not in self._types:
            return False
        text = " ".join(
            value
            for value in (
                outline.name.get("name"),
                outline.topic.get("topic"),
                outline.canonical_alias.get("alias"),
            )
            if isinstance(value, str)
        ).casefold()
        return all(word in text for word in self._words)


@dataclass(slots=True)
class _Page:
    """What was found, in the order of reading, and how far was read."""

    chunk: list[JsonObject] = field(default_factory=list)
    first: Published | None = None
    last: Published | None = None
    is_end: bool = False


async def list_published(
    db: Database, live: Live, query: PublicRoomsQuery, *, to_server: bool
) -> PublicRooms:
    """A page of published rooms that match.

    Another server is not told of rooms that are closed to it.

    Raises: M_INVALID_PARAM for a token that is none.
    """
    place = _parse(query.since)
    networks = _networks(query)
    limit = DEFAULT_LIMIT if query.limit is None else min(query.limit, MAX_LIMIT)
    count = await db.read_old(lambda tx: store.count_published(tx, networks))
    search = _Search(query, to_server=to_server)
    page = await _read(db, live, search, networks, place, max(limit, 1))
    further = None if page.is_end else page.last
    back = None if query.since is None else page.first
    before, after = (further, back) if place.backwards else (back, further)
    chunk = reversed(page.chunk) if place.backwards else page.chunk
    return PublicRooms(
        chunk=tuple(chunk),
        next_batch=_token(after, backwards=False),
        prev_batch=_token(before, backwards=True),
        total_room_count_estimate=count,
    )


def _token(room: Published | None, *, backwards: bool) -> str | None:
    if room is None:
        return None
    return str(_Place(backwards, room.joined, room.room_nid))


def _networks(query: PublicRoomsQuery) -> Networks:
    """Which lists are asked for.

    The ID of an instance is one that `thirdparty/protocols` has given.

    Spec: client-server-api#post_matrixclientv3publicrooms
    """
    if query.include_all_networks:
        return Networks(all=True)
    if not query.third_party_instance_id:
        return Networks()
    service_id, _, network_id = query.third_party_instance_id.rpartition("|")
    return Networks(
        own=False, service_id=to_text(service_id), network_id=to_text(network_id)
    )


async def _read(
    db: Database,
    live: Live,
    search: _Search,
    networks: Networks,
    place: _Place,
    limit: int,
) -> _Page:
    """Go through the list until the page is full, or much was looked at."""
    page = _Page()
    read = store.published_before if place.backwards else store.published_after
    at = (place.joined, place.room_nid)
    for _ in range(_MAX_PAGES):
        joined, room_nid = at
        rooms = await db.read_old(
            partial(
                read, networks=networks, joined=joined, room_nid=room_nid, limit=_PAGE
            )
        )
        outlines = await read_outlines(db, live, [room.room_nid for room in rooms])
        for room in rooms:
            if len(page.chunk) == limit:
                return page
            page.first = page.first or room
            page.last = room
            outline = outlines.get(room.room_nid)
            if outline is not None and search.wants(outline):
                page.chunk.append(outline.summary(room.room_id, room.joined))
        if len(rooms) < _PAGE:
            page.is_end = True
            return page
        at = (rooms[-1].joined, rooms[-1].room_nid)
    return page
