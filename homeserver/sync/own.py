"""What is the user's own: account data, of no room and of rooms."""

from collections import defaultdict
from collections.abc import Mapping

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text
from homeserver.push.store import PUSH_RULES, default_content


async def read_account_data(
    tx: Tx, user_id: UserId, since: int, upto: int
) -> Mapping[int, list[JsonObject]]:
    """Account data that changed, as events by room number; 0 is of no room.

    Everybody has push rules, also who has never changed them.
    """
    rows = await tx.fetch(
        """
        SELECT room_nid, type, content FROM account_data
         WHERE user_id = $1 AND position > $2 AND position <= $3
         ORDER BY position
        """,
        user_id,
        since,
        upto,
    )
    found: defaultdict[int, list[JsonObject]] = defaultdict(list)
    for room_nid, event_type, content in rows:
        found[room_nid].append(
            {"type": from_text(event_type), "content": orjson.loads(content)}
        )
    if not since and not any(event["type"] == PUSH_RULES for event in found[0]):
        found[0].append({"type": PUSH_RULES, "content": default_content(user_id)})
    return found
