"""What has happened after a position, for a service to be told of.

The log of changes says it for the last hour. Who was away for longer is told of events,
invites and messages to devices; what was fleeting is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Database, Tx
from homeserver.db.rows import fetch_as, from_text
from homeserver.live.changes import Kind
from homeserver.receipts.store import Receipt

_MOST: Final = 2000
_OLD_SPAN: Final = 5000
_MESSAGES: Final = 500


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing that happened. `ref` is an event's number where there is one."""

    position: int
    kind: int
    room_nid: int | None
    user_id: str | None
    ref: int | None


@dataclass(slots=True)
class Window:
    """All that happened after one position up to and with another, in order."""

    after: int
    upto: int
    happened: list[Happened] = field(default_factory=list)
    is_old: bool = False  # only what is kept for ever is in it

    def cut(self, upto: int) -> None:
        """End earlier."""
        self.upto = upto
        self.happened = [each for each in self.happened if each.position <= upto]

    def of(self, *kinds: Kind) -> list[Happened]:
        """What happened of these kinds."""
        return [each for each in self.happened if each.kind in kinds]

    def rooms(self, kind: Kind) -> list[int]:
        """The rooms in which this happened, each once."""
        return list(dict.fromkeys(e.room_nid for e in self.of(kind) if e.room_nid))

    def users(self, *kinds: Kind) -> list[UserId]:
        """The users to whom this happened, each once."""
        found = dict.fromkeys(each.user_id for each in self.of(*kinds))
        return [UserId(user_id) for user_id in found if user_id]


async def read_window(db: Database, after: int, upto: int) -> Window:
    """What happened, as much as is looked at in one go."""
    async with db.snapshot() as tx:
        trimmed_to = await tx.fetchval("SELECT trimmed_to FROM sequencer")
        if after < trimmed_to:
            return await _read_old(tx, after, min(upto, after + _OLD_SPAN))
        happened = await fetch_as(
            tx,
            Happened,
            """
            SELECT position, kind, room_nid, user_id, ref FROM changes
             WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
            """,
            after,
            upto,
            _MOST,
        )
    if len(happened) == _MOST:
        upto = happened[-1].position
    return Window(after, upto, happened)


async def _read_old(tx: Tx, after: int, upto: int) -> Window:
    happened = await fetch_as(
        tx,
        Happened,
        """
        SELECT e.position, $3::integer AS kind, r.room_nid, NULL::text AS user_id,
               e.event_nid AS ref
          FROM rooms r
         CROSS JOIN LATERAL (
               SELECT position, event_nid FROM events e
                WHERE e.room_nid = r.room_nid AND e.position > $1 AND e.position <= $2
               ) AS e
         WHERE r.last_position > $1
         UNION ALL
        SELECT m.position, $4::integer, m.room_nid, m.user_id, m.event_nid
          FROM memberships m JOIN events e USING (event_nid)
         WHERE m.position > $1 AND m.position <= $2 AND m.local
           AND e.position IS NULL
         ORDER BY position
        """,
        after,
        upto,
        int(Kind.EVENT),
        int(Kind.MEMBERSHIP),
    )
    return Window(after, upto, happened, is_old=True)


# ── What is told beside events ───────────────────────────────────────────────────────


async def receipts_in(
    tx: Tx, room_nids: Sequence[int], after: int, upto: int
) -> list[Receipt]:
    """Receipts of these rooms that moved, private ones too."""
    return await fetch_as(
        tx,
        Receipt,
        """
        SELECT room_nid, user_id, receipt_type, event_id, ts,
               nullif(thread_id, '') AS thread_id
          FROM receipts
         WHERE room_nid = ANY($1) AND position > $2 AND position <= $3
         ORDER BY position
        """,
        room_nids,
        after,
        upto,
    )


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a device of ours."""

    user_id: UserId
    device_id: str
    position: int
    sender: UserId
    type: str
    content: str

    def as_json(self) -> JsonObject:
        """As a service gets it. MSC4203."""
        return {
            "type": from_text(self.type),
            "sender": self.sender,
            "content": orjson.loads(self.content),
            "to_user_id": self.user_id,
            "to_device_id": self.device_id,
        }


async def addressees(tx: Tx, after: int, upto: int) -> list[UserId]:
    """Users whose devices have messages at these positions."""
    rows = await tx.fetch(
        "SELECT DISTINCT user_id FROM to_device WHERE position > $1 AND position <= $2",
        after,
        upto,
    )
    return [row["user_id"] for row in rows]


async def messages_to(
    tx: Tx, users: Sequence[UserId], after: int, upto: int
) -> tuple[list[Message], int]:
    """Messages to devices of these users, and up to which position they are all.

    All of one position come together.
    """
    found = await fetch_as(
        tx,
        Message,
        """
        SELECT user_id, device_id, position, sender, type, content
          FROM (SELECT *, rank() OVER (ORDER BY position) AS place FROM to_device
                 WHERE position > $2 AND position <= $3 AND user_id = ANY($1))
               AS next
         WHERE place <= $4
         ORDER BY position, user_id, device_id
        """,
        users,
        after,
        upto,
        _MESSAGES,
    )
    return found, found[-1].position if len(found) >= _MESSAGES else upto


async def delete_messages(
    tx: Tx, users: Sequence[UserId], after: int, upto: int
) -> None:
    """Delete messages to devices that a service has got."""
    await tx.execute(
        """
        DELETE FROM to_device
         WHERE position > $2 AND position <= $3 AND user_id = ANY($1)
        """,
        users,
        after,
        upto,
    )


async def invite_state(
    tx: Tx, invited: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], str]:
    """What invited users may see of rooms, as JSON lists."""
    rows = await tx.fetch(
        """
        SELECT s.room_nid, s.user_id, s.state FROM stripped_state s
          JOIN unnest($1::bigint[], $2::text[]) AS u (room_nid, user_id)
               USING (room_nid, user_id)
        """,
        [room_nid for room_nid, _ in invited],
        [user_id for _, user_id in invited],
    )
    return {(row["room_nid"], row["user_id"]): row["state"] for row in rows}


async def sharing(tx: Tx, user_ids: Sequence[UserId]) -> dict[UserId, list[int]]:
    """The rooms in which these users are joined."""
    rows = await tx.fetch(
        """
        SELECT user_id, room_nid FROM memberships
         WHERE user_id = ANY($1) AND membership = 'join'
        """,
        user_ids,
    )
    found: dict[UserId, list[int]] = {}
    for row in rows:
        found.setdefault(row["user_id"], []).append(row["room_nid"])
    return found
