"""The table `profiles`; values are JSON, so they may hold U+0000.

A field that was removed stays as `null`, so that clients hear of it; values of users
are never null.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import orjson

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned, Reach

REMOVED: Final = "null"


@dataclass(frozen=True, slots=True)
class Edit:
    """A field that a user sets, or removes when the value is None.

    `check` sees the profile as it then is, and may refuse it. `tell_rooms`: member
    events carry the field, so the user's rooms are to be told.
    """

    user_id: UserId
    name: str
    value: JsonValue
    check: Callable[[JsonObject], None]
    tell_rooms: bool
    reach: Reach = field(default_factory=Reach)


async def profile(tx: Tx, user_id: UserId) -> JsonObject:
    """All fields of a local user's profile."""
    rows = await tx.fetch(
        """
        SELECT field, value FROM profiles
         WHERE user_id = $1 AND value <> 'null' ORDER BY field
        """,
        user_id,
    )
    return {row["field"]: orjson.loads(row["value"]) for row in rows}


async def put_field(tx: Tx, user_id: UserId, name: str, value: JsonValue) -> None:
    """Set a field of a user who is new, so that nobody has to be told."""
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


async def edit(tx: Tx, batch: Sequence[Positioned[Edit]]) -> None:
    """Change profiles, each on top of the one before. For the committer.

    Commits follow one another, so that the size of a profile holds. Raises: whatever
    a check raises.
    """
    for each in batch:
        item = each.item
        old = await profile(tx, item.user_id)
        if item.value is None and item.name not in old:
            continue
        if item.value is not None:
            item.check({**old, item.name: item.value})
        await tx.execute(
            """
            INSERT INTO profiles (user_id, field, value, position)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (user_id, field) DO UPDATE
               SET value = EXCLUDED.value, position = EXCLUDED.position
            """,
            item.user_id,
            item.name,
            orjson.dumps(item.value).decode(),
            each.position,
        )
        await _reach(tx, item)
        if item.tell_rooms:
            await queue_telling(tx, item.user_id, each.position)


async def _reach(tx: Tx, item: Edit) -> None:
    rows = await tx.fetch(
        """
        SELECT room_nid FROM memberships WHERE user_id = $1 AND membership = 'join'
        """,
        item.user_id,
    )
    item.reach.rooms.update(row[0] for row in rows)


# ── Telling the user's rooms ─────────────────────────────────────────────────────────


async def queue_telling(tx: Tx, user_id: UserId, position: int) -> None:
    """Leave word that a user's rooms are to be told."""
    await tx.execute(
        """
        INSERT INTO profile_tellings (user_id, position) VALUES ($1, $2)
        ON CONFLICT (user_id) DO UPDATE SET position = EXCLUDED.position
        """,
        user_id,
        position,
    )


# A user, and the position of the change of which the rooms are to be told.
Telling: TypeAlias = tuple[UserId, int]


async def claim_tellings(tx: Tx, seconds: float, limit: int) -> list[Telling]:
    """Some users whose rooms are to be told, for so long; nobody else takes them."""
    rows = await tx.fetch(
        """
        UPDATE profile_tellings t SET claimed_until = now() + $1 * interval '1 s'
          FROM (SELECT user_id FROM profile_tellings
                 WHERE claimed_until IS NULL OR claimed_until < now()
                 ORDER BY position LIMIT $2 FOR UPDATE SKIP LOCKED) AS due
         WHERE t.user_id = due.user_id
        RETURNING t.user_id, t.position
        """,
        seconds,
        limit,
    )
    return [(UserId(user_id), position) for user_id, position in rows]


async def renew_tellings(tx: Tx, tellings: Sequence[Telling], seconds: float) -> None:
    """Keep users for so long from now on."""
    await tx.execute(
        """
        UPDATE profile_tellings SET claimed_until = now() + $2 * interval '1 s'
         WHERE user_id = ANY($1)
        """,
        [user_id for user_id, _ in tellings],
        seconds,
    )


async def is_telling_due(tx: Tx, user_id: UserId) -> bool:
    """Whether the user's rooms have not all been told yet."""
    return bool(
        await tx.fetchval(
            "SELECT EXISTS (SELECT FROM profile_tellings WHERE user_id = $1)", user_id
        )
    )


async def finish_telling(tx: Tx, user_id: UserId, position: int) -> None:
    """What was there at a position has been told; what came later is still due."""
    await tx.execute(
        """
        WITH done AS (
            DELETE FROM profile_tellings WHERE user_id = $1 AND position <= $2
        )
        UPDATE profile_tellings SET claimed_until = NULL
         WHERE user_id = $1 AND position > $2
        """,
        user_id,
        position,
    )


# ── For sync ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Said:
    """A field of somebody; None: it was removed."""

    user_id: UserId
    name: str
    value: JsonValue


async def said_between(
    tx: Tx,
    reader: UserId,
    names: Sequence[str] | None,
    room_nids: Sequence[int],
    since: int,
    upto: int,
    limit: int,
) -> list[Said]:
    """What moved after `since`, of those who share one of these rooms with the reader.

    `names` None: all fields. The reader's own are among them.
    """
    rows = await tx.fetch(
        """
        SELECT p.user_id, p.field, p.value FROM profiles p
         WHERE p.position > 0 AND p.position > $4 AND p.position <= $5
           AND ($2::text[] IS NULL OR p.field = ANY($2))
           AND (p.user_id = $1 OR EXISTS (
                    SELECT FROM memberships m
                     WHERE m.user_id = p.user_id AND m.membership = 'join'
                       AND m.room_nid = ANY($3)))
         ORDER BY p.position LIMIT $6
        """,
        reader,
        names,
        room_nids,
        since,
        upto,
        limit,
    )
    return [_said(*row) for row in rows]


async def said_in(
    tx: Tx,
    names: Sequence[str] | None,
    room_nids: Sequence[int],
    since: int,
    limit: int,
) -> list[Said]:
    """What those say who are in these rooms and came into them after `since`."""
    rows = await tx.fetch(
        """
        SELECT p.user_id, p.field, p.value FROM profiles p
         WHERE p.value <> 'null' AND ($1::text[] IS NULL OR p.field = ANY($1))
           AND p.user_id IN (
               SELECT m.user_id FROM memberships m
                WHERE m.membership = 'join' AND m.local
                  AND m.room_nid = ANY($2) AND m.position > $3)
         ORDER BY p.user_id LIMIT $4
        """,
        names,
        room_nids,
        since,
        limit,
    )
    return [_said(*row) for row in rows]


def _said(user_id: str, name: str, value: str) -> Said:
    return Said(UserId(user_id), name, orjson.loads(value))
