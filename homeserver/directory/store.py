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


@dataclass(frozen=True, slots=True)
class Networks:
    """Which lists are meant: our own, all of other networks', or one of these."""

    own: bool = True
    all: bool = False
    service_id: str | None = None
    network_id: str | None = None


async def published_after(
    tx: Tx, networks: Networks, joined: int, room_nid: int, limit: int
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
                  FROM (SELECT room_nid FROM published_rooms WHERE $4
                         UNION
                        SELECT a.room_nid
                          FROM appservice_rooms a JOIN appservices USING (service_id)
                         WHERE active
                           AND ($5 OR (service_id = $6 AND a.network_id = $7))) AS p
                  JOIN rooms r USING (room_nid)) AS listed
         WHERE (joined, room_nid) < ($1, $2)
         ORDER BY joined DESC, room_nid DESC LIMIT $3
        """,
        joined,
        room_nid,
        limit,
        networks.own,
        networks.all,
        networks.service_id,
        networks.network_id,
    )


async def published_before(
    tx: Tx, networks: Networks, joined: int, room_nid: int, limit: int
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
                  FROM (SELECT room_nid FROM published_rooms WHERE $4
                         UNION
                        SELECT a.room_nid
                          FROM appservice_rooms a JOIN appservices USING (service_id)
                         WHERE active
                           AND ($5 OR (service_id = $6 AND a.network_id = $7))) AS p
                  JOIN rooms r USING (room_nid)) AS listed
         WHERE (joined, room_nid) > ($1, $2)
         ORDER BY joined, room_nid LIMIT $3
        """,
        joined,
        room_nid,
        limit,
        networks.own,
        networks.all,
        networks.service_id,
        networks.network_id,
    )


async def count_published(tx: Tx, networks: Networks) -> int:
    """How many rooms are published."""
    count: int = await tx.fetchval(
        """
        SELECT count(*)
          FROM (SELECT room_nid FROM published_rooms WHERE $1
                 UNION
                SELECT a.room_nid
                  FROM appservice_rooms a JOIN appservices USING (service_id)
                 WHERE active AND ($2 OR (service_id = $3 AND a.network_id = $4))) AS p
        """,
        networks.own,
        networks.all,
        networks.service_id,
        networks.network_id,
    )
    return count
