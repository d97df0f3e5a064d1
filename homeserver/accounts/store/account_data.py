"""The table `account_data`. Types may hold U+0000, so they are escaped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.live.changes import Positioned

# In the column room_nid: not of a room.
OF_NO_ROOM: Final = 0


@dataclass(frozen=True, slots=True)
class AccountData:
    """What a user sets for a type, of a room or of none."""

    user_id: UserId
    room_nid: int
    type: str
    content: JsonObject


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of what is there, made when its turn comes.

    `change` gets the content (`{}` when there is none) and gives the new one.
    """

    user_id: UserId
    room_nid: int
    type: str
    change: Callable[[JsonObject], JsonObject]


async def content(
    tx: Tx, user_id: UserId, room_nid: int, type_: str
) -> JsonObject | None:
    """What the user has set for the type."""
    text = await tx.fetchval(
        """
        SELECT content
          FROM account_data
         WHERE user_id = $1 AND room_nid = $2 AND type = $3 AND NOT deleted
        """,
        user_id,
        room_nid,
        to_text(type_),
    )
    if text is None:
        return None
    found: JsonObject = orjson.loads(text)
    return found


async def put(tx: Tx, batch: Sequence[Positioned[AccountData]]) -> None:
    """Set the contents. For the committer."""
    # Of the same user, room and type, the last wins.
    last = {(e.item.user_id, e.item.room_nid, e.item.type): e for e in batch}
    entries = list(last.values())
    await tx.execute(
        """
        INSERT INTO account_data (user_id, room_nid, type, content, position)
        SELECT *
          FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
        ON CONFLICT (user_id, room_nid, type) DO UPDATE
           SET content = EXCLUDED.content, position = EXCLUDED.position,
               deleted = false
        """,
        [entry.item.user_id for entry in entries],
        [entry.item.room_nid for entry in entries],
        [to_text(entry.item.type) for entry in entries],
        [orjson.dumps(entry.item.content).decode() for entry in entries],
        [entry.position for entry in entries],
    )


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a user no longer wants to have set for a type."""

    user_id: UserId
    room_nid: int
    type: str


async def delete(tx: Tx, batch: Sequence[Positioned[Deletion]]) -> None:
    """Delete contents; what is not there stays so. For the committer."""
    await tx.execute(
        """
        UPDATE account_data a
           SET content = '{}', deleted = true, position = u.position
          FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[])
               AS u (user_id, room_nid, type, position)
         WHERE a.user_id = u.user_id AND a.room_nid = u.room_nid AND a.type = u.type
           AND NOT a.deleted
        """,
        [each.item.user_id for each in batch],
        [each.item.room_nid for each in batch],
        [to_text(each.item.type) for each in batch],
        [each.position for each in batch],
    )


async def edit(tx: Tx, batch: Sequence[Positioned[Edit]]) -> None:
    """Change contents, each on top of the one before. For the committer.

    Commits follow one another, so nothing can come between the reading and the
    writing.
    """
    for each in batch:
        item = each.item
        old = await content(tx, item.user_id, item.room_nid, item.type)
        new = AccountData(
            item.user_id, item.room_nid, item.type, item.change(old or {})
        )
        await put(tx, [Positioned(each.position, new)])
