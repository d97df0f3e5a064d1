"""The table `registration_tokens`: who knows one may make an account.

A use is first pending, from when somebody shows the token until the account is made or
the attempt has run out, so that a token for one never makes two.
"""

from homeserver.db.pool import Tx


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
