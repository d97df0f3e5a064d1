"""Children of events, and threads, in order.

A child counts while it is visible and not redacted.
"""

from dataclasses import dataclass

from federation.ids import EventId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, to_text
from homeserver.rooms.timeline import Place

# Relations over so many events count as indirect ones: "at least 3".
MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Children:
    """Which children of an event are wanted; `is_deep`: also theirs, and so on."""

    room_nid: int
    parent: EventId
    rel_type: str | None = None
    event_type: str | None = None
    is_deep: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Events after `low` up to `high`, (depth, position), that had come by `upto`."""

    low: tuple[int, int]
    high: tuple[int, int]
    upto: int


async def read_children(
    tx: Tx, wanted: Children, window: Window, limit: int, *, backwards: bool
) -> list[Place]:
    """Up to `limit` children, the newest or the oldest ones first."""
    return await fetch_as(
        tx,
        Place,
        """
        WITH RECURSIVE child AS (
            SELECT event_nid, event_id, depth, position, 1 AS level
              FROM events
             WHERE relates_to = $1 AND room_nid = $2
               AND ($3::text IS NULL OR rel_type = $3)
               AND ($4::text IS NULL OR type = $4)
               AND position IS NOT NULL AND redacted_by IS NULL
             UNION
            SELECT e.event_nid, e.event_id, e.depth, e.position, child.level + 1
              FROM child JOIN events e ON e.relates_to = child.event_id
             WHERE child.level < $5 AND e.room_nid = $2
               AND ($3::text IS NULL OR e.rel_type = $3)
               AND ($4::text IS NULL OR e.type = $4)
               AND e.position IS NOT NULL AND e.redacted_by IS NULL
        )
        SELECT event_nid AS nid, depth, position
          FROM (SELECT DISTINCT event_nid, depth, position FROM child
                 WHERE position <= $6 AND (depth, position) > ($7, $8)
                   AND (depth, position) <= ($9, $10)) AS found
         ORDER BY CASE WHEN $11 THEN -depth ELSE depth END,
                  CASE WHEN $11 THEN -position ELSE position END
         LIMIT $12
        """,
        wanted.parent,
        wanted.room_nid,
        None if wanted.rel_type is None else to_text(wanted.rel_type),
        None if wanted.event_type is None else to_text(wanted.event_type),
        MAX_DEPTH if wanted.is_deep else 1,
        window.upto,
        *window.low,
        *window.high,
        backwards,
        limit,
    )


@dataclass(frozen=True, slots=True)
class Threads:
    """Which threads of a room are wanted; `of`: those that this user takes part in."""

    room_nid: int
    upto: int
    of: UserId | None = None


async def read_threads(
    tx: Tx, wanted: Threads, high: tuple[int, int], limit: int
) -> list[Place]:
    """Roots of threads with the place of the latest reply, the newest first.

    It goes from root to root over the index: a step for each thread of the room.
    """
    return await fetch_as(
        tx,
        Place,
        """
        WITH RECURSIVE root AS (
            SELECT min(relates_to) AS event_id FROM events
             WHERE room_nid = $1 AND rel_type = 'm.thread'
               AND position IS NOT NULL AND redacted_by IS NULL
             UNION ALL
            SELECT (SELECT min(relates_to) FROM events
                     WHERE room_nid = $1 AND rel_type = 'm.thread'
                       AND relates_to > root.event_id
                       AND position IS NOT NULL AND redacted_by IS NULL)
              FROM root WHERE root.event_id IS NOT NULL
        )
        SELECT r.event_nid AS nid, latest.depth, latest.position
          FROM root
          JOIN events r ON r.event_id = root.event_id
         CROSS JOIN LATERAL (
                SELECT depth, position FROM events
                 WHERE room_nid = $1 AND rel_type = 'm.thread'
                   AND relates_to = root.event_id AND position <= $2
                   AND position IS NOT NULL AND redacted_by IS NULL
                 ORDER BY depth DESC, position DESC LIMIT 1
               ) AS latest
         WHERE r.room_nid = $1 AND r.position IS NOT NULL
           AND (latest.depth, latest.position) <= ($3, $4)
           AND ($5::text IS NULL OR r.sender = $5
                OR EXISTS (SELECT FROM events c
                            WHERE c.room_nid = $1 AND c.rel_type = 'm.thread'
                              AND c.relates_to = root.event_id AND c.sender = $5
                              AND c.position IS NOT NULL AND c.redacted_by IS NULL))
         ORDER BY latest.depth DESC, latest.position DESC
         LIMIT $6
        """,
        wanted.room_nid,
        wanted.upto,
        *high,
        wanted.of,
        limit,
    )
