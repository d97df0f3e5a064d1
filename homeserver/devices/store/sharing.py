"""Reading who shares rooms, now and at an earlier position."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


async def moved_lists(
    tx: Tx, user_id: UserId, room_nids: Sequence[int], since: int, upto: int
) -> list[UserId]:
    """Users whose lists moved: members of those rooms, and the user.

    Also those whose keys the user has signed, which only the user can see.
    """
    rows = await tx.fetch(
        """
        SELECT d.user_id FROM device_lists d
         WHERE d.position > $3 AND d.position <= $4
           AND (d.user_id = $1 OR EXISTS (
               SELECT FROM memberships m
                WHERE m.user_id = d.user_id AND m.membership = 'join'
                  AND m.room_nid = ANY($2)))
         UNION
        SELECT s.user_id FROM key_signatures s
         WHERE s.signer = $1 AND s.position > $3 AND s.position <= $4
        """,
        user_id,
        room_nids,
        since,
        upto,
    )
    return [UserId(row["user_id"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Moved:
    """A membership that moved: the events that gave the old one, and those since."""

    room_nid: int
    user_id: UserId
    is_joined: bool
    before_nid: int | None
    nids: list[int]


async def moved_memberships(
    tx: Tx, room_nids: Sequence[int], since: int, upto: int
) -> list[Moved]:
    """Memberships of those rooms that moved after `since`, up to and with `upto`."""
    return await fetch_as(
        tx,
        Moved,
        """
        SELECT m.room_nid, m.user_id, m.membership = 'join' AS is_joined,
               (SELECT e.event_nid
                  FROM events e
                 WHERE e.room_nid = m.room_nid AND e.key_nid = k.key_nid
                   AND e.position IS NOT NULL AND e.position <= $2
                   AND e.rejected IS NULL AND NOT e.soft_failed
                 ORDER BY e.position DESC LIMIT 1) AS before_nid,
               ARRAY(SELECT e.event_nid FROM events e
                      WHERE e.room_nid = m.room_nid AND e.key_nid = k.key_nid
                        AND e.position > $2 AND e.position <= $3
                        AND e.rejected IS NULL AND NOT e.soft_failed
                      ORDER BY e.position DESC LIMIT 100) AS nids
          FROM memberships m
          LEFT JOIN state_keys k
            ON k.type = 'm.room.member' AND k.state_key = m.user_id
         WHERE m.room_nid = ANY($1) AND m.position > $2 AND m.position <= $3
        """,
        room_nids,
        since,
        upto,
    )


async def joined_members(tx: Tx, room_nids: Sequence[int]) -> list[tuple[int, UserId]]:
    """Everybody joined to those rooms, as (room, user)."""
    rows = await tx.fetch(
        """
        SELECT room_nid, user_id FROM memberships
         WHERE room_nid = ANY($1) AND membership = 'join'
        """,
        room_nids,
    )
    return [(row["room_nid"], UserId(row["user_id"])) for row in rows]


@dataclass(frozen=True, slots=True)
class Membership:
    """A joined membership and since when it is so."""

    room_nid: int
    user_id: UserId
    position: int


async def memberships_of(
    tx: Tx, user_ids: Sequence[UserId], room_nids: Sequence[int]
) -> list[Membership]:
    """Where those users are joined, among those rooms."""
    return await fetch_as(
        tx,
        Membership,
        """
        SELECT room_nid, user_id, position FROM memberships
         WHERE user_id = ANY($1) AND room_nid = ANY($2) AND membership = 'join'
        """,
        user_ids,
        room_nids,
    )


async def shared_with_us(tx: Tx, user_ids: Sequence[UserId]) -> set[UserId]:
    """Those other servers' users who share a room with a user of ours."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT m.user_id
          FROM memberships m
         WHERE m.user_id = ANY($1) AND m.membership = 'join' AND EXISTS (
               SELECT FROM memberships o
                WHERE o.room_nid = m.room_nid AND o.local AND o.membership = 'join')
        """,
        user_ids,
    )
    return {UserId(row["user_id"]) for row in rows}
