"""Relations that users may not send: threads in threads, and the same reaction twice.

Spec: client-server-api#validation-of-mthread-relationships,
client-server-api#avoiding-duplicate-annotations
"""

from federation.canonical_json import JsonObject
from federation.ids import EventId
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.errors import MatrixError
from homeserver.events.relations import ANNOTATION, THREAD, relation_in, relation_of
from homeserver.live.room import Room
from homeserver.rooms.build import NewEvent


async def check_relation(ctx: Context, room: Room, new: NewEvent) -> None:
    """Whether a message may relate so to what it relates to.

    Raises: M_UNKNOWN, M_DUPLICATE_ANNOTATION.
    """
    error = await _objection(ctx, room, new)
    if error is not None:
        raise error


async def _objection(ctx: Context, room: Room, new: NewEvent) -> MatrixError | None:
    relation = relation_in(new.content)
    if relation is None or relation.rel_type not in (THREAD, ANNOTATION):
        return None
    if relation.rel_type == ANNOTATION:
        return await _objection_to_annotation(ctx, room, new, relation.event_id)
    root = await ctx.live.events.by_id(relation.event_id)
    if root is None or root.room_nid != room.nid or relation_of(root.shown) is None:
        return None
    return errors.unknown("A thread cannot begin at an event that relates to another.")


async def _objection_to_annotation(
    ctx: Context, room: Room, new: NewEvent, parent: EventId
) -> MatrixError | None:
    key = _key_in(new.content)
    if key is None:
        return None
    async with ctx.db.read() as tx:
        nids = await _read_annotations(tx, room.nid, new, parent)
    for event in (await ctx.live.events.by_nids(nids)).values():
        if event.redaction is None and _key_in(event.pdu.content) == key:
            return errors.duplicate_annotation()
    return None


def _key_in(content: JsonObject) -> str | None:
    relates_to = content.get("m.relates_to")
    key = relates_to.get("key") if isinstance(relates_to, dict) else None
    return key if isinstance(key, str) else None


async def _read_annotations(
    tx: Tx, room_nid: int, new: NewEvent, parent: EventId
) -> list[int]:
    """What the sender has put on the event already."""
    rows = await tx.fetch(
        """
        SELECT event_nid FROM events
         WHERE relates_to = $1 AND room_nid = $2 AND sender = $3 AND type = $4
           AND rel_type = 'm.annotation'
           AND position IS NOT NULL AND redacted_by IS NULL
         LIMIT 1000
        """,
        parent,
        room_nid,
        new.sender,
        to_text(new.type),
    )
    return [row["event_nid"] for row in rows]
