"""The tables `oauth_sessions` and `cross_signing_resets`.

They stand here since what asks for more than a token (user-interactive authentication)
has to know how a session began.
"""

from dataclasses import dataclass
from datetime import timedelta

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class OAuthSession:
    """A device whose tokens came from OAuth."""

    user_id: UserId
    device_id: DeviceId
    client_id: str
    scope: str
    code_hash: bytes | None = None


async def put(tx: Tx, session: OAuthSession) -> None:
    """Note how a device has logged in."""
    await tx.execute(
        """
        INSERT INTO oauth_sessions (user_id, device_id, client_id, scope, code_hash)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id, device_id) DO UPDATE
           SET client_id = EXCLUDED.client_id, scope = EXCLUDED.scope,
               code_hash = EXCLUDED.code_hash
        """,
        session.user_id,
        session.device_id,
        session.client_id,
        session.scope,
        session.code_hash,
    )


async def of_device(
    tx: Tx, user_id: UserId, device_id: DeviceId
) -> OAuthSession | None:
    """How a device has logged in, if by OAuth."""
    return await fetch_one_as(
        tx,
        OAuthSession,
        """
        SELECT user_id, device_id, client_id, scope, code_hash
          FROM oauth_sessions
         WHERE user_id = $1 AND device_id = $2
        """,
        user_id,
        device_id,
    )


async def of_code(tx: Tx, code_hash: bytes) -> OAuthSession | None:
    """The session that began with a code, for one whose code is known."""
    return await fetch_one_as(
        tx,
        OAuthSession,
        """
        SELECT s.user_id, s.device_id, s.client_id, s.scope, s.code_hash
          FROM oauth_codes c JOIN oauth_sessions s USING (user_id, device_id)
         WHERE c.code_hash = $1 AND s.code_hash = $1
        """,
        code_hash,
    )


async def of_refresh_token(tx: Tx, token_hash: bytes) -> OAuthSession | None:
    """The session that a refresh token belongs to."""
    return await fetch_one_as(
        tx,
        OAuthSession,
        """
        SELECT s.user_id, s.device_id, s.client_id, s.scope, s.code_hash
          FROM refresh_tokens r JOIN oauth_sessions s USING (user_id, device_id)
         WHERE r.token_hash = $1
        """,
        token_hash,
    )


# ── Replacing cross-signing keys ─────────────────────────────────────────────────────


async def allow_reset(tx: Tx, user_id: UserId, lifetime: timedelta) -> None:
    """The user allows, for a while, that their cross-signing keys be replaced."""
    await tx.execute(
        """
        INSERT INTO cross_signing_resets (user_id, expires_at)
        VALUES ($1, now() + $2::interval)
        ON CONFLICT (user_id) DO UPDATE SET expires_at = EXCLUDED.expires_at
        """,
        user_id,
        lifetime,
    )


async def may_reset(tx: Tx, user_id: UserId) -> bool:
    """Whether the user has allowed it."""
    return bool(
        await tx.fetchval(
            """
            SELECT true FROM cross_signing_resets
             WHERE user_id = $1 AND expires_at > now()
            """,
            user_id,
        )
    )


async def end_reset(tx: Tx, user_id: UserId) -> None:
    """It was done, once."""
    await tx.execute("DELETE FROM cross_signing_resets WHERE user_id = $1", user_id)


async def delete_expired_resets(tx: Tx) -> None:
    """Forget what was allowed and not done."""
    await tx.execute("DELETE FROM cross_signing_resets WHERE expires_at < now()")
