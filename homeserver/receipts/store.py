"""The table `receipts`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import EventId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as
from homeserver.live.changes import Positioned

READ: Final = "m.read"
READ_PRIVATE: Final = "m.read.private"


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a user has read; `thread_id` is None when it is unthreaded."""

    room_nid: int
    user_id: UserId
    receipt_type: str
    event_id: EventId
    ts: int
    thread_id: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A receipt that moves to an event at `event_position`, None when not known."""

    receipt: Receipt
    event_position: int | None
    is_local: bool


async def move(tx: Tx, batch: Sequence[Positioned[Move]]) -> None:
    """Move receipts, unless they would go back. For the committer."""
    moves = _furthest(batch)
    await tx.execute(
        """
        INSERT INTO receipts AS r (room_nid, user_id, receipt_type, thread_id, event_id,
                                   ts, position, local)
        SELECT u.room_nid, u.user_id, u.receipt_type, u.thread_id, u.event_id, u.ts,
               u.position, u.local
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                      $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[])
                 AS u (room_nid, user_id, receipt_type, thread_id, event_id, ts,
                       position, local, event_position)
          LEFT JOIN receipts old USING (room_nid, user_id, receipt_type, thread_id)
          LEFT JOIN events e ON e.event_id = old.event_id
         WHERE u.event_position IS NULL OR e.position IS NULL
            OR u.event_position >= e.position
        ON CONFLICT (room_nid, user_id, receipt_type, thread_id) DO UPDATE
           SET event_id = EXCLUDED.event_id, ts = EXCLUDED.ts,
               position = EXCLUDED.position
        """,
        [m.item.receipt.room_nid for m in moves],
        [m.item.receipt.user_id for m in moves],
        [m.item.receipt.receipt_type for m in moves],
        [m.item.receipt.thread_id or "" for m in moves],
        [m.item.receipt.event_id for m in moves],
        [m.item.receipt.ts for m in moves],
        [m.position for m in moves],
        [m.item.is_local for m in moves],
        [m.item.event_position for m in moves],
    )


def _furthest(batch: Iterable[Positioned[Move]]) -> list[Positioned[Move]]:
    """One move for each receipt: the one that goes furthest."""
    moves: dict[tuple[int, str, str, str | None], Positioned[Move]] = {}
    for each in batch:
        receipt = each.item.receipt
        key = (
            receipt.room_nid,
            receipt.user_id,
            receipt.receipt_type,
            receipt.thread_id,
        )
        other = moves.get(key)
        if other is None or not _is_before(each.item, other.item):
            moves[key] = each
    return list(moves.values())


def _is_before(move: Move, other: Move) -> bool:
    here, there = move.event_position, other.event_position
    return here is not None and there is not None and here < there


async def receipts_between(
    tx: Tx, room_nids: Sequence[int], reader: UserId, since: int, upto: int
) -> list[Receipt]:
    """Receipts of these rooms that moved after `since`, up to and with `upto`.

    Of the private ones only the reader's own.
    """
    return await fetch_as(
        tx,
        Receipt,
        """
        SELECT room_nid, user_id, receipt_type, event_id, ts,
               nullif(thread_id, '') AS thread_id
          FROM receipts
         WHERE room_nid = ANY($1) AND position > $2 AND position <= $3
           AND (receipt_type <> 'm.read.private' OR user_id = $4)
         ORDER BY position
        """,
        room_nids,
        since,
        upto,
        reader,
    )


async def receipts_at(
    tx: Tx, room_nids: Sequence[int], reader: UserId, event_ids: Sequence[str]
) -> list[Receipt]:
    """The reader's own receipts in these rooms, and others' public ones at events."""
    return await fetch_as(
        tx,
        Receipt,
        """
        SELECT room_nid, user_id, receipt_type, event_id, ts,
               nullif(thread_id, '') AS thread_id
          FROM receipts
         WHERE room_nid = ANY($1)
           AND (user_id = $2
                OR (event_id = ANY($3) AND receipt_type <> 'm.read.private'))
         ORDER BY position
        """,
        room_nids,
        reader,
        event_ids,
    )
