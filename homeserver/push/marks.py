"""How far users have read, as it bears on what is unread; and tallies that are kept.

Spec: client-server-api#marking-notifications-as-read
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.live.live import Live
from homeserver.live.room import Member
from homeserver.push.keeping import may_keep

# thread → (notifications, highlights)
Counts = Mapping[str, tuple[int, int]]
_MOST_CHANGES = 100  # of a membership that are followed back to the join


@dataclass(frozen=True, slots=True)
class Marks:
    """Positions up to which a user has read a room: all of it, and each thread.

    `moved` is the last position at which a receipt of theirs moved.
    """

    start: int = 0
    threads: Mapping[str, int] = field(default_factory=dict)
    moved: int = 0

    def text(self) -> str:
        """The marks as text; the same for the same marks."""
        return orjson.dumps(
            [self.start, self.threads], option=orjson.OPT_SORT_KEYS
        ).decode()


async def read_marks(
    tx: Tx, user_id: UserId, room_nids: Sequence[int]
) -> dict[int, Marks]:
    """The marks that the user's receipts set; the one that is ahead counts."""
    rows = await tx.fetch(
        """
        SELECT r.room_nid, r.thread_id, max(e.position), max(r.position)
          FROM receipts r
          LEFT JOIN events e ON e.event_id = r.event_id AND e.room_nid = r.room_nid
         WHERE r.room_nid = ANY($1) AND r.user_id = $2
         GROUP BY r.room_nid, r.thread_id
        """,
        room_nids,
        user_id,
    )
    start: defaultdict[int, int] = defaultdict(int)
    moved: defaultdict[int, int] = defaultdict(int)
    threads: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for nid, thread, at, position in rows:
        moved[nid] = max(moved[nid], position)
        if not thread:
            start[nid] = at or 0
        else:
            threads[nid][thread] = at or 0
    return {nid: Marks(start[nid], threads[nid], moved[nid]) for nid in room_nids}


async def joined_since(live: Live, member: Member, user_id: UserId, enough: int) -> int:
    """The position at which a member joined; `enough` when it is not after that.

    Later changes of a membership, such as a new name, are no joins.
    """
    key = ("m.room.member", str(user_id))
    event = await live.events.by_nid(member.event_nid)
    position = member.position
    for _ in range(_MOST_CHANGES):
        if event is None or position <= enough:
            break
        root = event.state_before or 0
        nid = (await live.states.get(root, (key,))).get(key)
        event = None if nid is None else await live.events.by_nid(nid)
        if event is None or event.pdu.membership != "join":
            return position
        position = event.position or 0
    return max(position, enough)


@dataclass(frozen=True, slots=True)
class Kept:
    """A tally as it is kept: what is unread after the marks, up to a position."""

    room_nid: int
    marks: str
    upto: int
    counts: Counts


async def read_tallies(
    tx: Tx, user_id: UserId, room_nids: Sequence[int]
) -> dict[int, Kept]:
    """The tallies of the user that are kept."""
    rows = await tx.fetch(
        """
        SELECT room_nid, marks, upto, counts FROM push_tallies
         WHERE room_nid = ANY($1) AND user_id = $2
        """,
        room_nids,
        user_id,
    )
    return {
        nid: Kept(
            nid,
            marks,
            upto,
            {thread: (n, h) for thread, (n, h) in orjson.loads(counts).items()},
        )
        for nid, marks, upto, counts in rows
    }


async def keep_tally(tx: Tx, user_id: UserId, tally: Kept, seen: int) -> None:
    """Keep a tally, unless something of the room was redacted after `seen`."""
    if not await may_keep(tx, tally.room_nid, seen):
        return
    await tx.execute(
        """
        INSERT INTO push_tallies AS old (user_id, room_nid, marks, upto, counts)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (room_nid, user_id) DO UPDATE
           SET marks = EXCLUDED.marks, upto = EXCLUDED.upto, counts = EXCLUDED.counts
         WHERE old.upto <= EXCLUDED.upto
        """,
        user_id,
        tally.room_nid,
        tally.marks,
        tally.upto,
        orjson.dumps(dict(tally.counts)).decode(),
    )
