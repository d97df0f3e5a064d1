"""Locking and suspending: columns of the table `users`."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Moderation:
    """What an administrator does to an account; None: it stays as it is."""

    user_id: UserId
    locked: bool | None = None
    suspended: bool | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account that is in use stands."""

    is_admin: bool
    is_locked: bool
    is_suspended: bool


async def standing(tx: Tx, user_id: UserId) -> Standing | None:
    """How the account stands; None when there is none, or it is deactivated."""
    return await fetch_one_as(
        tx,
        Standing,
        """
        SELECT admin AS is_admin, locked AS is_locked, suspended AS is_suspended
          FROM users WHERE user_id = $1 AND NOT deactivated
        """,
        user_id,
    )


async def moderate(tx: Tx, batch: Sequence[Positioned[Moderation]]) -> None:
    """Lock, suspend, and let go again. For the committer."""
    for each in batch:
        await tx.execute(
            """
            UPDATE users
               SET locked = coalesce($2, locked), suspended = coalesce($3, suspended)
             WHERE user_id = $1
            """,
            each.item.user_id,
            each.item.locked,
            each.item.suspended,
        )
