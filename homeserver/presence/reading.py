"""How people are, as it is read: for clients and for other servers."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import ServerName, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, from_text


@dataclass(frozen=True, slots=True)
class Presence:
    """How a user is."""

    user_id: UserId
    rank: int
    last_active_ago_ms: int | None
    currently_active: bool
    status: str | None


async def presences(tx: Tx, user_ids: Sequence[str]) -> list[Presence]:
    """How these users are; who is not in the answer is offline."""
    return _from_rows(
        await fetch_as(
            tx,
            Presence,
            """
            SELECT user_id, rank,
                   (extract(epoch FROM now() - last_active) * 1000)::bigint
                       AS last_active_ago_ms,
                   currently_active, status
              FROM presence WHERE user_id = ANY($1)
             ORDER BY user_id
            """,
            user_ids,
        )
    )


async def moved_between(
    tx: Tx,
    reader: UserId,
    room_nids: Sequence[int],
    since: int,
    upto: int,
    limit: int,
) -> list[Presence]:
    """What moved after `since`, up to and with `upto`.

    That is of those who share one of these rooms with the reader, and of the reader.
    """
    return _from_rows(
        await fetch_as(
            tx,
            Presence,
            """
            SELECT p.user_id, p.rank,
                   (extract(epoch FROM now() - p.last_active) * 1000)::bigint
                       AS last_active_ago_ms,
                   p.currently_active, p.status
              FROM presence p
             WHERE p.position > $3 AND p.position <= $4
               AND (p.user_id = $1 OR EXISTS (
                        SELECT FROM memberships m
                         WHERE m.user_id = p.user_id AND m.membership = 'join'
                           AND m.room_nid = ANY($2)))
             ORDER BY p.position DESC LIMIT $5
            """,
            reader,
            room_nids,
            since,
            upto,
            limit,
        )
    )


async def there_since(
    tx: Tx, room_nids: Sequence[int], since: int, limit: int
) -> list[Presence]:
    """Those who are there, of the members who came into these rooms after `since`."""
    return _from_rows(
        await fetch_as(
            tx,
            Presence,
            """
            SELECT p.user_id, p.rank,
                   (extract(epoch FROM now() - p.last_active) * 1000)::bigint
                       AS last_active_ago_ms,
                   p.currently_active, p.status
              FROM presence p
             WHERE p.rank > 0 AND p.user_id IN (
                   SELECT m.user_id FROM memberships m
                    WHERE m.membership = 'join' AND m.room_nid = ANY($1)
                      AND m.position > $2)
             LIMIT $3
            """,
            room_nids,
            since,
            limit,
        )
    )


async def there(
    tx: Tx, reader: UserId, room_nids: Sequence[int], limit: int
) -> list[Presence]:
    """Everybody in these rooms who is there, and the reader."""
    return _from_rows(
        await fetch_as(
            tx,
            Presence,
            """
            SELECT p.user_id, p.rank,
                   (extract(epoch FROM now() - p.last_active) * 1000)::bigint
                       AS last_active_ago_ms,
                   p.currently_active, p.status
              FROM presence p
             WHERE (p.rank > 0 OR p.user_id = $1)
               AND (p.user_id = $1 OR EXISTS (
                        SELECT FROM memberships m
                         WHERE m.user_id = p.user_id AND m.membership = 'join'
                           AND m.room_nid = ANY($2)))
             ORDER BY p.position DESC LIMIT $3
            """,
            reader,
            room_nids,
            limit,
        )
    )


def _from_rows(found: list[Presence]) -> list[Presence]:
    return [
        each
        if each.status is None
        else Presence(
            each.user_id,
            each.rank,
            each.last_active_ago_ms,
            each.currently_active,
            from_text(each.status),
        )
        for each in found
    ]


async def servers_of(
    tx: Tx, user_ids: Sequence[str], limit: int
) -> dict[UserId, list[ServerName]]:
    """The servers that share a room with each of the users."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT m.user_id, s.server_name
          FROM memberships m JOIN room_servers s USING (room_nid)
         WHERE m.user_id = ANY($1) AND m.membership = 'join' AND s.joined > 0
         LIMIT $2
        """,
        user_ids,
        limit,
    )
    found: dict[UserId, list[ServerName]] = {}
    for user_id, server in rows:
        found.setdefault(UserId(user_id), []).append(ServerName(server))
    return found


async def share_a_room(tx: Tx, one: UserId, other: UserId) -> bool:
    """Whether both are joined to one room."""
    found: bool = await tx.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM memberships a JOIN memberships b USING (room_nid)
             WHERE a.user_id = $1 AND a.membership = 'join'
               AND b.user_id = $2 AND b.membership = 'join')
        """,
        one,
        other,
    )
    return found
