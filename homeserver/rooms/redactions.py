"""Redactions that go on to what relates to the event. MSC3912.

The wish is kept for some days, so that it also holds for children that come late, and
whatever becomes of the process that took it.

Table: relation_redactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.errors import Rejected
from federation.ids import EventId, UserId
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, to_text
from homeserver.errors import MatrixError
from homeserver.events.relations import REPLACE, is_valid_edit
from homeserver.events.stored import StoredEvent
from homeserver.live.room import Room
from homeserver.rooms.posting import REDACTION, Author, Post, put_redaction

EVERY_S: Final = 10.0
ANY: Final = "*"
# Children that are redacted while the client waits; the others follow.
_AT_ONCE: Final = 50
_MOST: Final = 300  # in one go
_SWEEPS: Final = 10
_KEPT: Final = "7 days"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A wish, and how far it has been fulfilled."""

    room_nid: int
    event_id: EventId
    user_id: UserId
    admin: bool
    rel_types: Sequence[str]
    content: str
    upto: int


async def redact_children(
    ctx: Context,
    room: Room,
    author: Author,
    parent: EventId,
    rel_types: Sequence[str],
    content: JsonObject,
) -> None:
    """Redact what relates so to an event that the author has redacted."""
    async with ctx.db.transaction() as tx:
        (sweep,) = await _insert(tx, room.nid, author, parent, rel_types, content)
    await _go_on(ctx, sweep, _AT_ONCE)


async def go_on(ctx: Context) -> None:
    """Redact the children that were left over or have come since."""
    async with ctx.db.transaction() as tx:
        await tx.execute(
            """
            DELETE FROM relation_redactions
             WHERE created_at < now() - $1::text::interval
            """,
            _KEPT,
        )
        sweeps = await _claim(tx)
    for sweep in sweeps:
        await _go_on(ctx, sweep, _MOST)


async def _go_on(ctx: Context, sweep: Sweep, most: int) -> None:
    room = await ctx.live.view.room(sweep.room_nid)
    parent = await ctx.live.events.by_id(sweep.event_id)
    if room is None or parent is None or not room.is_joined(sweep.user_id):
        async with ctx.db.transaction() as tx:
            await _forget(tx, sweep)
        return
    async with ctx.db.read() as tx:
        places = await _read_children(tx, sweep, most)
    children = await ctx.live.events.by_nids(nid for nid, _ in places)
    author = Author(sweep.user_id, is_admin=sweep.admin)
    for child in children.values():
        if _is_valid(child, parent):
            await _redact(ctx, room, author, child.event_id, sweep.content)
    upto = places[-1][1] if places else sweep.upto
    async with ctx.db.transaction() as tx:
        await _note(tx, sweep, upto)


def _is_valid(child: StoredEvent, parent: StoredEvent) -> bool:
    relates_to = child.pdu.content.get("m.relates_to")
    is_edit = isinstance(relates_to, dict) and relates_to.get("rel_type") == REPLACE
    return not is_edit or is_valid_edit(child.pdu, parent.pdu)


async def _redact(
    ctx: Context, room: Room, author: Author, event_id: EventId, content: str
) -> None:
    parsed: JsonObject = orjson.loads(content)
    post = Post(room.room_id, REDACTION, parsed)
    try:
        await put_redaction(ctx, author, room, post, event_id, parsed)
    except (MatrixError, Rejected):
        return  # "If an event … cannot be redacted by the user …, it is ignored."


async def _insert(
    tx: Tx,
    room_nid: int,
    author: Author,
    parent: EventId,
    rel_types: Sequence[str],
    content: JsonObject,
) -> list[Sweep]:
    return await fetch_as(
        tx,
        Sweep,
        """
        INSERT INTO relation_redactions (room_nid, event_id, user_id, admin, rel_types,
                                         content, claimed_until)
        VALUES ($1, $2, $3, $4, $5, $6, now() + '1 minute')
        ON CONFLICT (room_nid, event_id, user_id) DO UPDATE
           SET rel_types = EXCLUDED.rel_types, content = EXCLUDED.content,
               upto = DEFAULT, claimed_until = EXCLUDED.claimed_until
        RETURNING room_nid, event_id, user_id, admin, rel_types, content, upto
        """,
        room_nid,
        parent,
        author.user_id,
        author.is_admin,
        list(map(to_text, rel_types)),
        orjson.dumps(content).decode(),
    )


async def _claim(tx: Tx) -> list[Sweep]:
    """Those with children that nobody has looked at."""
    return await fetch_as(
        tx,
        Sweep,
        """
        WITH due AS (
            SELECT room_nid, event_id, user_id FROM relation_redactions r
             WHERE claimed_until < now()
               AND EXISTS (SELECT FROM events e
                            WHERE e.relates_to = r.event_id
                              AND e.room_nid = r.room_nid AND e.position > r.upto
                              AND e.redacted_by IS NULL
                              AND (e.rel_type = ANY(r.rel_types)
                                   OR '*' = ANY(r.rel_types)))
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        )
        UPDATE relation_redactions r SET claimed_until = now() + '5 minutes'
          FROM due
         WHERE (r.room_nid, r.event_id, r.user_id)
               = (due.room_nid, due.event_id, due.user_id)
        RETURNING r.room_nid, r.event_id, r.user_id, r.admin, r.rel_types, r.content,
                  r.upto
        """,
        _SWEEPS,
    )


async def _read_children(tx: Tx, sweep: Sweep, limit: int) -> list[tuple[int, int]]:
    """Numbers and positions of the children that were not looked at."""
    rows = await tx.fetch(
        """
        SELECT event_nid, position FROM events
         WHERE relates_to = $1 AND room_nid = $2 AND position > $3
           AND redacted_by IS NULL
           AND (rel_type = ANY($4) OR '*' = ANY($4))
         ORDER BY position LIMIT $5
        """,
        sweep.event_id,
        sweep.room_nid,
        sweep.upto,
        list(sweep.rel_types),
        limit,
    )
    return [(row[0], row[1]) for row in rows]


async def _note(tx: Tx, sweep: Sweep, upto: int) -> None:
    await tx.execute(
        """
        UPDATE relation_redactions SET upto = $4, claimed_until = now()
         WHERE room_nid = $1 AND event_id = $2 AND user_id = $3
        """,
        sweep.room_nid,
        sweep.event_id,
        sweep.user_id,
        upto,
    )


async def _forget(tx: Tx, sweep: Sweep) -> None:
    await tx.execute(
        """
        DELETE FROM relation_redactions
         WHERE room_nid = $1 AND event_id = $2 AND user_id = $3
        """,
        sweep.room_nid,
        sweep.event_id,
        sweep.user_id,
    )
