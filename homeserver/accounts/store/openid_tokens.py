"""The table `openid_tokens`: each says to other services who somebody is."""

from datetime import timedelta

from federation.ids import UserId
from homeserver.db.pool import Tx


async def add(tx: Tx, token_hash: bytes, user_id: UserId, lifetime: timedelta) -> None:
    """Let whoever has the token learn who the user is."""
    await tx.execute(
        """
        INSERT INTO openid_tokens (token_hash, user_id, expires_at)
        VALUES ($1, $2, now() + $3::interval)
        """,
        token_hash,
        user_id,
        lifetime,
    )


async def owner(tx: Tx, token_hash: bytes) -> UserId | None:
    """Whose token it is, while it is good and the account is in use."""
    user_id: UserId | None = await tx.fetchval(
        """
        SELECT user_id FROM openid_tokens JOIN users USING (user_id)
         WHERE token_hash = $1 AND expires_at > now() AND NOT deactivated
        """,
        token_hash,
    )
    return user_id


async def delete_expired(tx: Tx) -> None:
    """Forget tokens that have run out."""
    await tx.execute("DELETE FROM openid_tokens WHERE expires_at < now()")
