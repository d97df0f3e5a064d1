"""The tables `destinations`, `outgoing_events`, `outgoing_edus`; what is outgoing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from federation import canonical_json, edu
from federation.edu import Edu, Receipt
from federation.ids import EventId, RoomId, ServerName, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


def lease_of(holder: str) -> str:
    """The name of the lease that makes a process the holder of its destinations."""
    return f"sender {holder}"


# ── Who sends ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Claimed:
    """A destination that is ours to send to now."""

    server_name: ServerName
    position: int
    is_failing: bool
    retry_seconds: float


async def claim(tx: Tx, servers: Sequence[ServerName], holder: str) -> list[Claimed]:
    """Take those that nobody holds and that may be tried again."""
    await tx.execute(
        """
        INSERT INTO destinations (server_name, position)
        SELECT server_name, 0 FROM unnest($1::text[]) AS u (server_name)
        ON CONFLICT DO NOTHING
        """,
        servers,
    )
    return await fetch_as(
        tx,
        Claimed,
        """
        UPDATE destinations AS d SET holder = $2
          FROM (
            SELECT server_name FROM destinations AS free
             WHERE server_name = ANY($1)
               AND (retry_at IS NULL OR retry_at <= clock_timestamp())
               AND (holder IS NULL OR holder = $2 OR NOT EXISTS (
                       SELECT FROM leases
                        WHERE name = 'sender ' || free.holder
                          AND until >= clock_timestamp()))
               FOR UPDATE SKIP LOCKED
          ) AS free
         WHERE d.server_name = free.server_name
        RETURNING d.server_name, d.position, d.failing_since IS NOT NULL AS is_failing,
                  coalesce(extract(epoch FROM d.retry_interval), 0)::float8
                      AS retry_seconds
        """,
        servers,
        holder,
    )


async def waits(tx: Tx, servers: Sequence[ServerName]) -> dict[ServerName, float]:
    """For how many seconds those that failed are not to be tried."""
    rows = await tx.fetch(
        """
        SELECT server_name,
               extract(epoch FROM retry_at - clock_timestamp())::float8 AS seconds
          FROM destinations
         WHERE server_name = ANY($1) AND retry_at > clock_timestamp()
        """,
        servers,
    )
    return {row["server_name"]: row["seconds"] for row in rows}


async def save_cursors(
    tx: Tx, cursors: Sequence[tuple[ServerName, int]], holder: str, *, release: bool
) -> None:
    """Move cursors of ours on, and drop what lies behind them; perhaps let go."""
    names = [name for name, _ in cursors]
    positions = [position for _, position in cursors]
    await tx.execute(
        """
        WITH moved AS (
            UPDATE destinations d
               SET position = greatest(d.position, u.position),
                   holder = CASE WHEN $4 THEN NULL ELSE d.holder END
              FROM unnest($1::text[], $2::bigint[]) AS u (server_name, position)
             WHERE d.server_name = u.server_name AND d.holder = $3
            RETURNING d.server_name, u.position
        ), events AS (
            DELETE FROM outgoing_events o USING moved
             WHERE o.server_name = moved.server_name AND o.position <= moved.position
        )
        DELETE FROM outgoing_edus o USING moved
         WHERE o.server_name = moved.server_name AND o.position <= moved.position
        """,
        names,
        positions,
        holder,
        release,
    )


async def release_all(tx: Tx, holder: str) -> None:
    """Let go of everything that is ours."""
    await tx.execute("UPDATE destinations SET holder = NULL WHERE holder = $1", holder)


async def note_failure(
    tx: Tx, server: ServerName, holder: str, delay: float, *, release: bool
) -> None:
    """Note that a destination failed and when to try again; perhaps let go."""
    await tx.execute(
        """
        UPDATE destinations
           SET failing_since = coalesce(failing_since, now()),
               retry_at = clock_timestamp() + $3, retry_interval = $3,
               holder = CASE WHEN $4 THEN NULL ELSE holder END
         WHERE server_name = $1 AND holder = $2
        """,
        server,
        holder,
        timedelta(seconds=delay),
        release,
    )


async def note_recovery(tx: Tx, servers: Sequence[ServerName]) -> list[ServerName]:
    """Note that those servers are alive; gives those that had failed."""
    rows = await tx.fetch(
        """
        UPDATE destinations
           SET failing_since = NULL, retry_at = NULL, retry_interval = NULL
         WHERE server_name = ANY($1) AND failing_since IS NOT NULL
        RETURNING server_name
        """,
        servers,
    )
    return [row["server_name"] for row in rows]


async def due(tx: Tx, limit: int) -> list[ServerName]:
    """Destinations that nobody holds, may be tried, and have not got everything.

    Some may turn out to have got everything: rooms move by others' events too.
    """
    rows = await tx.fetch(
        """
        SELECT server_name FROM destinations AS d
         WHERE (retry_at IS NULL OR retry_at <= clock_timestamp())
           AND (holder IS NULL OR NOT EXISTS (
                   SELECT FROM leases WHERE name = 'sender ' || d.holder
                                        AND until >= clock_timestamp()))
           AND (EXISTS (
                   SELECT FROM room_servers s JOIN rooms r USING (room_nid)
                    WHERE s.server_name = d.server_name AND s.joined > 0
                      AND r.last_position > greatest(d.position, s.since))
                OR EXISTS (
                   SELECT FROM outgoing_events o
                    WHERE o.server_name = d.server_name AND o.position > d.position)
                OR EXISTS (
                   SELECT FROM outgoing_edus o
                    WHERE o.server_name = d.server_name AND o.position > d.position))
         ORDER BY retry_at NULLS FIRST LIMIT $1
        """,
        limit,
    )
    return [row["server_name"] for row in rows]


@dataclass(frozen=True, slots=True)
class Failing:
    """A destination that does not answer; times are Unix times in seconds."""

    server_name: ServerName
    failing_since: float
    retry_at: float
    retry_seconds: float


async def failing(tx: Tx, limit: int) -> list[Failing]:
    """Destinations that are not to be tried now."""
    return await fetch_as(
        tx,
        Failing,
        """
        SELECT server_name, extract(epoch FROM failing_since)::float8 AS failing_since,
               extract(epoch FROM retry_at)::float8 AS retry_at,
               extract(epoch FROM retry_interval)::float8 AS retry_seconds
          FROM destinations
         WHERE failing_since IS NOT NULL AND retry_at > clock_timestamp()
           AND retry_interval IS NOT NULL
         ORDER BY retry_at DESC LIMIT $1
        """,
        limit,
    )


# ── What is outgoing ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event for a destination, by number, and its place in the order."""

    position: int
    event_nid: int


