"""The table `delayed_events`. Types, keys and contents may hold U+0000: escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import RoomId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as, from_text, to_text
from homeserver.rooms.posting import Post

KEEP_DAYS: Final = 7
KEEP_PER_USER: Final = 1000
# More than are sent at once, so that one that nobody holds is among them.
_LOOKED_AT: Final = 200
_CLAIMING: Final = 0x6865617274680002  # an advisory lock; of migrations: …0001


@dataclass(frozen=True, slots=True)
class DelayedEvent:
    """A row. Times are milliseconds; texts are as the database has them."""

    delay_id: str
    user_id: UserId
    room_id: RoomId
    type_text: str
    state_key_text: str | None
    content_text: str
    delay_ms: int
    sticky_ms: int | None
    origin_server_ts: int | None
    scheduled_ms: int
    finalised_ms: int | None
    event_id: str | None
    error: str | None

    def post(self, device: str) -> Post:
        """What is to be sent; the delay ID is its transaction ID."""
        state_key = self.state_key_text
        return Post(
            self.room_id,
            from_text(self.type_text),
            orjson.loads(self.content_text),
            None if state_key is None else from_text(state_key),
            (device, self.delay_id),
            self.origin_server_ts,
            self.sticky_ms,
        )

    def shown(self) -> JsonObject:
        """The event as its user is told of it."""
        shown: JsonObject = {
            "delay_id": self.delay_id,
            "room_id": self.room_id,
            "type": from_text(self.type_text),
            "delay_ms": self.delay_ms,
            "scheduled_at": self.scheduled_ms,
            "content": orjson.loads(self.content_text),
            # COMPAT(clients of the proposal's earlier shape): these were their names.
            "delay": self.delay_ms,
            "running_since": self.scheduled_ms,
        }
        if self.state_key_text is not None:
            shown["state_key"] = from_text(self.state_key_text)
        if self.finalised_ms is not None:
            shown["finalised_ts"] = self.finalised_ms
        if self.event_id is not None:
            shown["event_id"] = self.event_id
        if self.error is not None:
            shown["error"] = orjson.loads(self.error)
        return shown


async def find_transaction(
    tx: Tx, user_id: UserId, room_id: RoomId, type_: str, txn: tuple[str, str]
) -> str | None:
    """The delay ID that a device was given for this transaction ID."""
    found: str | None = await tx.fetchval(
        """
        SELECT delay_id
          FROM delayed_events
         WHERE user_id = $1 AND device_id = $2 AND room_id = $3 AND type = $4
           AND txn_id = $5
        """,
        user_id,
        to_text(txn[0]),
        room_id,
        to_text(type_),
        to_text(txn[1]),
    )
    return found


async def count_scheduled(tx: Tx, user_id: UserId) -> tuple[int, float]:
    """How many a user has waiting, and in how many seconds the first is due."""
    row = await tx.fetchrow(
        """
        SELECT count(*) AS number,
               coalesce(extract(epoch FROM min(send_at) - clock_timestamp()), 0)::float8
                   AS seconds
          FROM delayed_events
         WHERE user_id = $1 AND finalised_at IS NULL
        """,
        user_id,
    )
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row["number"], max(0.0, row["seconds"])


async def insert(
    tx: Tx, delay_id: str, user_id: UserId, post: Post, delay_ms: int
) -> None:
    """Schedule an event, from now on."""
    await tx.execute(
        """
        INSERT INTO delayed_events (delay_id, user_id, room_id, type, state_key,
                                    content, delay_ms, sticky_ms, origin_server_ts,
                                    device_id, txn_id, scheduled_at, send_at)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now,
               now + $7::bigint * interval '1 millisecond'
          FROM clock_timestamp() AS now
        """,
        delay_id,
        user_id,
        post.room_id,
        to_text(post.type),
        None if post.state_key is None else to_text(post.state_key),
        orjson.dumps(post.content).decode(),
        delay_ms,
        post.sticky_ms,
        post.origin_server_ts,
        to_text(post.txn[0]) if post.txn else None,
        to_text(post.txn[1]) if post.txn else None,
    )


async def scheduled(tx: Tx, user_id: UserId) -> list[DelayedEvent]:
    """What a user has waiting, what is due first at the beginning."""
    return await fetch_as(
        tx,
        DelayedEvent,
        """
        SELECT delay_id, user_id, room_id, type AS type_text,
               state_key AS state_key_text, content AS content_text, delay_ms,
               sticky_ms, origin_server_ts,
               (extract(epoch FROM scheduled_at) * 1000)::bigint AS scheduled_ms,
               (extract(epoch FROM finalised_at) * 1000)::bigint AS finalised_ms,
               event_id, error
          FROM delayed_events
         WHERE user_id = $1 AND finalised_at IS NULL
         ORDER BY send_at, delay_id
        """,
        user_id,
    )


async def find(tx: Tx, delay_id: str) -> DelayedEvent | None:
    """The event of that ID, whatever has become of it."""
    return await fetch_one_as(
        tx,
        DelayedEvent,
        """
        SELECT delay_id, user_id, room_id, type AS type_text,
               state_key AS state_key_text, content AS content_text, delay_ms,
               sticky_ms, origin_server_ts,
               (extract(epoch FROM scheduled_at) * 1000)::bigint AS scheduled_ms,
               (extract(epoch FROM finalised_at) * 1000)::bigint AS finalised_ms,
               event_id, error
          FROM delayed_events
         WHERE delay_id = $1
        """,
        delay_id,
    )


async def cancel(tx: Tx, delay_id: str) -> bool:
    """Finalise it unsent; False: it is finalised, being sent, or not there."""
    done = await tx.fetchval(
        """
        UPDATE delayed_events
           SET finalised_at = clock_timestamp()
         WHERE delay_id = $1 AND finalised_at IS NULL
           AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
        RETURNING true
        """,
        delay_id,
    )
    return bool(done)


async def restart(tx: Tx, delay_id: str) -> bool:
    """Let the delay begin now; False: it is finalised, being sent, or not there."""
    done = await tx.fetchval(
        """
        UPDATE delayed_events
           SET scheduled_at = now,
               send_at = now + delay_ms * interval '1 millisecond'
          FROM clock_timestamp() AS now
         WHERE delay_id = $1 AND finalised_at IS NULL
           AND (claimed_until IS NULL OR claimed_until < now)
        RETURNING true
        """,
        delay_id,
    )
    return bool(done)


async def claim(tx: Tx, delay_id: str, seconds: float) -> bool:
    """Take it to send it; False: it is finalised, being sent, or not there."""
    done = await tx.fetchval(
        """
        UPDATE delayed_events
           SET claimed_until = clock_timestamp() + $2 * interval '1 second'
         WHERE delay_id = $1 AND finalised_at IS NULL
           AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
        RETURNING true
        """,
        delay_id,
        seconds,
    )
    return bool(done)


async def claim_due(tx: Tx, most: int, seconds: float) -> list[DelayedEvent]:
    """Take what is due to send it, in the order in which it became due.

    Nothing while another process does, and nothing for rooms to which one is sending:
    what is for one room goes one after the other.
    """
    if not await tx.fetchval("SELECT pg_try_advisory_xact_lock($1)", _CLAIMING):
        return []
    return await fetch_as(
        tx,
        DelayedEvent,
        """
        WITH due AS (
            SELECT delay_id
              FROM delayed_events AS each
             WHERE finalised_at IS NULL AND send_at <= clock_timestamp()
               AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
               AND NOT EXISTS (
                   SELECT FROM delayed_events AS sending
                    WHERE sending.room_id = each.room_id
                      AND sending.finalised_at IS NULL
                      AND sending.claimed_until IS NOT NULL
                      AND sending.claimed_until >= clock_timestamp())
             ORDER BY send_at, delay_id
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE delayed_events d
               SET claimed_until = clock_timestamp() + $2 * interval '1 second'
              FROM due
             WHERE d.delay_id = due.delay_id
            RETURNING d.*
        )
        SELECT delay_id, user_id, room_id, type AS type_text,
               state_key AS state_key_text, content AS content_text, delay_ms,
               sticky_ms, origin_server_ts,
               (extract(epoch FROM scheduled_at) * 1000)::bigint AS scheduled_ms,
               NULL::bigint AS finalised_ms, event_id, error
          FROM taken
         ORDER BY send_at, delay_id
        """,
        most,
        seconds,
    )


async def finalise(
    tx: Tx, delay_id: str, *, event_id: str | None = None, error: str | None = None
) -> None:
    """Note how the sending went."""
    await tx.execute(
        """
        UPDATE delayed_events
           SET finalised_at = clock_timestamp(), event_id = $2, error = $3
         WHERE delay_id = $1 AND finalised_at IS NULL
        """,
        delay_id,
        event_id,
        error,
    )


async def let_go(tx: Tx, delay_ids: Sequence[str], seconds: float = 0.0) -> None:
    """They are not sent yet: others may have them after so many seconds."""
    await tx.execute(
        """
        UPDATE delayed_events
           SET claimed_until = clock_timestamp() + $2 * interval '1 second'
         WHERE delay_id = ANY($1) AND finalised_at IS NULL
        """,
        delay_ids,
        seconds,
    )


async def seconds_to_next(tx: Tx) -> float | None:
    """In how many seconds one is due that nobody sends now; None: there is none."""
    seconds: float | None = await tx.fetchval(
        """
        SELECT extract(epoch FROM min(greatest(send_at, claimed_until))
                                  - clock_timestamp())::float8
          FROM (SELECT send_at, claimed_until
                  FROM delayed_events
                 WHERE finalised_at IS NULL
                 ORDER BY send_at
                 LIMIT $1) AS first
        """,
        _LOOKED_AT,
    )
    return None if seconds is None else max(0.0, seconds)


async def forget_old(tx: Tx) -> None:
    """Delete what was finalised long ago, and a user's surplus."""
    await tx.execute(
        """
        DELETE FROM delayed_events
         WHERE finalised_at < now() - $1 * interval '1 day'
            OR delay_id IN (
               SELECT delay_id
                 FROM (SELECT delay_id,
                              row_number() OVER (PARTITION BY user_id
                                                 ORDER BY finalised_at DESC) AS place
                         FROM delayed_events
                        WHERE finalised_at IS NOT NULL) AS old
                WHERE place > $2)
        """,
        KEEP_DAYS,
        KEEP_PER_USER,
    )
