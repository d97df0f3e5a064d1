"""Published rooms, in the order in which they are listed."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import RoomId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


@dataclass(frozen=True, slots=True)
class Published:
    """A published room and how many are joined. By these two, rooms are ordered."""

    room_nid: int
    room_id: RoomId
    joined: int


async def published_after(
    tx: Tx, joined: int, room_nid: int, limit: int
) -> Sequence[Published]:
    """Published rooms that are listed after that place, the largest first."""
    return await fetch_as(
        tx,
        Published,
        """
        SELECT room_nid, room_id, joined
          FROM (SELECT p.room_nid, r.room_id,
                       (SELECT count(*) FROM memberships m
                         WHERE m.room_nid = p.room_nid AND m.membership = 'join')
                         AS joined
                  FROM published_rooms p JOIN rooms r USING (room_nid)) AS listed
         WHERE (joined, room_nid) < ($1, $2)
         ORDER BY joined DESC, room_nid DESC LIMIT $3
        """,
        joined,
        room_nid,
        limit,
    )


async def published_before(
    tx: Tx, joined: int, room_nid: int, limit: int
) -> Sequence[Published]:
    """Published rooms that are listed before that place, the nearest first."""
    return await fetch_as(
        tx,
        Published,
        """
        SELECT room_nid, room_id, joined
          FROM (SELECT p.room_nid, r.room_id,
                       (SELECT count(*) FROM memberships m
                         WHERE m.room_nid = p.room_nid AND m.membership = 'join')
                         AS joined
                  FROM published_rooms p JOIN rooms r USING (room_nid)) AS listed
         WHERE (joined, room_nid) > ($1, $2)
         ORDER BY joined, room_nid LIMIT $3
        """,
        joined,
        room_nid,
        limit,
    )


async def count_published(tx: Tx) -> int:
    """How many rooms are published."""
    count: int = await tx.fetchval("SELECT count(*) FROM published_rooms")
    return count
