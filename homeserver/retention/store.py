"""The column `events.pruned`, and the text of pruned events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Pruned:
    """An event and the text that is left of it."""

    nid: int
    text: str


class Place(NamedTuple):
    """Where an event stands."""

    nid: int
    position: int


async def rooms_with(tx: Tx, key_nid: int) -> list[int]:
    """The rooms that have that state."""
    rows = await tx.fetch(
        "SELECT room_nid FROM current_state WHERE key_nid = $1 ORDER BY room_nid",
        key_nid,
    )
    return [row["room_nid"] for row in rows]


async def all_rooms(tx: Tx) -> list[int]:
    """All rooms that have begun."""
    rows = await tx.fetch(
        "SELECT room_nid FROM rooms WHERE extremities <> '{}' ORDER BY room_nid"
    )
    return [row["room_nid"] for row in rows]


async def expired(
    tx: Tx, room_nid: int, before_ms: int, after: int, limit: int
) -> list[Place]:
    """Messages from before a time that still have their content, in order."""
    rows = await tx.fetch(
        """
        SELECT event_nid, position FROM events
         WHERE room_nid = $1 AND position > $3 AND key_nid IS NULL AND NOT pruned
           AND origin_server_ts < $2
         ORDER BY position LIMIT $4
        """,
        room_nid,
        before_ms,
        after,
        limit,
    )
    return [Place(*row) for row in rows]


async def prune(tx: Tx, batch: Sequence[Positioned[Pruned]]) -> None:
    """Take the contents away. For the committer."""
    nids = [each.item.nid for each in batch]
    await tx.execute(
        """
        UPDATE event_json SET json = u.json
          FROM unnest($1::bigint[], $2::text[]) AS u (event_nid, json)
         WHERE event_json.event_nid = u.event_nid
        """,
        nids,
        [each.item.text for each in batch],
    )
    await tx.execute(
        "UPDATE events SET pruned = true WHERE event_nid = ANY($1::bigint[])", nids
    )
