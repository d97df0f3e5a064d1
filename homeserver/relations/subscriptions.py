"""The table `thread_subscriptions`: which threads users follow. MSC4306, MSC4308.

A row stays when its user unsubscribes: it says since when, so that no device of theirs
subscribes them again for something from before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import EventId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whether a user follows a thread, and since when it stands so."""

    room_id: str
    thread_id: EventId
    subscribed: bool
    automatic: bool
    position: int


@dataclass(frozen=True, slots=True)
class Wish:
    """To follow a thread, or not to.

    `cause` is the position of the event because of which a client does it by itself;
    None when the user wants it.
    """

    user_id: UserId
    room_nid: int
    thread_id: EventId
    subscribed: bool
    cause: int | None = None


async def write_wishes(tx: Tx, batch: Sequence[Positioned[Wish]]) -> None:
    """Note wishes, each at its position, in order. For the committer.

    Wishes of clients yield to what users have said: to a subscription that they wanted,
    and to the end of one, unless the cause came after it.
    """
    for each in batch:
        wish = each.item
        await tx.execute(
            """
            INSERT INTO thread_subscriptions AS t
                   (user_id, room_nid, thread_id, subscribed, automatic, position)
            VALUES ($1, $2, $3, $4, $5::bigint IS NOT NULL, $6)
            ON CONFLICT (user_id, room_nid, thread_id) DO UPDATE
               SET subscribed = EXCLUDED.subscribed, automatic = EXCLUDED.automatic,
                   position = EXCLUDED.position
             WHERE (t.subscribed, t.automatic)
                   IS DISTINCT FROM (EXCLUDED.subscribed, EXCLUDED.automatic)
               AND ($5 IS NULL OR (NOT t.subscribed AND t.position < $5))
            """,
            wish.user_id,
            wish.room_nid,
            wish.thread_id,
            wish.subscribed,
            wish.cause,
            each.position,
        )


async def read_subscription(
    tx: Tx, user_id: UserId, room_nid: int, thread_id: EventId
) -> Subscription | None:
    """What was said last of this thread."""
    return await fetch_one_as(
        tx,
        Subscription,
        """
        SELECT r.room_id, t.thread_id, t.subscribed, t.automatic, t.position
          FROM thread_subscriptions t JOIN rooms r USING (room_nid)
         WHERE t.user_id = $1 AND t.room_nid = $2 AND t.thread_id = $3
        """,
        user_id,
        room_nid,
        thread_id,
    )


async def followed(tx: Tx, user_id: UserId) -> dict[int, frozenset[str]]:
    """The threads that a user follows, by room number."""
    rows = await tx.fetch(
        """
        SELECT room_nid, array_agg(thread_id) FROM thread_subscriptions
         WHERE user_id = $1 AND subscribed GROUP BY room_nid
        """,
        user_id,
    )
    return {nid: frozenset(thread_ids) for nid, thread_ids in rows}


async def read_changes(
    tx: Tx, user_id: UserId, since: int, upto: int, limit: int
) -> list[Subscription]:
    """What was said after `since`, up to and with `upto`, the newest first."""
    return await fetch_as(
        tx,
        Subscription,
        """
        SELECT r.room_id, t.thread_id, t.subscribed, t.automatic, t.position
          FROM thread_subscriptions t JOIN rooms r USING (room_nid)
         WHERE t.user_id = $1 AND t.position > $2 AND t.position <= $3
         ORDER BY t.position DESC LIMIT $4
        """,
        user_id,
        since,
        upto,
        limit,
    )


def sections(changes: Sequence[Subscription]) -> JsonObject:
    """`subscribed` and `unsubscribed`, as both endpoints show them."""
    found: dict[str, dict[str, dict[str, JsonValue]]] = {}
    for each in changes:
        stamp: JsonObject = {"bump_stamp": each.position}
        if each.subscribed:
            stamp["automatic"] = each.automatic
        kind = "subscribed" if each.subscribed else "unsubscribed"
        rooms = found.setdefault(kind, {})
        rooms.setdefault(each.room_id, {})[each.thread_id] = stamp
    return {kind: {**rooms} for kind, rooms in found.items()}
