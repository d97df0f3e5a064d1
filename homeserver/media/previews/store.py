"""The table `url_previews`: what was found, for a while."""

import hashlib

import orjson

from federation.canonical_json import JsonObject
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text

KEPT_SECONDS = 3600.0


def _key(url: str) -> bytes:
    return hashlib.sha256(url.encode("utf-8", "replace")).digest()


async def find(tx: Tx, url: str) -> JsonObject | None:
    """The preview that was found lately."""
    found = await tx.fetchval(
        """
        SELECT preview
          FROM url_previews
         WHERE url_hash = $1 AND found_at > now() - make_interval(secs => $2)
        """,
        _key(url),
        KEPT_SECONDS,
    )
    if found is None:
        return None
    preview: JsonObject = orjson.loads(from_text(found))
    return preview


async def keep(tx: Tx, url: str, preview: JsonObject) -> None:
    """Keep a preview for others who ask."""
    await tx.execute(
        """
        INSERT INTO url_previews (url_hash, preview) VALUES ($1, $2)
        ON CONFLICT (url_hash) DO UPDATE
           SET preview = EXCLUDED.preview, found_at = now()
        """,
        _key(url),
        to_text(orjson.dumps(preview).decode()),
    )


async def forget_old(tx: Tx) -> None:
    """Forget those that count no longer."""
    await tx.execute(
        """
        DELETE FROM url_previews WHERE found_at < now() - make_interval(secs => $1)
        """,
        KEPT_SECONDS,
    )
