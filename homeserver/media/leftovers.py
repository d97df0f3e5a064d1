"""What is no longer needed: which rows go, and which files with them."""

from collections.abc import Sequence

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as
from homeserver.media import store
from homeserver.media.places import Place

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


async def forget_file(tx: Tx, sha256: bytes) -> Place | None:
    """Forget a file, unless it is needed by now; where it is to be deleted.

    Delete it once the transaction is committed.
    """
    # A statement of its own: the next one sees what was committed before the lock.
    await store.lock_content(tx, sha256)
    return await fetch_one_as(
        tx,
        Place,
        """
        DELETE FROM media_files f
         WHERE sha256 = $1
           AND NOT EXISTS (SELECT FROM media m WHERE m.sha256 = f.sha256)
           AND NOT EXISTS (SELECT FROM media_thumbnails t WHERE t.sha256 = f.sha256)
        RETURNING store, coalesce(key, encode(sha256, 'hex')) AS key
        """,
        sha256,
    )


async def unknown(tx: Tx, store_name: str, keys: Sequence[str]) -> list[str]:
    """Which of these keys of a store no row knows."""
    rows = await tx.fetch(
        """
        SELECT u.key
          FROM unnest($2::text[], $3::bytea[]) AS u (key, sha256)
         WHERE NOT EXISTS (SELECT FROM media_files f
                            WHERE f.store = $1 AND f.key = u.key)
           AND NOT EXISTS (SELECT FROM media_files f
                            WHERE f.store = $1 AND f.key IS NULL
                              AND f.sha256 = u.sha256)
        """,
        store_name,
        keys,
        [_content_of(key) for key in keys],
    )
    return [row["key"] for row in rows]


def _content_of(key: str) -> bytes | None:
    """The content that a key names, when it is one of the first kind."""
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None
