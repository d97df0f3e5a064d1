"""Taking files away: quarantine of a file, of a user's files, or of a content for good.

For the admin API. A quarantined file is kept and given to nobody, so that the step can
be undone; a blocked content may not even be uploaded again, under whatever name. What
is protected is left alone when many files are quarantined at once.
"""

from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as
from homeserver.media.store import Mxc, lock_content


async def quarantine(tx: Tx, mxc: Mxc, by: UserId) -> bool:
    """Give the file to nobody; False: there is none, and it is not fetched from now on.

    Its thumbnails go the same way, as they are found through the file.
    """
    known = await tx.fetchval(
        """
        INSERT INTO media AS m (origin, media_id, quarantined_by)
        VALUES ($1, $2, $3)
        ON CONFLICT (origin, media_id) DO UPDATE
           SET quarantined_by = EXCLUDED.quarantined_by
        RETURNING sha256 IS NOT NULL
        """,
        mxc.origin,
        mxc.media_id,
        by,
    )
    return bool(known)


async def quarantine_of_user(tx: Tx, user_id: UserId, by: UserId) -> int:
    """Quarantine all that a user uploaded, but for what is protected; how many."""
    rows = await tx.fetch(
        """
        UPDATE media
           SET quarantined_by = $2
         WHERE user_id = $1 AND NOT protected AND quarantined_by IS NULL
        RETURNING media_id
        """,
        user_id,
        by,
    )
    return len(rows)


async def release(tx: Tx, mxc: Mxc) -> bool:
    """Undo a quarantine; False: there was none."""
    released = await tx.fetchval(
        """
        UPDATE media SET quarantined_by = NULL
         WHERE origin = $1 AND media_id = $2 AND quarantined_by IS NOT NULL
        RETURNING true
        """,
        mxc.origin,
        mxc.media_id,
    )
    # What stood there only to say so is forgotten.
    await tx.execute(
        """
        DELETE FROM media
         WHERE origin = $1 AND media_id = $2 AND user_id IS NULL AND sha256 IS NULL
           AND quarantined_by IS NULL
        """,
        mxc.origin,
        mxc.media_id,
    )
    return released is not None


async def protect(tx: Tx, mxc: Mxc, *, protected: bool) -> bool:
    """Leave a file alone when many are quarantined, or no longer; False: none such."""
    found = await tx.fetchval(
        """
        UPDATE media SET protected = $3
         WHERE origin = $1 AND media_id = $2
        RETURNING true
        """,
        mxc.origin,
        mxc.media_id,
        protected,
    )
    return found is not None


async def block(tx: Tx, sha256: bytes, by: UserId, reason: str = "") -> None:
    """Give this content to nobody, and take it from nobody, until `unblock`."""
    await lock_content(tx, sha256)
    await tx.execute(
        """
        INSERT INTO media_blocked (sha256, blocked_by, reason) VALUES ($1, $2, $3)
        ON CONFLICT (sha256) DO NOTHING
        """,
        sha256,
        by,
        reason.replace("\0", "")[:1000],
    )


async def unblock(tx: Tx, sha256: bytes) -> bool:
    """Let the content be as any other; False: it was not blocked."""
    found = await tx.fetchval(
        "DELETE FROM media_blocked WHERE sha256 = $1 RETURNING true", sha256
    )
    return found is not None


async def delete(tx: Tx, mxc: Mxc) -> bool:
    """Forget a file. Its content goes with the next sweep, if nothing else has it."""
    found = await tx.fetchval(
        "DELETE FROM media WHERE origin = $1 AND media_id = $2 RETURNING true",
        mxc.origin,
        mxc.media_id,
    )
    await tx.execute(
        "DELETE FROM media_references WHERE origin = $1 AND media_id = $2",
        mxc.origin,
        mxc.media_id,
    )
    return found is not None


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as administrators see it."""

    media_id: str
    sha256: bytes | None
    size: int | None
    content_type: str | None
    filename: str | None
    created_ms: int
    used_ms: int
    protected: bool
    quarantined_by: str | None


async def files_of(tx: Tx, user_id: UserId, after: str, limit: int) -> list[Listed]:
    """A page of what a user uploaded, by media ID; `filename` as the table has it."""
    return await fetch_as(
        tx,
        Listed,
        """
        SELECT media_id, sha256, size, content_type, filename,
               (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
               (extract(epoch FROM used_at) * 1000)::bigint AS used_ms,
               protected, quarantined_by
          FROM media
         WHERE user_id = $1 AND media_id > $2
         ORDER BY media_id
         LIMIT $3
        """,
        user_id,
        after,
        limit,
    )
