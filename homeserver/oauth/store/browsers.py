"""The table `browser_sessions`: browsers in which somebody is logged in."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as

# So long a user need not show again who they are.
CONFIRMED_FOR: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is logged in with a browser."""

    user_id: UserId
    password_hash: str | None
    sign_on: int | None = None  # the log-in elsewhere that it is due to
    is_confirmed: bool = False  # shown a moment ago elsewhere who it is


async def add(
    tx: Tx, cookie_hash: bytes, user_id: UserId, sign_on: int | None = None
) -> None:
    """Somebody has logged in."""
    await tx.execute(
        """
        INSERT INTO browser_sessions (cookie_hash, user_id, password_print, sign_on)
        SELECT $1, user_id, sha256(convert_to(coalesce(password_hash, ''), 'UTF8')), $3
          FROM users
         WHERE user_id = $2
        ON CONFLICT (cookie_hash) DO NOTHING
        """,
        cookie_hash,
        user_id,
        sign_on,
    )


async def owner(tx: Tx, cookie_hash: bytes, lifetime: timedelta) -> Owner | None:
    """Who is logged in.

    Nobody whose account has ended or is locked, or whose password is another by now.
    """
    return await fetch_one_as(
        tx,
        Owner,
        """
        SELECT u.user_id, u.password_hash, b.sign_on,
               coalesce(b.confirmed_at > now() - $3::interval, false) AS is_confirmed
          FROM browser_sessions b JOIN users u USING (user_id)
         WHERE b.cookie_hash = $1 AND b.created_at > now() - $2::interval
           AND NOT u.deactivated AND NOT u.locked
           AND b.password_print
               = sha256(convert_to(coalesce(u.password_hash, ''), 'UTF8'))
        """,
        cookie_hash,
        lifetime,
        CONFIRMED_FOR,
    )


async def confirm(tx: Tx, cookie_hash: bytes) -> None:
    """Who is logged in has shown once more who they are."""
    await tx.execute(
        "UPDATE browser_sessions SET confirmed_at = now() WHERE cookie_hash = $1",
        cookie_hash,
    )


async def delete(tx: Tx, cookie_hash: bytes) -> None:
    """Nobody is logged in with this browser any more."""
    await tx.execute("DELETE FROM browser_sessions WHERE cookie_hash = $1", cookie_hash)


async def delete_of(tx: Tx, user_id: UserId) -> None:
    """The user is logged in with no browser any more."""
    await tx.execute("DELETE FROM browser_sessions WHERE user_id = $1", user_id)


async def delete_old(tx: Tx, lifetime: timedelta) -> None:
    """Forget browsers that have not logged in for long."""
    await tx.execute(
        "DELETE FROM browser_sessions WHERE created_at < now() - $1::interval", lifetime
    )
