"""The table `profiles`; values are JSON, so they may hold U+0000."""

import orjson

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver.db.pool import Tx


async def profile(tx: Tx, user_id: UserId) -> JsonObject:
    """All fields of a local user's profile."""
    rows = await tx.fetch(
        "SELECT field, value FROM profiles WHERE user_id = $1 ORDER BY field", user_id
    )
    return {row["field"]: orjson.loads(row["value"]) for row in rows}


async def put_field(tx: Tx, user_id: UserId, name: str, value: JsonValue) -> None:
    """Set a field."""
    await tx.execute(
        """
        INSERT INTO profiles (user_id, field, value)
        VALUES ($1, $2, $3)
        ON CONFLICT (user_id, field) DO UPDATE SET value = EXCLUDED.value
        """,
        user_id,
        name,
        orjson.dumps(value).decode(),
    )


async def delete_field(tx: Tx, user_id: UserId, name: str) -> bool:
    """Remove a field; False when it was not set."""
    return bool(
        await tx.fetchval(
            """
            DELETE FROM profiles
             WHERE user_id = $1 AND field = $2
            RETURNING true
            """,
            user_id,
            name,
        )
    )
