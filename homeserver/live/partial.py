"""What follows for a room's row when its members are to be fetched, and once they are.

Spec: MSC3902
"""

from collections.abc import Sequence

from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.live.room import Head
from homeserver.live.steps import Consequence, Step


def note_servers(step: Step, before: Head) -> None:
    """Count the servers that are in the room for members whom nobody knows yet."""
    step.servers.subtract(before.partial or ())
    step.servers.update(step.head.partial or ())


def _is_due(step: Step) -> bool:
    return bool(step.awaits_members or step.is_whole or step.restated)


async def _write(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    for _, step in steps:
        if step.awaits_members:
            await tx.execute(
                """
                INSERT INTO partial_rooms (room_nid, join_nid, servers, whole_root)
                VALUES ($1, $2, $3, $4)
                ON CONFLICT (room_nid) DO UPDATE
                   SET join_nid = EXCLUDED.join_nid, servers = EXCLUDED.servers,
                       whole_root = EXCLUDED.whole_root,
                       tries = 0, due_at = now()
                """,
                step.room.nid,
                step.events[0].nid,
                step.awaits_members,
                step.whole_root,
            )
        if step.is_whole:
            await tx.execute(
                "DELETE FROM partial_rooms WHERE room_nid = $1", step.room.nid
            )
        if step.restated:
            await _restate(tx, step)


async def _restate(tx: Tx, step: Step) -> None:
    await tx.execute(
        """
        UPDATE events
           SET state_before = u.state_before, state_after = u.state_after,
               room_state = u.room_state, rejected = u.rejected,
               -- What is refused after all is in nobody's timeline.
               position = CASE WHEN u.rejected IS NULL THEN events.position END
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                      $5::text[])
                 AS u (event_nid, state_before, state_after, room_state, rejected)
         WHERE events.event_nid = u.event_nid
        """,
        [each.nid for each in step.restated],
        [each.state_before for each in step.restated],
        [each.state_after for each in step.restated],
        [each.room_state for each in step.restated],
        [None if e.rejected is None else to_text(e.rejected) for e in step.restated],
    )


PARTIAL = Consequence(_is_due, _write)
