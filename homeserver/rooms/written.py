"""Events as other servers get them, from the database to the wire without detours."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import orjson

from federation import canonical_json
from federation.redaction import redact
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.live.room import Room

_BATCH: Final = 500
_IDS: Final = 2000


async def written_events(
    ctx: Context, room: Room, nids: Iterable[int]
) -> AsyncIterator[bytes]:
    """The events as members of a JSON list, commas between them, batch by batch.

    Redacted events are what redaction left of them.
    """
    wanted = list(nids)
    comma = b""
    for start in range(0, len(wanted), _BATCH):
        async with ctx.db.read() as tx:
            texts = await _read_json(tx, wanted[start : start + _BATCH], room.version)
        if texts:
            yield comma + b",".join(texts)
            comma = b","


async def _read_json(tx: Tx, nids: Sequence[int], version: RoomVersion) -> list[bytes]:
    rows = await tx.fetch(
        """
        SELECT j.json, e.redacted_by IS NOT NULL AS redacted
          FROM event_json j JOIN events e USING (event_nid)
         WHERE e.event_nid = ANY($1)
        """,
        nids,
    )
    return [
        _redacted(row["json"], version) if row["redacted"] else row["json"].encode()
        for row in rows
    ]


def _redacted(text: str, version: RoomVersion) -> bytes:
    event = canonical_json.parse_object(text)
    return canonical_json.encode(redact(event, version))


async def written_ids(ctx: Context, nids: Sequence[int]) -> AsyncIterator[bytes]:
    """The IDs of those events, in the same manner."""
    comma = b""
    for start in range(0, len(nids), _IDS):
        async with ctx.db.read() as tx:
            rows = await tx.fetch(
                "SELECT event_id FROM events WHERE event_nid = ANY($1)",
                nids[start : start + _IDS],
            )
        if rows:
            yield comma + orjson.dumps([row["event_id"] for row in rows])[1:-1]
            comma = b","
