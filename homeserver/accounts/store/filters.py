"""The table `filters`. A filter's number is made from its content."""

import hashlib

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx


async def add_filter(tx: Tx, user_id: UserId, filter_: JsonObject) -> int:
    """Keep a filter; the same one has the same number."""
    text = canonical_json.encode(filter_)
    filter_id = int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1
    await tx.execute(
        """
        INSERT INTO filters (user_id, filter_id, filter)
        VALUES ($1, $2, $3)
        ON CONFLICT (user_id, filter_id) DO NOTHING
        """,
        user_id,
        filter_id,
        text.decode(),
    )
    return filter_id


async def filter_text(tx: Tx, user_id: UserId, filter_id: int) -> str | None:
    """A filter's JSON."""
    text: str | None = await tx.fetchval(
        "SELECT filter FROM filters WHERE user_id = $1 AND filter_id = $2",
        user_id,
        filter_id,
    )
    return text
