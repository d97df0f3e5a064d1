"""The table `sticky_events`. What it means: homeserver/rooms/sticky.py."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as
from homeserver.events.sticky import sticky_ms
from homeserver.events.stored import StoredEvent

# More than a room has while it is used as it is meant to.
_MOST: Final = 5_000


async def insert_sticky(
    tx: Tx, events: Sequence[tuple[StoredEvent, int | None]]
) -> None:
    """Note sticky events with their positions, those that are sticky still."""
    await tx.execute(
        """
        INSERT INTO sticky_events (event_nid, room_nid, position, until_ms)
        SELECT u.event_nid, u.room_nid, u.position, least(u.ts, now_ms) + u.duration
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                      $5::bigint[]) AS u (event_nid, room_nid, position, ts, duration),
               LATERAL (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                   AS clock (now_ms)
         WHERE least(u.ts, now_ms) + u.duration > now_ms
        ON CONFLICT (event_nid) DO UPDATE
           SET position = coalesce(sticky_events.position, EXCLUDED.position)
        """,
        [event.nid for event, _ in events],
        [event.room_nid for event, _ in events],
        [position for _, position in events],
        [event.pdu.origin_server_ts for event, _ in events],
        [sticky_ms(event.pdu) or 0 for event, _ in events],
    )


@dataclass(frozen=True, slots=True)
class Sticky:
    """A row; `position` None: its sender may not send it, as far as we know."""

    event_nid: int
    room_nid: int
    position: int | None
    until_ms: int


async def sticky_now(
    tx: Tx, room_nids: Collection[int], now_ms: int, upto: int
) -> list[Sticky]:
    """What is sticky in those rooms and was delivered up to a position, in order."""
    return await fetch_as(
        tx,
        Sticky,
        """
        SELECT event_nid, room_nid, position, until_ms
          FROM (SELECT event_nid, room_nid, position, until_ms,
                       row_number() OVER (PARTITION BY room_nid
                                          ORDER BY position DESC) AS place
                  FROM sticky_events
                 WHERE room_nid = ANY($1) AND position <= $3 AND until_ms > $2) AS s
         WHERE place <= $4
         ORDER BY position
        """,
        room_nids,
        now_ms,
        upto,
        _MOST,
    )


async def waiting(tx: Tx, now_ms: int) -> list[Sticky]:
    """Those that wait for being allowed."""
    return await fetch_as(
        tx,
        Sticky,
        """
        SELECT event_nid, room_nid, position, until_ms
          FROM sticky_events
         WHERE position IS NULL AND until_ms > $1
         LIMIT $2
        """,
        now_ms,
        _MOST,
    )


async def active_rooms(tx: Tx, now_ms: int) -> list[tuple[int, int]]:
    """Rooms with sticky events, and the end of the last."""
    rows = await tx.fetch(
        """
        SELECT room_nid, max(until_ms) AS until_ms
          FROM sticky_events
         WHERE until_ms > $1 AND position IS NOT NULL
         GROUP BY room_nid
        """,
        now_ms,
    )
    return [(row["room_nid"], row["until_ms"]) for row in rows]