async def outgoing_events(
    tx: Tx, server: ServerName, after: int, upto: int, limit: int
) -> list[OutgoingEvent]:
    """The first `limit` events for a server after a position, up to another."""
    return await fetch_as(
        tx,
        OutgoingEvent,
        """
        SELECT e.position, e.event_nid
          FROM room_servers s
          JOIN rooms r ON r.room_nid = s.room_nid
                      AND r.last_position > greatest($2, s.since)
         CROSS JOIN LATERAL (
                SELECT position, event_nid FROM events
                 WHERE room_nid = s.room_nid AND outgoing
                   AND position > greatest($2, s.since) AND position <= $3
                   -- Who handed an event to us has it.
                   AND substr(sender, strpos(sender, ':') + 1) <> $1
                 ORDER BY position LIMIT $4
               ) AS e
         WHERE s.server_name = $1 AND s.joined > 0
         UNION
        SELECT position, event_nid FROM outgoing_events
         WHERE server_name = $1 AND position > $2 AND position <= $3
         ORDER BY position LIMIT $4
        """,
        server,
        after,
        upto,
        limit,
    )


async def latest_outgoing_events(
    tx: Tx, server: ServerName, after: int, upto: int
) -> list[OutgoingEvent]:
    """Of each room the last such event; the server fetches what came before."""
    return await fetch_as(
        tx,
        OutgoingEvent,
        """
        SELECT e.position, e.event_nid
          FROM room_servers s
          JOIN rooms r ON r.room_nid = s.room_nid
                      AND r.last_position > greatest($2, s.since)
         CROSS JOIN LATERAL (
                SELECT position, event_nid FROM events
                 WHERE room_nid = s.room_nid AND outgoing
                   AND position > greatest($2, s.since) AND position <= $3
                   AND substr(sender, strpos(sender, ':') + 1) <> $1
                 ORDER BY position DESC LIMIT 1
               ) AS e
         WHERE s.server_name = $1 AND s.joined > 0
         UNION
        SELECT position, event_nid FROM outgoing_events
         WHERE server_name = $1 AND position > $2 AND position <= $3
           AND NOT EXISTS (
               SELECT FROM events e JOIN room_servers s USING (room_nid)
                WHERE e.event_nid = outgoing_events.event_nid
                  AND s.server_name = $1 AND s.joined > 0)
         ORDER BY position
        """,
        server,
        after,
        upto,
    )


