"""The tables `media`, `media_files` and `media_blocked`.

Whoever adds or deletes a file holds the lock of its content until the transaction ends,
so that a file is never deleted while something begins to use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federation.ids import ServerName, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as, from_text, to_text
from homeserver.media.places import Place

# Apart from other advisory locks: the first of its two numbers.
_LOCK: Final = 0x6D65


@dataclass(frozen=True, slots=True)
class Mxc:
    """An mxc URI that has been checked."""

    origin: ServerName
    media_id: str

    def __str__(self) -> str:
        return f"mxc://{self.origin}/{self.media_id}"


@dataclass(frozen=True, slots=True)
class Content:
    """What is stored of a file; only `filename` may hold any character."""

    sha256: bytes
    size: int
    content_type: str
    filename: str | None
    place: Place


@dataclass(frozen=True, slots=True)
class Medium:
    """What an mxc URI stands for."""

    user_id: UserId | None
    sha256: bytes | None
    size: int | None
    content_type: str | None
    filename: str | None
    stored_at: datetime | None
    is_expired: bool
    is_hidden: bool
    store: str | None
    key: str | None

    @property
    def content(self) -> Content | None:
        """The file; None when it is not uploaded yet."""
        if self.sha256 is None or self.store is None or self.key is None:
            return None
        filename = None if self.filename is None else from_text(self.filename)
        return Content(
            self.sha256,
            self.size or 0,
            self.content_type or "",
            filename,
            Place(self.store, self.key),
        )


async def find(tx: Tx, mxc: Mxc) -> Medium | None:
    """What the URI stands for, if it is known."""
    return await fetch_one_as(
        tx,
        Medium,
        """
        SELECT m.user_id, m.sha256, m.size, m.content_type, m.filename, m.stored_at,
               coalesce(m.sha256 IS NULL AND m.expires_at < now(), false) AS is_expired,
               m.quarantined_by IS NOT NULL
                 OR EXISTS (SELECT FROM media_blocked b WHERE b.sha256 = m.sha256)
                 AS is_hidden,
               f.store, coalesce(f.key, encode(f.sha256, 'hex')) AS key
          FROM media m
          LEFT JOIN media_files f ON f.sha256 = m.sha256
         WHERE m.origin = $1 AND m.media_id = $2
        """,
        mxc.origin,
        mxc.media_id,
    )


async def lock_content(tx: Tx, sha256: bytes) -> None:
    """Hold the lock of a content until the transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", *_lock_of(sha256))


def _lock_of(sha256: bytes) -> tuple[int, int]:
    return _LOCK, int.from_bytes(sha256[:4], "big", signed=True)


async def place_of(tx: Tx, sha256: bytes) -> Place | None:
    """Where the file with this content is, if there is one."""
    return await fetch_one_as(
        tx,
        Place,
        """
        SELECT store, coalesce(key, encode(sha256, 'hex')) AS key
          FROM media_files
         WHERE sha256 = $1
        """,
        sha256,
    )


async def add_file(tx: Tx, sha256: bytes, size: int, place: Place) -> Place | None:
    """Count a file among those stored; None when its content is blocked.

    When there is one with this content already, the answer is where that one is.
    """
    return await fetch_one_as(
        tx,
        Place,
        """
        WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock($1, $2))
        INSERT INTO media_files (sha256, size, store, key)
        SELECT $3, $4, $5, $6
          FROM locked
         WHERE NOT EXISTS (SELECT FROM media_blocked WHERE sha256 = $3)
        ON CONFLICT (sha256) DO UPDATE SET size = media_files.size
        RETURNING store, coalesce(key, encode(sha256, 'hex')) AS key
        """,
        *_lock_of(sha256),
        sha256,
        size,
        place.store,
        place.key,
    )


async def add_upload(
    tx: Tx, mxc: Mxc, user_id: UserId, content: Content
) -> Place | None:
    """A new file of a user: `add_file` and `add` in one statement."""
    return await fetch_one_as(
        tx,
        Place,
        """
        WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock($1, $2)),
        file AS (
            INSERT INTO media_files (sha256, size, store, key)
            SELECT $3, $4, $5, $6
              FROM locked
             WHERE NOT EXISTS (SELECT FROM media_blocked WHERE sha256 = $3)
            ON CONFLICT (sha256) DO UPDATE SET size = media_files.size
            RETURNING store, coalesce(key, encode(sha256, 'hex')) AS key
        ),
        named AS (
            INSERT INTO media (origin, media_id, user_id, sha256, size, content_type,
                               filename, stored_at)
            SELECT $7, $8, $9, $3, $4, $10, $11, now() FROM file
        )
        SELECT store, key FROM file
        """,
        *_lock_of(content.sha256),
        content.sha256,
        content.size,
        content.place.store,
        content.place.key,
        mxc.origin,
        mxc.media_id,
        user_id,
        content.content_type,
        None if content.filename is None else to_text(content.filename),
    )


