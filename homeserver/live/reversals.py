"""State changes that state resolution undid, kept for those who wonder where they went.

When branches of a room meet, an event that stood in the state may lose its place: the
rules refuse it after all, or another comes later in the order of the algorithm. Of each
room the newest are kept.

Table: `state_reversals`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, to_text
from homeserver.live.steps import Consequence, Step

KEPT: Final = 1000  # of one room
MOST_AT_ONCE: Final = 200  # of one event
_MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class KeptReversal:
    """One that is kept: which event lost its place, to which, when, why."""

    at: datetime
    type: str
    state_key: str
    lost: str
    lost_sender: str
    won: str | None
    won_sender: str | None
    by: str
    refused: str | None

    @property
    def cause(self) -> str:
        """Why it lost, for people."""
        if self.refused is not None:
            return f"refused after all: {self.refused}"
        if self.won is None:
            return "what it rests on is not part of the state any more"
        return "the other comes later in the order of state resolution"


def _is_due(step: Step) -> bool:
    return bool(step.reversals)


async def _write(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    found = [
        (step.room.nid, reversal)
        for _, step in steps
        for reversal in step.reversals[:MOST_AT_ONCE]
    ]
    await tx.execute(
        """
        INSERT INTO state_reversals (room_nid, lost_nid, won_nid, by_nid, refused)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                             $5::text[])
        """,
        [room_nid for room_nid, _ in found],
        [each.lost for _, each in found],
        [each.won for _, each in found],
        [each.by for _, each in found],
        [
            None if each.refused is None else to_text(each.refused[:_MAX_REASON])
            for _, each in found
        ],
    )
    await tx.execute(
        """
        DELETE FROM state_reversals s
         USING (SELECT room_nid,
                       (SELECT reversal_nid FROM state_reversals t
                         WHERE t.room_nid = r.room_nid
                         ORDER BY reversal_nid DESC OFFSET $2 LIMIT 1) AS last
                  FROM unnest($1::bigint[]) AS r (room_nid)) AS old
         WHERE s.room_nid = old.room_nid AND s.reversal_nid <= old.last
        """,
        sorted({room_nid for room_nid, _ in found}),
        KEPT,
    )


REVERSALS: Final = Consequence(_is_due, _write)


async def read_reversals(tx: Tx, room_id: str, limit: int) -> list[KeptReversal]:
    """A room's, the newest first."""
    return await fetch_as(
        tx,
        KeptReversal,
        """
        SELECT s.at, lost.type, k.state_key, lost.event_id AS lost,
               lost.sender AS lost_sender, won.event_id AS won,
               won.sender AS won_sender, by.event_id AS by, s.refused
          FROM state_reversals s
          JOIN rooms r USING (room_nid)
          JOIN events lost ON lost.event_nid = s.lost_nid
          JOIN state_keys k ON k.key_nid = lost.key_nid
          JOIN events by ON by.event_nid = s.by_nid
          LEFT JOIN events won ON won.event_nid = s.won_nid
         WHERE r.room_id = $1
         ORDER BY s.reversal_nid DESC
         LIMIT $2
        """,
        room_id,
        limit,
    )
