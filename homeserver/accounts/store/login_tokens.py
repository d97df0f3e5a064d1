"""The table `login_tokens`: each logs one client in, once, for a short time."""

from datetime import timedelta

from federation.ids import UserId
from homeserver.db.pool import Tx


async def add(tx: Tx, token_hash: bytes, user_id: UserId, lifetime: timedelta) -> None:
    """Let a client log in with the token."""
    await tx.execute(
        """
        INSERT INTO login_tokens (token_hash, user_id, expires_at)
        VALUES ($1, $2, now() + $3::interval)
        """,
        token_hash,
        user_id,
        lifetime,
    )


async def take(tx: Tx, token_hash: bytes) -> UserId | None:
    """Use the token up; whom it logs in, None when it is not good any more."""
    user_id: UserId | None = await tx.fetchval(
        """
        DELETE FROM login_tokens
         WHERE token_hash = $1 AND expires_at > now()
        RETURNING user_id
        """,
        token_hash,
    )
    return user_id


async def delete_expired(tx: Tx) -> None:
    """Forget tokens that nobody has used in time."""
    await tx.execute("DELETE FROM login_tokens WHERE expires_at < now()")
