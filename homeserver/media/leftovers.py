"""What is no longer needed: which rows go, and which files with them."""

from collections.abc import Sequence

from homeserver.db.pool import Tx
from homeserver.media import store

_BATCH = 500


async def forget_expired(tx: Tx) -> None:
    """Forget URIs that were created, and never uploaded to."""
    await tx.execute(
        """
        DELETE FROM media
         WHERE sha256 IS NULL AND expires_at < now() - interval '1 day'
           AND quarantined_by IS NULL
        """
    )


async def forget_copies_beyond(tx: Tx, most_bytes: int) -> int:
    """Forget copies of other servers' files, those used longest ago; how many.

    What is quarantined keeps its row, so that it is not fetched anew.
    """
    used = await tx.fetchval(
        """
        SELECT coalesce(sum(size), 0)
          FROM media
         WHERE user_id IS NULL AND sha256 IS NOT NULL
        """
    )
    if used <= most_bytes:
        return 0
    await tx.execute(
        """
        UPDATE media SET sha256 = NULL
         WHERE user_id IS NULL AND sha256 IS NOT NULL AND quarantined_by IS NOT NULL
        """
    )
    forgotten: int = await tx.fetchval(
        """
        WITH counted AS (
            SELECT origin, media_id,
                   sum(size) OVER (ORDER BY used_at DESC, origin, media_id) AS upto
              FROM media
             WHERE user_id IS NULL AND sha256 IS NOT NULL
        ), forgotten AS (
            DELETE FROM media m
             USING counted c
             WHERE m.origin = c.origin AND m.media_id = c.media_id
               AND c.upto > $1
            RETURNING 1
        )
        SELECT count(*) FROM forgotten
        """,
        most_bytes,
    )
    return forgotten


async def forget_unused_copies(tx: Tx, days: int) -> None:
    """Forget copies that nobody asked for in so many days."""
    await tx.execute(
        """
        DELETE FROM media
         WHERE user_id IS NULL AND sha256 IS NOT NULL AND quarantined_by IS NULL
           AND used_at < now() - make_interval(days => $1)
        """,
        days,
    )


async def forget_thumbnails(tx: Tx) -> None:
    """Forget thumbnails of files that are gone."""
    await tx.execute(
        """
        DELETE FROM media_thumbnails t
         WHERE NOT EXISTS (SELECT FROM media m WHERE m.sha256 = t.source)
        """
    )


async def unneeded(tx: Tx) -> list[bytes]:
    """Files that nothing needs; some of them, when there are many."""
    rows = await tx.fetch(
        """
        SELECT sha256
          FROM media_files f
         WHERE NOT EXISTS (SELECT FROM media m WHERE m.sha256 = f.sha256)
           AND NOT EXISTS (SELECT FROM media_thumbnails t WHERE t.sha256 = f.sha256)
         LIMIT $1
        """,
        _BATCH,
    )
    return [row["sha256"] for row in rows]


async def forget_file(tx: Tx, sha256: bytes) -> bool:
    """Forget a file, unless it is needed by now.

    Its content stays locked until the transaction ends; True: delete it by then.
    """
    await store.lock_content(tx, sha256)
    await tx.execute(
        """
        DELETE FROM media_files f
         WHERE sha256 = $1
           AND NOT EXISTS (SELECT FROM media m WHERE m.sha256 = f.sha256)
           AND NOT EXISTS (SELECT FROM media_thumbnails t WHERE t.sha256 = f.sha256)
        """,
        sha256,
    )
    is_known = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM media_files WHERE sha256 = $1)", sha256
    )
    return not is_known


async def unknown(tx: Tx, contents: Sequence[bytes]) -> list[bytes]:
    """Which of these contents no row knows."""
    rows = await tx.fetch(
        """
        SELECT u.sha256
          FROM unnest($1::bytea[]) AS u (sha256)
         WHERE NOT EXISTS (SELECT FROM media_files f WHERE f.sha256 = u.sha256)
        """,
        contents,
    )
    return [row["sha256"] for row in rows]