async def add(tx: Tx, mxc: Mxc, user_id: UserId | None, content: Content) -> None:
    """A file of ours, or a copy of another server's in place of the old one."""
    await tx.execute(
        """
        INSERT INTO media (origin, media_id, user_id, sha256, size, content_type,
                           filename, stored_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, now())
        ON CONFLICT (origin, media_id) DO UPDATE
           SET sha256 = EXCLUDED.sha256, size = EXCLUDED.size,
               content_type = EXCLUDED.content_type, filename = EXCLUDED.filename,
               stored_at = EXCLUDED.stored_at, used_at = now()
         WHERE media.user_id IS NULL
        """,
        mxc.origin,
        mxc.media_id,
        user_id,
        content.sha256,
        content.size,
        content.content_type,
        None if content.filename is None else to_text(content.filename),
    )


async def create(
    tx: Tx, mxc: Mxc, user_id: UserId, seconds: float, most: int
) -> datetime | None:
    """A URI for a file that is uploaded later, and until when it may be.

    None: the user has `most` of them already.
    """
    expires_at: datetime | None = await tx.fetchval(
        """
        INSERT INTO media (origin, media_id, user_id, expires_at)
        SELECT $1, $2, $3, now() + make_interval(secs => $4)
         WHERE $5 > (SELECT count(*)
                       FROM media
                      WHERE user_id = $3 AND sha256 IS NULL AND expires_at >= now())
        RETURNING expires_at
        """,
        mxc.origin,
        mxc.media_id,
        user_id,
        seconds,
        most,
    )
    return expires_at


async def fill(tx: Tx, mxc: Mxc, content: Content) -> bool:
    """Upload to a created URI; False when somebody else was faster, or it expired."""
    filled = await tx.fetchval(
        """
        UPDATE media
           SET sha256 = $3, size = $4, content_type = $5, filename = $6,
               stored_at = now(), used_at = now(), expires_at = NULL
         WHERE origin = $1 AND media_id = $2 AND sha256 IS NULL AND expires_at >= now()
        RETURNING true
        """,
        mxc.origin,
        mxc.media_id,
        content.sha256,
        content.size,
        content.content_type,
        None if content.filename is None else to_text(content.filename),
    )
    return filled is not None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much is stored, in bytes: of one user, and of all users of this server."""

    user: int
    total: int


async def usage(tx: Tx, user_id: UserId, *, with_total: bool) -> Usage:
    """How much is stored. The total costs a walk and is 0 unless asked for."""
    found = await fetch_one_as(
        tx,
        Usage,
        """
        SELECT (SELECT coalesce(sum(size), 0) FROM media WHERE user_id = $1)::bigint
                 AS user,
               CASE WHEN $2
                    THEN (SELECT coalesce(sum(size), 0)
                            FROM media
                           WHERE user_id IS NOT NULL)
                    ELSE 0
               END::bigint AS total
        """,
        user_id,
        with_total,
    )
    return found or Usage(0, 0)


async def touch(tx: Tx, used: Sequence[Mxc]) -> None:
    """Note that these files have been used just now."""
    await tx.execute(
        """
        UPDATE media
           SET used_at = now()
          FROM unnest($1::text[], $2::text[]) AS u (origin, media_id)
         WHERE media.origin = u.origin AND media.media_id = u.media_id
        """,
        [mxc.origin for mxc in used],
        [mxc.media_id for mxc in used],
    )


async def forget_copy(tx: Tx, mxc: Mxc) -> None:
    """Forget the copy of another server's file; a quarantine stays."""
    await tx.execute(
        """
        DELETE FROM media
         WHERE origin = $1 AND media_id = $2 AND user_id IS NULL
           AND quarantined_by IS NULL
        """,
        mxc.origin,
        mxc.media_id,
    )