async def sticky_events(
    tx: Tx, server: ServerName, after: int, upto: int, *, was_away: bool
) -> list[OutgoingEvent]:
    """Sticky events of ours that a server lacks although it is past them. MSC4354.

    Those of rooms that it came into after the cursor; and when it was away for long,
    those that are left out of what it is told then.
    """
    return await fetch_as(
        tx,
        OutgoingEvent,
        """
        SELECT e.position, e.event_nid
          FROM room_servers s
          JOIN sticky_events k USING (room_nid)
          JOIN events e USING (event_nid)
         WHERE s.server_name = $1 AND s.joined > 0 AND e.outgoing
           AND k.until_ms > extract(epoch FROM clock_timestamp()) * 1000
           AND (s.since > $2 AND s.since <= $3 AND e.position <= s.since
                OR $4 AND e.position > $2 AND e.position <= $3)
         ORDER BY e.position
        """,
        server,
        after,
        upto,
        was_away,
    )


@dataclass(frozen=True, slots=True)
class OutgoingReceipt:
    """A receipt of a user of ours, its room, and when it moved."""

    position: int
    room_nid: int
    receipt: Receipt


async def outgoing_receipts(
    tx: Tx, server: ServerName, after: int, upto: int, limit: int
) -> list[OutgoingReceipt]:
    """Our users' receipts for a server, where they stand now, as they moved."""
    rows = await tx.fetch(
        """
        SELECT c.position, c.room_nid, rooms.room_id, c.user_id, c.event_id, c.ts,
               c.thread_id
          FROM room_servers s
          JOIN receipts c USING (room_nid)
          JOIN rooms USING (room_nid)
         WHERE s.server_name = $1 AND s.joined > 0 AND c.local
           AND c.receipt_type = 'm.read'
           AND c.position > greatest($2, s.since) AND c.position <= $3
         ORDER BY c.position LIMIT $4
        """,
        server,
        after,
        upto,
        limit,
    )
    return [_receipt_of(*row) for row in rows]


async def receipts_at(tx: Tx, positions: Sequence[int]) -> list[OutgoingReceipt]:
    """Our users' receipts that moved at those positions and stand there still."""
    rows = await tx.fetch(
        """
        SELECT c.position, c.room_nid, rooms.room_id, c.user_id, c.event_id, c.ts,
               c.thread_id
          FROM receipts c JOIN rooms USING (room_nid)
         WHERE c.position = ANY($1) AND c.local AND c.receipt_type = 'm.read'
         ORDER BY c.position
        """,
        positions,
    )
    return [_receipt_of(*row) for row in rows]


def _receipt_of(
    position: int,
    room_nid: int,
    room_id: str,
    user_id: str,
    event_id: str,
    ts: int,
    thread_id: str,
) -> OutgoingReceipt:
    return OutgoingReceipt(
        position,
        room_nid,
        edu.Receipt(
            room_id=RoomId(room_id),
            user_id=UserId(user_id),
            event_id=EventId(event_id),
            ts=ts,
            thread_id=thread_id or None,
        ),
    )


async def outgoing_edus(
    tx: Tx, server: ServerName, after: int, upto: int, limit: int
) -> list[tuple[int, Edu]]:
    """The first `limit` EDUs that must not be lost, with their positions."""
    rows = await tx.fetch(
        """
        SELECT position, edu FROM outgoing_edus
         WHERE server_name = $1 AND position > $2 AND position <= $3
         ORDER BY position LIMIT $4
        """,
        server,
        after,
        upto,
        limit,
    )
    return [
        (row["position"], edu.parse_edu(canonical_json.parse(row["edu"])))
        for row in rows
    ]


async def servers_in_rooms(tx: Tx, room_nids: Sequence[int]) -> list[ServerName]:
    """The other servers in any of those rooms, and those to be told that they left."""
    rows = await tx.fetch(
        """
        SELECT server_name FROM room_servers
         WHERE room_nid = ANY($1) AND joined > 0
         UNION
        SELECT o.server_name FROM outgoing_events o JOIN events e USING (event_nid)
         WHERE e.room_nid = ANY($1)
        """,
        room_nids,
    )
    return [row["server_name"] for row in rows]


async def typing_now(
    tx: Tx, keys: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], bool]:
    """Whether each of those users types in that room now."""
    rows = await tx.fetch(
        """
        SELECT u.room_nid, u.user_id, t.until IS NOT NULL AS types
          FROM unnest($1::bigint[], $2::text[]) AS u (room_nid, user_id)
          LEFT JOIN typing t ON t.room_nid = u.room_nid AND t.user_id = u.user_id
                            AND t.until > now()
        """,
        [room_nid for room_nid, _ in keys],
        [user_id for _, user_id in keys],
    )
    return {(row["room_nid"], row["user_id"]): row["types"] for row in rows}
