"""The tables `search_index` and `search_cursor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import RoomId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as
from homeserver.live.changes import Kind

# By type of event: the key of its content, and its number in the index.
KEYS: Final = {
    "m.room.message": ("content.body", 0),
    "m.room.name": ("content.name", 1),
    "m.room.topic": ("content.topic", 2),
}
TYPES: Final = tuple(KEYS)
_END: Final = 2**62  # a position after all
MOST: Final = 2_000  # of what matches, so many are counted, and ranked


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the index goes: all that changed up to `position`.

    While `scan_nid` is there, events up to that number are in, and all others up to
    `position` are still to be looked at.
    """

    position: int
    scan_nid: int | None


async def take_cursor(tx: Tx) -> Cursor:
    """The cursor, for this transaction to move. It begins with a scan of everything."""
    await tx.execute(
        """
        INSERT INTO search_cursor (position, scan_nid)
        SELECT position, 0 FROM sequencer
        ON CONFLICT DO NOTHING
        """
    )
    # Too far behind: what happened meanwhile is no longer listed.
    await tx.execute(
        """
        UPDATE search_cursor c SET position = s.position, scan_nid = 0
          FROM sequencer s WHERE c.position < s.trimmed_to
        """
    )
    found = await fetch_one_as(
        tx, Cursor, "SELECT position, scan_nid FROM search_cursor FOR UPDATE"
    )
    assert found is not None  # noqa: S101 - it was just made
    return found


async def cursor(tx: Tx) -> Cursor | None:
    """How far the index goes."""
    return await fetch_one_as(
        tx, Cursor, "SELECT position, scan_nid FROM search_cursor"
    )


async def is_at(tx: Tx, position: int | None) -> tuple[bool, int]:
    """Whether the index goes up to a position, or up to now; and that position.

    While it is made anew, it counts as being there: that takes its time.
    """
    row = await tx.fetchrow(
        """
        SELECT c.scan_nid > 0 OR c.position >= coalesce($1, s.position) IS TRUE,
               coalesce($1, s.position)
          FROM sequencer s LEFT JOIN search_cursor c ON true
        """,
        position,
    )
    assert row is not None  # noqa: S101 - the sequencer has one row
    return bool(row[0]), row[1]


async def position_now(tx: Tx) -> int:
    """The last position that was given out, by any process."""
    position: int = await tx.fetchval("SELECT position FROM sequencer")
    return position


async def move_cursor(tx: Tx, cursor: Cursor) -> None:
    """Note how far the index goes now."""
    await tx.execute(
        "UPDATE search_cursor SET position = $1, scan_nid = $2",
        cursor.position,
        cursor.scan_nid,
    )


