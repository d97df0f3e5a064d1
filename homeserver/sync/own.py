"""What is the user's own: account data, of no room and of rooms."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text
from homeserver.push.rules import Extras
from homeserver.push.store import PUSH_RULES, read_content


class Set(NamedTuple):
    """What the user set at a position; room number 0 is of no room."""

    room_nid: int
    position: int
    event: JsonObject

    @property
    def is_push_rules(self) -> bool:
        """Whether it is the user's push rules."""
        return not self.room_nid and self.event["type"] == PUSH_RULES


async def read_account_data(
    tx: Tx, user_id: UserId, since: int, upto: int, extras: Extras
) -> Mapping[int, list[JsonObject]]:
    """Account data that changed, as events by room number; 0 is of no room."""
    found: defaultdict[int, list[JsonObject]] = defaultdict(list)
    for each in await account_data_between(tx, user_id, since, upto, extras):
        found[each.room_nid].append(each.event)
    return found


async def account_data_between(
    tx: Tx, user_id: UserId, since: int, upto: int, extras: Extras
) -> list[Set]:
    """Account data that changed after `since`, up to and with `upto`, in order.

    What was deleted is empty; who begins anew is not told of it (MSC3391). Everybody
    has push rules from the start, also who has never changed them: `extras` says which.
    """
    rows = await tx.fetch(
        """
        SELECT room_nid, position, type, content FROM account_data
         WHERE user_id = $1 AND position > $2 AND position <= $3
           AND ($2 > 0 OR NOT deleted)
         ORDER BY position
        """,
        user_id,
        since,
        upto,
    )
    found = [_set(*row) for row in rows]
    rules = next((each for each in found if each.is_push_rules), None)
    if rules is None and not since:
        rules = Set(0, upto, {"type": PUSH_RULES, "content": {}})
        found.append(rules)
    if rules is not None:
        # As kept, they have the predefined rules of the release that kept them.
        rules.event["content"] = await read_content(tx, user_id, extras)
    return found


async def account_data_of(
    tx: Tx, user_id: UserId, room_nids: Sequence[int]
) -> list[Set]:
    """All account data of these rooms."""
    rows = await tx.fetch(
        """
        SELECT room_nid, position, type, content FROM account_data
         WHERE user_id = $1 AND room_nid = ANY($2) AND NOT deleted
         ORDER BY position
        """,
        user_id,
        room_nids,
    )
    return [_set(*row) for row in rows]


def _set(room_nid: int, position: int, event_type: str, content: str) -> Set:
    event: JsonObject = {
        "type": from_text(event_type),
        "content": orjson.loads(content),
    }
    return Set(room_nid, position, event)
