"""The table `users`."""

from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class Account:
    """A local user; without a password hash there is no log-in by password."""

    user_id: UserId
    password_hash: str | None
    is_admin: bool
    is_deactivated: bool
    is_locked: bool = False
    is_suspended: bool = False
    is_approved: bool = True


async def create_user(
    tx: Tx,
    user_id: UserId,
    password_hash: str | None,
    *,
    is_admin: bool = False,
    is_guest: bool = False,
    is_approved: bool = True,
    terms: str | None = None,
) -> bool:
    """Make an account; False when there is one of that name already."""
    made = await tx.fetchval(
        """
        INSERT INTO users (user_id, password_hash, admin, guest, approved, terms)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (user_id) DO NOTHING
        RETURNING true
        """,
        user_id,
        password_hash,
        is_admin,
        is_guest,
        is_approved,
        terms,
    )
    return bool(made)


async def end_guest(tx: Tx, user_id: UserId, password_hash: str) -> bool:
    """Turn a guest into a user with a password; False for who is none."""
    ended = await tx.fetchval(
        """
        UPDATE users SET guest = false, password_hash = $2
         WHERE user_id = $1 AND guest RETURNING true
        """,
        user_id,
        password_hash,
    )
    return bool(ended)


async def guests_among(tx: Tx, user_ids: list[UserId]) -> list[UserId]:
    """Those of the users who are guests."""
    rows = await tx.fetch(
        "SELECT user_id FROM users WHERE guest AND user_id = ANY($1)", user_ids
    )
    return [UserId(row["user_id"]) for row in rows]


async def account(tx: Tx, user_id: str) -> Account | None:
    """The account of that name."""
    return await fetch_one_as(
        tx,
        Account,
        """
        SELECT user_id, password_hash, admin AS is_admin,
               deactivated AS is_deactivated, locked AS is_locked,
               suspended AS is_suspended, approved AS is_approved
          FROM users
         WHERE user_id = $1
        """,
        user_id,
    )


async def is_taken(tx: Tx, user_id: UserId) -> bool:
    """Whether there is, or was, such an account."""
    return bool(await tx.fetchval("SELECT true FROM users WHERE user_id = $1", user_id))


async def lock(tx: Tx, user_id: UserId) -> bool:
    """Let nobody else lock this user until the transaction ends; False: no such user.

    For what is read, checked and written again, such as a profile.
    """
    return bool(
        await tx.fetchval(
            "SELECT true FROM users WHERE user_id = $1 FOR NO KEY UPDATE", user_id
        )
    )


async def count(tx: Tx) -> int:
    """How many accounts there are that people use, guests aside."""
    return int(
        await tx.fetchval(
            "SELECT count(*) FROM users WHERE NOT guest AND NOT deactivated"
        )
    )


async def approve(tx: Tx, user_id: UserId) -> bool:
    """Let the user in; False when nobody of that name waits for it."""
    return bool(
        await tx.fetchval(
            """
            UPDATE users SET approved = true
             WHERE user_id = $1 AND NOT approved AND NOT deactivated
            RETURNING true
            """,
            user_id,
        )
    )


async def awaiting_approval(tx: Tx, limit: int) -> list[UserId]:
    """Who waits to be let in, the longest first."""
    rows = await tx.fetch(
        """
        SELECT user_id FROM users WHERE NOT approved AND NOT deactivated
         ORDER BY created_at, user_id LIMIT $1
        """,
        limit,
    )
    return [UserId(row["user_id"]) for row in rows]


async def dearest_bcrypt(tx: Tx) -> int | None:
    """The highest cost of the hashes that other servers made; None: there are none."""
    found = await tx.fetchval(
        "SELECT max(substr(password_hash, 5, 2)) FROM users"
        " WHERE password_hash LIKE '$2%'"
    )
    return int(found) if isinstance(found, str) and found.isdecimal() else None


async def set_password_hash(
    tx: Tx, user_id: UserId, password_hash: str, *, instead_of: str | None = None
) -> None:
    """Set the hash; with `instead_of` only if it is still that."""
    await tx.execute(
        """
        UPDATE users
           SET password_hash = $2
         WHERE user_id = $1 AND ($3::text IS NULL OR password_hash = $3)
        """,
        user_id,
        password_hash,
        instead_of,
    )