async def room_ids(tx: Tx, nids: Sequence[int]) -> dict[int, RoomId]:
    """The IDs of rooms."""
    rows = await tx.fetch(
        "SELECT room_nid, room_id FROM rooms WHERE room_nid = ANY($1)", nids
    )
    return {row["room_nid"]: RoomId(row["room_id"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Happened:
    """A change that matters: of an event, or of a room's history as a whole."""

    position: int
    room_nid: int
    event_nid: int | None


async def changes_after(
    tx: Tx, position: int, limit: int
) -> tuple[list[Happened], int]:
    """The next changes that matter, and up to where that is all."""
    # Read first: what comes later has a higher position.
    upto = await position_now(tx)
    found = await fetch_as(
        tx,
        Happened,
        """
        SELECT position, room_nid, ref AS event_nid
          FROM changes
         WHERE position > $1 AND position <= $2 AND kind = ANY($3)
         ORDER BY position LIMIT $4
        """,
        position,
        upto,
        (Kind.EVENT, Kind.REDACTED, Kind.BACKFILLED),
        limit,
    )
    return found, found[-1].position if len(found) == limit else upto


async def scan(tx: Tx, after: int, limit: int) -> list[int]:
    """The numbers of the next events of the whole server."""
    rows = await tx.fetch(
        "SELECT event_nid FROM events WHERE event_nid > $1 ORDER BY event_nid LIMIT $2",
        after,
        limit,
    )
    return [row["event_nid"] for row in rows]


@dataclass(frozen=True, slots=True)
class Source:
    """An event that may be searched for; `json` as it was signed."""

    event_nid: int
    room_nid: int
    position: int
    type: str
    sender: str
    json: str


async def sources(
    tx: Tx, nids: Sequence[int], history_of: Sequence[int]
) -> list[Source]:
    """Those events that are to be found: visible, with a text, not redacted.

    Beside those named also what was fetched of these rooms' histories and is not in
    the index yet.
    """
    return await fetch_as(
        tx,
        Source,
        """
        SELECT e.event_nid, e.room_nid, e.position, e.type, e.sender, j.json
          FROM events e JOIN event_json j USING (event_nid)
         WHERE e.event_nid = ANY($1) AND e.type = ANY($3)
           AND e.position IS NOT NULL AND e.redacted_by IS NULL
         UNION ALL
        SELECT e.event_nid, e.room_nid, e.position, e.type, e.sender, j.json
          FROM events e JOIN event_json j USING (event_nid)
         WHERE e.room_nid = ANY($2) AND e.position < 0 AND e.type = ANY($3)
           AND e.redacted_by IS NULL
           AND NOT EXISTS (SELECT FROM search_index i WHERE i.event_nid = e.event_nid)
        """,
        nids,
        history_of,
        TYPES,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in the index."""

    event_nid: int
    room_nid: int
    position: int
    key: int
    sender: str
    words: Sequence[str]


async def put(tx: Tx, entries: Sequence[Entry]) -> None:
    """Put events into the index."""
    await tx.execute(
        """
        INSERT INTO search_index (event_nid, room_nid, position, key, sender, length,
                                  words)
        SELECT u.event_nid, u.room_nid, u.position, u.key, u.sender, u.length,
               array_to_tsvector(string_to_array(u.words, ' '))
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[],
                      $5::text[], $6::integer[], $7::text[])
                 AS u (event_nid, room_nid, position, key, sender, length, words)
        ON CONFLICT (event_nid) DO UPDATE
           SET position = EXCLUDED.position
        """,
        [entry.event_nid for entry in entries],
        [entry.room_nid for entry in entries],
        [entry.position for entry in entries],
        [entry.key for entry in entries],
        [entry.sender for entry in entries],
        [len(entry.words) for entry in entries],
        # Words hold no space.
        [" ".join(sorted(set(entry.words))) for entry in entries],
    )


async def remove(tx: Tx, nids: Sequence[int]) -> None:
    """Take events out of the index."""
    await tx.execute("DELETE FROM search_index WHERE event_nid = ANY($1)", nids)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for and where. `tsquery` and `exact` as `Query` makes them."""

    tsquery: str
    exact: str
    room_nids: Sequence[int]
    keys: Sequence[int]
    senders: Sequence[str] | None = None
    not_senders: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a match stands in the order of matches."""

    rank: float
    position: int


@dataclass(frozen=True, slots=True)
class Match:
    """An event that matches."""

    event_nid: int
    room_nid: int
    sender: str
    rank: float
    position: int

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.rank, self.position)


async def plan_for_words(tx: Tx) -> None:
    """Let this transaction's statements be planned for the words that they look for.

    A plan that suits rare words takes long for common ones, and the other way round.
    """
    await tx.execute("SELECT set_config('plan_cache_mode', 'force_custom_plan', true)")


async def few(
    tx: Tx, wanted: Wanted, after: Place | None, limit: int, *, by_rank: bool
) -> tuple[list[Match], int]:
    """The next matches, and how many there are: right for less than MOST of them.

    All are found first, by their words. Whole words and short texts come first, or
    what is newest: texts count less the longer they are, whole words count twice.
    """
    rows = await tx.fetch(
        """
        WITH found AS MATERIALIZED (
            SELECT event_nid, room_nid, sender, position,
                   ((CASE WHEN words @@ $2::tsquery THEN 1.0 ELSE 0.5 END)
                    / (1 + ln(1 + length)))::float8 AS rank
              FROM search_index
             WHERE words @@ $1::tsquery AND room_nid = ANY($3) AND key = ANY($4)
               AND ($5::text[] IS NULL OR sender = ANY($5)) AND sender <> ALL($6)
             LIMIT $11
        )
        SELECT every.count, event_nid, room_nid, sender, rank, position
          FROM (SELECT count(*) FROM found) AS every
          LEFT JOIN found
            ON $7::bigint IS NULL
            OR ($9 AND (rank, position) < ($8::float8, $7))
            OR (NOT $9 AND position < $7)
         ORDER BY CASE WHEN $9 THEN rank END DESC, position DESC
         LIMIT $10
        """,
        wanted.tsquery,
        wanted.exact,
        wanted.room_nids,
        wanted.keys,
        wanted.senders,
        wanted.not_senders,
        None if after is None else after.position,
        None if after is None else after.rank,
        by_rank,
        limit,
        MOST,
    )
    return [Match(*row[1:]) for row in rows if row[1] is not None], rows[0][0]


async def newest(
    tx: Tx, wanted: Wanted, after: Place | None, limit: int
) -> list[Match]:
    """The next matches of very many, the newest first: found by going back in time."""
    return await fetch_as(
        tx,
        Match,
        """
        SELECT event_nid, room_nid, sender,
               ((CASE WHEN words @@ $2::tsquery THEN 1.0 ELSE 0.5 END)
                / (1 + ln(1 + length)))::float8 AS rank,
               position
          FROM search_index
         WHERE words @@ $1::tsquery AND room_nid = ANY($3) AND key = ANY($4)
           AND ($5::text[] IS NULL OR sender = ANY($5)) AND sender <> ALL($6)
           AND position < $7
         ORDER BY position DESC LIMIT $8
        """,
        wanted.tsquery,
        wanted.exact,
        wanted.room_nids,
        wanted.keys,
        wanted.senders,
        wanted.not_senders,
        _END if after is None else after.position,
        limit,
    )


async def best(tx: Tx, wanted: Wanted, after: Place | None, limit: int) -> list[Match]:
    """The next matches of very many, the newest of which are ranked as by `few`."""
    return await fetch_as(
        tx,
        Match,
        """
        SELECT event_nid, room_nid, sender, rank, position
          FROM (SELECT event_nid, room_nid, sender, position,
                       ((CASE WHEN words @@ $2::tsquery THEN 1.0 ELSE 0.5 END)
                        / (1 + ln(1 + length)))::float8 AS rank
                  FROM search_index
                 WHERE words @@ $1::tsquery AND room_nid = ANY($3) AND key = ANY($4)
                   AND ($5::text[] IS NULL OR sender = ANY($5))
                   AND sender <> ALL($6)
                 ORDER BY position DESC LIMIT $10) AS found
         WHERE $7::bigint IS NULL OR (rank, position) < ($8::float8, $7)
         ORDER BY rank DESC, position DESC LIMIT $9
        """,
        wanted.tsquery,
        wanted.exact,
        wanted.room_nids,
        wanted.keys,
        wanted.senders,
        wanted.not_senders,
        None if after is None else after.position,
        None if after is None else after.rank,
        limit,
        MOST,
    )
