"""The table `registration_tokens`: who knows one may make an account.

A use is first pending, from when somebody shows the token until the account is made or
the attempt has run out, so that a token for one never makes two.
"""

from dataclasses import dataclass
from datetime import datetime

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as


async def is_valid(tx: Tx, token: str) -> bool:
    """Whether the token could be used now."""
    return bool(
        await tx.fetchval(
            """
            SELECT true
              FROM registration_tokens
             WHERE token = $1
               AND (uses_allowed IS NULL OR pending + completed < uses_allowed)
               AND (expires_at IS NULL OR expires_at > now())
            """,
            token,
        )
    )


async def reserve(tx: Tx, token: str) -> bool:
    """Hold one use; False when there is none left, or no such token."""
    return bool(
        await tx.fetchval(
            """
            UPDATE registration_tokens
               SET pending = pending + 1
             WHERE token = $1
               AND (uses_allowed IS NULL OR pending + completed < uses_allowed)
               AND (expires_at IS NULL OR expires_at > now())
            RETURNING true
            """,
            token,
        )
    )


async def complete(tx: Tx, token: str) -> None:
    """The use that was held has made an account."""
    await tx.execute(
        """
        UPDATE registration_tokens
           SET pending = greatest(pending - 1, 0), completed = completed + 1
         WHERE token = $1
        """,
        token,
    )


async def release(tx: Tx, tokens: list[str]) -> None:
    """The uses that were held, one for each entry, have come to nothing."""
    await tx.execute(
        """
        UPDATE registration_tokens t
           SET pending = greatest(pending - u.uses, 0)
          FROM (SELECT token, count(*)::integer AS uses
                  FROM unnest($1::text[]) AS held (token)
                 GROUP BY token) AS u
         WHERE t.token = u.token
        """,
        tokens,
    )


# ── Their administration ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RegistrationToken:
    """A token as administrators see it."""

    token: str
    uses_allowed: int | None
    pending: int
    completed: int
    expires_at: datetime | None


async def create(
    tx: Tx, token: str, uses_allowed: int | None, expires_at: datetime | None
) -> bool:
    """Make a token; False when there is one of that name."""
    return bool(
        await tx.fetchval(
            """
            INSERT INTO registration_tokens (token, uses_allowed, expires_at)
            VALUES ($1, $2, $3) ON CONFLICT (token) DO NOTHING RETURNING true
            """,
            token,
            uses_allowed,
            expires_at,
        )
    )


async def update(
    tx: Tx, token: str, uses_allowed: int | None, expires_at: datetime | None
) -> None:
    """Say anew how often and how long a token is good."""
    await tx.execute(
        """
        UPDATE registration_tokens SET uses_allowed = $2, expires_at = $3
         WHERE token = $1
        """,
        token,
        uses_allowed,
        expires_at,
    )


async def delete(tx: Tx, token: str) -> bool:
    """Delete a token; False when there is none."""
    return bool(
        await tx.fetchval(
            "DELETE FROM registration_tokens WHERE token = $1 RETURNING true", token
        )
    )


async def find(tx: Tx, token: str) -> RegistrationToken | None:
    """A token, whether it is good or not."""
    return await fetch_one_as(
        tx,
        RegistrationToken,
        """
        SELECT token, uses_allowed, pending, completed, expires_at
          FROM registration_tokens WHERE token = $1
        """,
        token,
    )


async def list_tokens(
    tx: Tx, limit: int, *, valid: bool | None = None
) -> list[RegistrationToken]:
    """Tokens, the newest first; `valid`: only those that are good, or that are not."""
    return await fetch_as(
        tx,
        RegistrationToken,
        """
        SELECT token, uses_allowed, pending, completed, expires_at
          FROM registration_tokens
         WHERE $2::boolean IS NULL OR $2 = (
                   (uses_allowed IS NULL OR pending + completed < uses_allowed)
               AND (expires_at IS NULL OR expires_at > now()))
         ORDER BY created_at DESC, token
         LIMIT $1
        """,
        limit,
        valid,
    )
