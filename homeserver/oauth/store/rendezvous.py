"""The table `rendezvous`: what two devices leave for each other, for a few minutes."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """What lies there now."""

    rendezvous_id: str
    data: bytes
    turn: int
    written_at: datetime
    expires_at: datetime
    expires_in_ms: int

    @property
    def tag(self) -> str:
        """Names this state: another one comes with everything that is written."""
        digest = hashlib.sha256(f"{self.rendezvous_id} {self.turn} ".encode())
        digest.update(self.data)
        return digest.hexdigest()[:32]


async def add(
    tx: Tx,
    rendezvous_id: str,
    kind: int,
    data: bytes,
    lifetime: timedelta,
    most: int,
) -> Rendezvous | None:
    """A new one; None when there are `most` already."""
    return await fetch_one_as(
        tx,
        Rendezvous,
        """
        INSERT INTO rendezvous (rendezvous_id, kind, data, expires_at)
        SELECT $1, $2, $3, now() + $4::interval
         WHERE (SELECT count(*) FROM (SELECT FROM rendezvous
                                       WHERE expires_at > now() LIMIT $5) live) < $5
        RETURNING rendezvous_id, data, turn, written_at, expires_at,
                  (extract(epoch FROM expires_at - now()) * 1000)::bigint
                  AS expires_in_ms
        """,
        rendezvous_id,
        kind,
        data,
        lifetime,
        most,
    )


async def get(
    tx: Tx, rendezvous_id: str, kind: int, *, for_update: bool = False
) -> Rendezvous | None:
    """What lies there; with `for_update` nobody else writes until the end of `tx`."""
    if for_update:
        await tx.execute(
            "SELECT FROM rendezvous WHERE rendezvous_id = $1 FOR UPDATE", rendezvous_id
        )
    return await fetch_one_as(
        tx,
        Rendezvous,
        """
        SELECT rendezvous_id, data, turn, written_at, expires_at,
               (extract(epoch FROM expires_at - now()) * 1000)::bigint AS expires_in_ms
          FROM rendezvous
         WHERE rendezvous_id = $1 AND kind = $2 AND expires_at > now()
        """,
        rendezvous_id,
        kind,
    )


async def write(tx: Tx, rendezvous_id: str, data: bytes) -> None:
    """Put something there in place of what there was."""
    await tx.execute(
        """
        UPDATE rendezvous SET data = $2, turn = turn + 1, written_at = now()
         WHERE rendezvous_id = $1
        """,
        rendezvous_id,
        data,
    )


async def delete(tx: Tx, rendezvous_id: str, kind: int) -> bool:
    """End it; False when there is none."""
    return bool(
        await tx.fetchval(
            """
            DELETE FROM rendezvous
             WHERE rendezvous_id = $1 AND kind = $2 AND expires_at > now()
            RETURNING true
            """,
            rendezvous_id,
            kind,
        )
    )


async def delete_expired(tx: Tx) -> None:
    """Forget those whose time is over."""
    await tx.execute("DELETE FROM rendezvous WHERE expires_at < now()")
