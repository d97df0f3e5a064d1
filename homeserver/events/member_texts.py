"""Member events as clients get them, read without being kept.

A large room has more of them than the cache of events is to hold, and whoever wants
all of them looks into none: so their texts are spliced, and what is only needed between
servers is left out.

Spec: client-server-api#room-event-format
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import orjson

from homeserver.db.pool import Database, Tx
from homeserver.events.sticky import STICKY

_MEMBER: Final = "m.room.member"
_BATCH: Final = 1000  # read at once: some milliseconds


class _Parts(msgspec.Struct, frozen=True, gc=False):
    """What clients get of a member event."""

    content: msgspec.Raw
    origin_server_ts: int
    sender: msgspec.Raw
    state_key: msgspec.Raw


_parts: Final = msgspec.json.Decoder(_Parts)


@dataclass(slots=True, eq=False)
class MemberText:
    """A member event for everybody: `shared` lacks `unsigned` and what follows it."""

    shared: bytes
    origin_server_ts: int

    def written(self, now_ms: int) -> orjson.Fragment:
        """The event as state, which has its age and nothing else in `unsigned`."""
        age = now_ms - self.origin_server_ts
        return orjson.Fragment(b'%b,"unsigned":{"age":%d}}' % (self.shared, age))


async def read_member_texts(
    db: Database, nids: Iterable[int], user_id: str
) -> dict[int, MemberText]:
    """Those of the events that are members and the same for everybody, by number.

    Not so are redacted ones, and those that the user has sent: they may come with a
    transaction ID.
    """
    wanted = list(nids)
    found: dict[int, MemberText] = {}
    for start in range(0, len(wanted), _BATCH):
        async with db.read() as tx:
            rows = await _read(tx, wanted[start : start + _BATCH], user_id)
        for nid, event_id, text in rows:
            member = _text_of(event_id, text)
            if member is not None:
                found[nid] = member
    return found


async def _read(tx: Tx, nids: list[int], user_id: str) -> list[tuple[int, str, str]]:
    rows = await tx.fetch(
        """
        SELECT e.event_nid, e.event_id, j.json
          FROM events e JOIN event_json j USING (event_nid)
         WHERE e.event_nid = ANY($1) AND e.type = $2 AND e.redacted_by IS NULL
           AND e.sender <> $3
        """,
        nids,
        _MEMBER,
        user_id,
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _text_of(event_id: str, text: str) -> MemberText | None:
    if STICKY in text:
        return None
    try:
        parts = _parts.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None  # of an old room version, with numbers past all bounds
    shared = b'{"content":%b,"event_id":%b,"origin_server_ts":%d,"sender":%b,' % (
        bytes(parts.content),
        orjson.dumps(event_id),
        parts.origin_server_ts,
        bytes(parts.sender),
    )
    state_key = b'"state_key":%b,"type":"m.room.member"' % bytes(parts.state_key)
    return MemberText(shared + state_key, parts.origin_server_ts)
