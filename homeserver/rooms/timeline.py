"""Places in a room's history, and pages of it from the database.

Sync orders events by position: as they came. History is paged by depth, then position.
A Point joins both: it stands between events, bounds what it shows to what had come by
`position`, and within that may stand further back, at a depth.

Spec: client-server-api#syncing
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.errors import Malformed
from homeserver.db.pool import Tx

_TOKEN: Final = re.compile(
    r"s([0-9]{1,18})(?:d([0-9]{1,18}))?(?:t([0-9]{1,19})_(-?[0-9]{1,18}))?"
    r"(?:~[0-9a-f]{12})?"  # of sliding sync, whose tokens stand for positions too
)
_MAX_INT64: Final = 2**63 - 1  # the greatest depth of room versions 1 to 5


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a room's history, as tokens name it.

    With `depth` and `at`, it stands right after the event at that depth and position.
    `inbox` is how far messages to the device were given out, when that is not as far.
    """

    position: int
    depth: int | None = None
    at: int | None = None
    inbox: int | None = None

    def __str__(self) -> str:
        if self.inbox is not None:
            return f"s{self.position}d{self.inbox}"
        if self.depth is None:
            return f"s{self.position}"
        return f"s{self.position}t{self.depth}_{self.at}"


def parse_point(token: str) -> Point:
    """The point that a token names. Raises: Malformed."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Malformed("this is not a token of this server")
    position, inbox, depth, at = match.groups()
    if depth is None:
        return Point(int(position), inbox=None if inbox is None else int(inbox))
    if int(depth) > _MAX_INT64:
        raise Malformed("this is not a token of this server")
    return Point(int(position), int(depth), int(at))


@dataclass(frozen=True, slots=True)
class Place:
    """An event's number and where it stands."""

    nid: int
    depth: int
    position: int


async def read_backwards(
    tx: Tx, room_nid: int, point: Point, limit: int, stop: Point | None = None
) -> tuple[list[Place], int | None]:
    """Up to `limit` events before the point, newest first, not beyond `stop`.

    Also the greatest depth, in all of the room, of an event next to which others are
    missing here; None: none are missing, as far as this looked.
    """
    depth, at = point.depth, point.at
    if depth is None:
        depth, at = await _depth_by(tx, room_nid, point.position), 2**62
    stop_depth, stop_at = await bound(tx, room_nid, stop)
    rows = await tx.fetch(
        """
        SELECT event_nid, depth, position,
               (SELECT max(e.depth)
                  FROM backward_edges b JOIN events e ON e.event_nid = b.child_nid
                 WHERE b.room_nid = $1 AND e.position IS NOT NULL)
          FROM events
         WHERE room_nid = $1 AND position IS NOT NULL AND position <= $2
           AND (depth, position) <= ($3, $4) AND (depth, position) > ($5, $6)
         ORDER BY depth DESC, position DESC LIMIT $7
        """,
        room_nid,
        point.position,
        depth,
        at,
        stop_depth,
        stop_at,
        limit,
    )
    places = [Place(row[0], row[1], row[2]) for row in rows]
    return places, rows[0][3] if rows else None


async def read_forwards(
    tx: Tx, room_nid: int, point: Point, limit: int, stop: Point | None = None
) -> list[Place]:
    """Up to `limit` events after the point, oldest first, not beyond `stop`."""
    depth, at = await bound(tx, room_nid, point)
    stop_depth, stop_at, latest = 2**62, 2**62, 2**62
    if stop is not None:
        stop_depth, stop_at = await bound(tx, room_nid, stop)
        latest = stop.position
    rows = await tx.fetch(
        """
        SELECT event_nid, depth, position FROM events
         WHERE room_nid = $1 AND position IS NOT NULL AND position <= $2
           AND (depth, position) > ($3, $4) AND (depth, position) <= ($5, $6)
         ORDER BY depth, position LIMIT $7
        """,
        room_nid,
        latest,
        depth,
        at,
        stop_depth,
        stop_at,
        limit,
    )
    return [Place(*row) for row in rows]


async def bound(tx: Tx, room_nid: int, point: Point | None) -> tuple[int, int]:
    """The depth and position up to which events stand before a point."""
    if point is None:
        return -1, 0
    if point.depth is not None and point.at is not None:
        return point.depth, point.at
    return await _depth_by(tx, room_nid, point.position), 2**62


async def _depth_by(tx: Tx, room_nid: int, position: int) -> int:
    """The depth that the room had reached by a position.

    The greatest of the last events: one that came late, on a branch, may be shallower.
    """
    depth: int | None = await tx.fetchval(
        """
        SELECT max(depth) FROM (
            SELECT depth FROM events WHERE room_nid = $1 AND position <= $2
             ORDER BY position DESC LIMIT 50
        ) AS newest
        """,
        room_nid,
        position,
    )
    return -1 if depth is None else depth


async def read_since(
    tx: Tx, room_nid: int, since: int, upto: int, limit: int
) -> list[tuple[int, int]]:
    """The last `limit` events that came after `since`: (position, number), in order."""
    rows = await tx.fetch(
        """
        SELECT position, event_nid FROM events
         WHERE room_nid = $1 AND position > $2 AND position <= $3
         ORDER BY position DESC LIMIT $4
        """,
        room_nid,
        since,
        upto,
        limit,
    )
    return [(row[0], row[1]) for row in reversed(rows)]


async def state_roots_at(
    tx: Tx, room_nids: Sequence[int], position: int
) -> dict[int, int]:
    """The root of each room's current state as it was at a position."""
    rows = await tx.fetch(
        """
        SELECT r.room_nid, e.room_state
          FROM unnest($1::bigint[]) AS r (room_nid)
         CROSS JOIN LATERAL (
                SELECT room_state FROM events
                 WHERE room_nid = r.room_nid AND position > 0 AND position <= $2
                 ORDER BY position DESC LIMIT 1
               ) AS e
        """,
        room_nids,
        position,
    )
    return {row[0]: row[1] for row in rows if row[1] is not None}
