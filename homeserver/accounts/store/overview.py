"""Questions about all accounts together, for operators."""

from dataclasses import dataclass
from datetime import datetime

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


@dataclass(frozen=True, slots=True)
class ListedUser:
    """One account as a list shows it."""

    user_id: UserId
    is_admin: bool
    is_deactivated: bool
    has_password: bool
    created_at: datetime


async def list_users(tx: Tx, after: str, limit: int) -> list[ListedUser]:
    """Accounts whose IDs come after that one, in order."""
    return await fetch_as(
        tx,
        ListedUser,
        """
        SELECT user_id, admin AS is_admin, deactivated AS is_deactivated,
               password_hash IS NOT NULL AS has_password, created_at
          FROM users
         WHERE user_id > $1
         ORDER BY user_id
         LIMIT $2
        """,
        after,
        limit,
    )


async def has_administrator(tx: Tx) -> bool:
    """Whether anybody may administer this server."""
    return bool(
        await tx.fetchval(
            "SELECT EXISTS (SELECT FROM users WHERE admin AND NOT deactivated)"
        )
    )
