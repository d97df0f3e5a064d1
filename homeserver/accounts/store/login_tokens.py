"""The table `login_tokens`: each logs one client in, once, for a short time."""

from dataclasses import dataclass
from datetime import timedelta

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token logs in."""

    user_id: UserId
    sign_on: int | None  # the log-in elsewhere that it is due to


async def add(
    tx: Tx,
    token_hash: bytes,
    user_id: UserId,
    lifetime: timedelta,
    sign_on: int | None = None,
) -> None:
    """Let a client log in with the token."""
    await tx.execute(
        """
        INSERT INTO login_tokens (token_hash, user_id, expires_at, sign_on)
        VALUES ($1, $2, now() + $3::interval, $4)
        """,
        token_hash,
        user_id,
        lifetime,
        sign_on,
    )


async def take(tx: Tx, token_hash: bytes) -> Bearer | None:
    """Use the token up; whom it logs in, None when it is not good any more."""
    return await fetch_one_as(
        tx,
        Bearer,
        """
        DELETE FROM login_tokens
         WHERE token_hash = $1 AND expires_at > now()
        RETURNING user_id, sign_on
        """,
        token_hash,
    )


async def delete_expired(tx: Tx) -> None:
    """Forget tokens that nobody has used in time."""
    await tx.execute("DELETE FROM login_tokens WHERE expires_at < now()")
