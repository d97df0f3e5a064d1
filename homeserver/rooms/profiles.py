"""The part of a user's profile that member events carry.

Spec: client-server-api#events-on-change-of-profile-information
"""

from collections.abc import Iterable
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx

FIELDS: Final = ("displayname", "avatar_url")


async def read_names(tx: Tx, user_ids: Iterable[UserId]) -> dict[UserId, JsonObject]:
    """Display names and avatars of local users; an empty object for who has none."""
    names: dict[UserId, JsonObject] = {user_id: {} for user_id in user_ids}
    rows = await tx.fetch(
        """
        SELECT user_id, field, value FROM profiles
         WHERE user_id = ANY($1) AND field = ANY($2)
        """,
        list(names),
        FIELDS,
    )
    for user_id, field, value in rows:
        text = orjson.loads(value)
        if isinstance(text, str):
            names[user_id][field] = text
    return names


async def read_name(tx: Tx, user_id: UserId) -> JsonObject:
    """One local user's display name and avatar, as far as they are set."""
    return (await read_names(tx, (user_id,)))[user_id]
