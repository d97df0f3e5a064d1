"""What is kept of counting, and how a redaction makes sure that nothing stale is.

Whoever keeps something of a room holds a lock on it; so does whoever redacts something
there, before what was kept is dropped. So what is kept was either made after the
redaction, or is seen and dropped by it.
"""

from collections.abc import Sequence
from typing import Final

from homeserver.db.pool import Tx
from homeserver.live.changes import Kind
from homeserver.live.steps import Consequence, Step

# The class of these advisory locks; the other half of their names is the room.
_LOCKS: Final = 0x70757368
_ROOMS: Final = 2**31


async def may_keep(tx: Tx, room_nid: int, seen: int) -> bool:
    """Whether nothing of the room was redacted after `seen`, nor will be before `tx`.

    False also when somebody else keeps something of it just now.
    """
    locked: bool = await tx.fetchval(
        "SELECT pg_try_advisory_xact_lock($1, $2)", _LOCKS, room_nid % _ROOMS
    )
    if not locked:
        return False
    redacted: bool = await tx.fetchval(
        """
        SELECT EXISTS (SELECT FROM changes
                        WHERE position > $1 AND kind = $2 AND room_nid = $3)
        """,
        seen,
        Kind.REDACTED,
        room_nid,
    )
    return not redacted


async def _forget_redacted(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    """Drop what was made of events that are now redacted."""
    redacting = [step for _, step in steps if step.redactions]
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock_shared($1, room)
          FROM unnest($2::integer[]) AS u (room)
        """,
        _LOCKS,
        sorted({step.room.nid % _ROOMS for step in redacting}),
    )
    await tx.execute(
        """
        WITH target AS (
            SELECT room_nid, position FROM events WHERE event_nid = ANY($1)
        ), page AS (
            DELETE FROM push_pages p USING target t
             WHERE p.room_nid = t.room_nid AND p.after < t.position
               AND p.last >= t.position
        )
        DELETE FROM push_tallies p USING target t
         WHERE p.room_nid = t.room_nid AND p.upto >= t.position
        """,
        [target for step in redacting for target, _ in step.redactions],
    )


FORGET_REDACTED = Consequence(lambda step: bool(step.redactions), _forget_redacted)
