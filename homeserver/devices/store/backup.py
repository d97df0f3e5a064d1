"""The tables `key_backups` and `key_backup_sessions`.

A writer locks the row of its backup first, so writers follow one another, and the count
and the etag are always those of what is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as, from_text, to_text

MAX_SESSIONS: Final = 1_000_000  # of one backup
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Backup:
    """One version of a user's backup; `auth_data` is JSON."""

    version: int
    algorithm: str
    auth_data: str
    etag: int
    count: int


@dataclass(frozen=True, slots=True)
class Session:
    """The key of a session in a room, encrypted by the client; its data is JSON."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: str


async def create(tx: Tx, user_id: UserId, algorithm: str, auth_data: str) -> int:
    """Begin a new version; its number, which was never used before."""
    await tx.execute("SELECT FROM users WHERE user_id = $1 FOR UPDATE", user_id)
    version: int = await tx.fetchval(
        """
        INSERT INTO key_backups (user_id, version, algorithm, auth_data)
        SELECT $1, coalesce(max(version), 0) + 1, $2, $3
          FROM key_backups WHERE user_id = $1
        RETURNING version
        """,
        user_id,
        to_text(algorithm),
        auth_data,
    )
    return version


async def current(tx: Tx, user_id: UserId) -> Backup | None:
    """The newest version that is not deleted."""
    return await fetch_one_as(
        tx,
        Backup,
        """
        SELECT version, algorithm, auth_data, etag, count FROM key_backups
         WHERE user_id = $1 AND NOT deleted ORDER BY version DESC LIMIT 1
        """,
        user_id,
    )


async def find(tx: Tx, user_id: UserId, version: int) -> Backup | None:
    """One version that is not deleted."""
    return await fetch_one_as(
        tx,
        Backup,
        """
        SELECT version, algorithm, auth_data, etag, count FROM key_backups
         WHERE user_id = $1 AND version = $2 AND NOT deleted
        """,
        user_id,
        version,
    )


async def lock(tx: Tx, user_id: UserId, version: int) -> Backup | None:
    """The same, for somebody who is going to write to it."""
    return await fetch_one_as(
        tx,
        Backup,
        """
        SELECT version, algorithm, auth_data, etag, count FROM key_backups
         WHERE user_id = $1 AND version = $2 AND NOT deleted FOR UPDATE
        """,
        user_id,
        version,
    )


async def set_auth_data(tx: Tx, user_id: UserId, version: int, auth_data: str) -> None:
    """Replace what the backup's keys are encrypted for."""
    await tx.execute(
        "UPDATE key_backups SET auth_data = $3 WHERE user_id = $1 AND version = $2",
        user_id,
        version,
        auth_data,
    )


async def delete_version(tx: Tx, user_id: UserId, version: int) -> bool:
    """Delete a version and its keys; False when there never was one.

    Its number stays, so that it is not used again.
    """
    found = await tx.fetchval(
        """
        UPDATE key_backups SET deleted = true, auth_data = '{}', count = 0
         WHERE user_id = $1 AND version = $2 RETURNING true
        """,
        user_id,
        version,
    )
    if found:
        await tx.execute(
            "DELETE FROM key_backup_sessions WHERE user_id = $1 AND version = $2",
            user_id,
            version,
        )
    return bool(found)


async def put(
    tx: Tx, user_id: UserId, version: int, sessions: Sequence[Session]
) -> Backup:
    """Store keys of a locked backup, unless a better one is there.

    A key is better when it is verified, then with a lower first message index, then
    with a lower forwarded count.

    Spec: client-server-api#server-side-key-backups
    """
    rows = await tx.fetch(
        """
        INSERT INTO key_backup_sessions AS k
               (user_id, version, room_id, session_id, first_message_index,
                forwarded_count, is_verified, session_data)
        SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[],
                                     $6::bigint[], $7::boolean[], $8::text[])
        ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE
           SET first_message_index = EXCLUDED.first_message_index,
               forwarded_count = EXCLUDED.forwarded_count,
               is_verified = EXCLUDED.is_verified,
               session_data = EXCLUDED.session_data
         WHERE (NOT EXCLUDED.is_verified, EXCLUDED.first_message_index,
                EXCLUDED.forwarded_count)
             < (NOT k.is_verified, k.first_message_index, k.forwarded_count)
        RETURNING xmax = 0 AS is_new
        """,
        user_id,
        version,
        [to_text(each.room_id) for each in sessions],
        [to_text(each.session_id) for each in sessions],
        [each.first_message_index for each in sessions],
        [each.forwarded_count for each in sessions],
        [each.is_verified for each in sessions],
        [each.session_data for each in sessions],
    )
    added = sum(row["is_new"] for row in rows)
    return await _note(tx, user_id, version, added, changed=bool(rows))


async def delete(
    tx: Tx, user_id: UserId, version: int, room_id: str | None, session_id: str | None
) -> Backup:
    """Delete keys of a locked backup: all, of a room, or of one session."""
    gone: int = await tx.fetchval(
        """
        WITH gone AS (
            DELETE FROM key_backup_sessions
             WHERE user_id = $1 AND version = $2
               AND ($3::text IS NULL OR room_id = $3)
               AND ($4::text IS NULL OR session_id = $4)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
        user_id,
        version,
        None if room_id is None else to_text(room_id),
        None if session_id is None else to_text(session_id),
    )
    return await _note(tx, user_id, version, -gone, changed=bool(gone))


async def _note(
    tx: Tx, user_id: UserId, version: int, added: int, *, changed: bool
) -> Backup:
    found = await fetch_one_as(
        tx,
        Backup,
        """
        UPDATE key_backups
           SET count = count + $3, etag = etag + CASE WHEN $4 THEN 1 ELSE 0 END
         WHERE user_id = $1 AND version = $2
        RETURNING version, algorithm, auth_data, etag, count
        """,
        user_id,
        version,
        added,
        changed,
    )
    assert found is not None  # noqa: S101 - it is locked
    return found


async def sessions(
    tx: Tx,
    user_id: UserId,
    version: int,
    room_id: str | None,
    session_id: str | None,
    after: tuple[str, str] = ("", ""),
) -> list[Session]:
    """Keys: all, of a room, or of one session; the next of them after that one."""
    found = await fetch_as(
        tx,
        Session,
        """
        SELECT room_id, session_id, first_message_index, forwarded_count, is_verified,
               session_data
          FROM key_backup_sessions
         WHERE user_id = $1 AND version = $2 AND ($3::text IS NULL OR room_id = $3)
           AND ($4::text IS NULL OR session_id = $4)
           AND (room_id, session_id) > ($5, $6)
         ORDER BY room_id, session_id LIMIT $7
        """,
        user_id,
        version,
        None if room_id is None else to_text(room_id),
        None if session_id is None else to_text(session_id),
        to_text(after[0]),
        to_text(after[1]),
        PAGE,
    )
    return [
        Session(
            from_text(each.room_id),
            from_text(each.session_id),
            each.first_message_index,
            each.forwarded_count,
            each.is_verified,
            each.session_data,
        )
        for each in found
    ]
