"""Typing and receipts: what moves in rooms and is not kept as events.

Spec: client-server-api#typing-notifications, client-server-api#receipts
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.sync.request import Sources, SyncRequest


async def read(
    sources: Sources, request: SyncRequest, joined: Iterable[int], upto: int
) -> Mapping[int, list[JsonObject]]:
    """The ephemeral events of those rooms that are newer than the token."""
    since = request.since
    pulses = await sources.live.pulses(joined)
    receipts = [n for n, p in pulses.items() if p.receipts > (since or 0)]
    typing = [n for n, p in pulses.items() if p.typing > (since or 0)]
    found: defaultdict[int, list[JsonObject]] = defaultdict(list)
    if not receipts and not typing:
        return found
    keeps = request.filter.room.ephemeral.keeps
    async with sources.db.read() as tx:
        if typing and keeps(None, "m.typing"):
            for nid, users in (await _typing(tx, typing)).items():
                found[nid].append(
                    {"type": "m.typing", "content": {"user_ids": list(users)}}
                )
        if receipts and keeps(None, "m.receipt"):
            for nid, content in (
                await _receipts(tx, receipts, since or 0, upto, request.viewer.user_id)
            ).items():
                found[nid].append({"type": "m.receipt", "content": content})
    return found


async def _typing(tx: Tx, room_nids: list[int]) -> Mapping[int, list[str]]:
    rows = await tx.fetch(
        """
        SELECT wanted.room_nid, t.user_id
          FROM unnest($1::bigint[]) AS wanted (room_nid)
          LEFT JOIN typing t ON t.room_nid = wanted.room_nid AND t.until > now()
         ORDER BY t.user_id
        """,
        room_nids,
    )
    users: defaultdict[int, list[str]] = defaultdict(list)
    for room_nid, user_id in rows:
        users[room_nid] += [] if user_id is None else [user_id]
    return users


async def _receipts(
    tx: Tx, room_nids: list[int], since: int, upto: int, reader: UserId
) -> Mapping[int, JsonObject]:
    rows = await tx.fetch(
        """
        SELECT room_nid, event_id, receipt_type, user_id, ts, thread_id
          FROM receipts
         WHERE room_nid = ANY($1) AND position > $2 AND position <= $3
           AND (receipt_type <> 'm.read.private' OR user_id = $4)
         ORDER BY position
        """,
        room_nids,
        since,
        upto,
        reader,
    )
    contents: defaultdict[int, dict[str, JsonValue]] = defaultdict(dict)
    for room_nid, event_id, receipt_type, user_id, ts, thread_id in rows:
        of_event = contents[room_nid].setdefault(event_id, {})
        of_type = of_event.setdefault(receipt_type, {})  # type: ignore[union-attr]
        receipt: JsonObject = {"ts": ts}
        if thread_id:
            receipt["thread_id"] = thread_id
        of_type[user_id] = receipt  # type: ignore[index]
    return contents
