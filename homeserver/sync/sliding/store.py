"""The table `sliding_connections`: the two newest states of each connection."""

from dataclasses import dataclass

from homeserver.db.pool import Tx
from homeserver.db.rows import to_text


@dataclass(frozen=True, slots=True)
class Key:
    """Which connection: one of a device."""

    user_id: str
    device_id: str
    conn_id: str

    @property
    def columns(self) -> tuple[str, str, str]:
        """Its columns."""
        return self.user_id, to_text(self.device_id), to_text(self.conn_id)


async def read_state(tx: Tx, key: Key, name: str) -> bytes | None:
    """The state of that name, when it is one of the two newest."""
    state: bytes | None = await tx.fetchval(
        """
        SELECT CASE WHEN newer = $4 THEN newer_state ELSE older_state END
          FROM sliding_connections
         WHERE user_id = $1 AND device_id = $2 AND conn_id = $3
           AND (newer = $4 OR older = $4)
        """,
        *key.columns,
        name,
    )
    return state


async def begin(tx: Tx, key: Key, name: str, state: bytes, at_most: int) -> None:
    """Begin a connection anew; of the device's others, `at_most - 1` stay.

    What was the newest state stays good: the answer may be lost, and another that was
    asked for before may have come.
    """
    await tx.execute(
        """
        INSERT INTO sliding_connections AS c (user_id, device_id, conn_id, newer,
                                              newer_state)
        SELECT user_id, device_id, $3, $4, $5 FROM devices
         WHERE user_id = $1 AND device_id = $2
        ON CONFLICT (user_id, device_id, conn_id) DO UPDATE
           SET older = c.newer, older_state = c.newer_state,
               newer = EXCLUDED.newer, newer_state = EXCLUDED.newer_state,
               used_at = now()
        """,
        *key.columns,
        name,
        state,
    )
    await tx.execute(
        """
        DELETE FROM sliding_connections
         WHERE user_id = $1 AND device_id = $2 AND conn_id IN (
               SELECT conn_id FROM sliding_connections
                WHERE user_id = $1 AND device_id = $2 AND conn_id <> $3
                ORDER BY used_at DESC OFFSET $4)
        """,
        *key.columns,
        at_most - 1,
    )


async def follow(tx: Tx, key: Key, base: str, name: str, state: bytes) -> bool:
    """Put a state after `base`, which the client has; False when that is gone.

    A state that followed `base` before was never used, and gives way.
    """
    done: bool | None = await tx.fetchval(
        """
        UPDATE sliding_connections
           SET older = $4,
               older_state = CASE WHEN newer = $4 THEN newer_state ELSE older_state END,
               newer = $5, newer_state = $6, used_at = now()
         WHERE user_id = $1 AND device_id = $2 AND conn_id = $3
           AND (newer = $4 OR older = $4)
        RETURNING true
        """,
        *key.columns,
        base,
        name,
        state,
    )
    return done is True


async def touch(tx: Tx, key: Key) -> None:
    """Note that the connection is still in use."""
    await tx.execute(
        """
        UPDATE sliding_connections SET used_at = now()
         WHERE user_id = $1 AND device_id = $2 AND conn_id = $3
        """,
        *key.columns,
    )


async def delete_unused(tx: Tx, days: int) -> None:
    """Forget connections that nobody used for so long."""
    await tx.execute(
        """
        DELETE FROM sliding_connections
         WHERE used_at < now() - $1::integer * interval '1 day'
        """,
        days,
    )
