"""The table `typing`. Time is the database's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Typing:
    """A user types in a room for so long from now; None: they have stopped."""

    room_nid: int
    user_id: UserId
    timeout_ms: int | None


@dataclass(frozen=True, slots=True)
class RunOut:
    """A user whose time in a room is over, unless they went on meanwhile."""

    room_nid: int
    user_id: UserId


async def put(tx: Tx, batch: Sequence[Positioned[Typing]]) -> None:
    """Note who types and who has stopped. For the committer."""
    # Of the same user and room, the last wins.
    last = {(e.item.room_nid, e.item.user_id): e.item for e in batch}
    stopped = [item for item in last.values() if item.timeout_ms is None]
    going = [item for item in last.values() if item.timeout_ms is not None]
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM typing t
             USING unnest($1::bigint[], $2::text[]) AS u (room_nid, user_id)
             WHERE t.room_nid = u.room_nid AND t.user_id = u.user_id
        )
        INSERT INTO typing (room_nid, user_id, until)
        SELECT u.room_nid, u.user_id, now() + u.timeout_ms * interval '1 ms'
          FROM unnest($3::bigint[], $4::text[], $5::integer[])
                 AS u (room_nid, user_id, timeout_ms)
        ON CONFLICT (room_nid, user_id) DO UPDATE SET until = EXCLUDED.until
        """,
        [item.room_nid for item in stopped],
        [item.user_id for item in stopped],
        [item.room_nid for item in going],
        [item.user_id for item in going],
        [item.timeout_ms for item in going],
    )


async def end(tx: Tx, batch: Sequence[Positioned[RunOut]]) -> None:
    """End what has run out. For the committer."""
    await tx.execute(
        """
        DELETE FROM typing t
         USING unnest($1::bigint[], $2::text[]) AS u (room_nid, user_id)
         WHERE t.room_nid = u.room_nid AND t.user_id = u.user_id AND t.until <= now()
        """,
        [each.item.room_nid for each in batch],
        [each.item.user_id for each in batch],
    )


async def typing_in(tx: Tx, room_nids: Sequence[int]) -> Mapping[int, Sequence[UserId]]:
    """Which members type in each of these rooms; a room where nobody does is there.

    While a room's members are on their way, those count of whom nothing else is known.
    """
    rows = await tx.fetch(
        """
        SELECT room_nid, user_id
          FROM typing t LEFT JOIN memberships USING (room_nid, user_id)
         WHERE room_nid = ANY($1) AND until > now()
           AND (membership = 'join' OR membership IS NULL AND EXISTS
                (SELECT FROM partial_rooms p WHERE p.room_nid = t.room_nid))
         ORDER BY user_id
        """,
        room_nids,
    )
    users: defaultdict[int, list[UserId]] = defaultdict(list)
    for room_nid, user_id in rows:
        users[room_nid].append(UserId(user_id))
    return {nid: users[nid] for nid in room_nids}


async def run_out(tx: Tx, limit: int) -> list[RunOut]:
    """Those whose time is over, at most `limit`."""
    rows = await tx.fetch(
        "SELECT room_nid, user_id FROM typing WHERE until <= now() LIMIT $1", limit
    )
    return [RunOut(room_nid, UserId(user_id)) for room_nid, user_id in rows]


async def is_anybody(tx: Tx) -> bool:
    """Whether anything is noted at all."""
    found: bool = await tx.fetchval("SELECT EXISTS (SELECT FROM typing)")
    return found
