"""Typing and receipts: what moves in rooms and is not kept as events.

Spec: client-server-api#typing-notifications, client-server-api#receipts
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from federation.canonical_json import JsonObject, JsonValue
from homeserver.receipts.content import contents_of
from homeserver.receipts.store import Receipt, receipts_between
from homeserver.sync.request import Sources, SyncRequest
from homeserver.typing.store import typing_in


async def read(
    sources: Sources, request: SyncRequest, joined: Iterable[int], upto: int
) -> Mapping[int, list[JsonObject]]:
    """The ephemeral events of those rooms that are newer than the token.

    They say nothing of users whom the reader ignores.
    """
    since = request.since or 0
    pulses = await sources.live.pulses(joined)
    keeps = request.filter.room.ephemeral.keeps
    receipts, typing = list[int](), list[int]()
    if keeps(None, "m.receipt"):
        receipts = [nid for nid, pulse in pulses.items() if pulse.receipts > since]
    if keeps(None, "m.typing"):
        typing = [nid for nid, pulse in pulses.items() if pulse.typing > since]
    found: defaultdict[int, list[JsonObject]] = defaultdict(list)
    if not receipts and not typing:
        return found
    reader = request.viewer.user_id
    ignored = await sources.live.ignored.by(reader)
    async with sources.db.read() as tx:
        if typing:
            for nid, users in (await typing_in(tx, typing)).items():
                shown: list[JsonValue] = [u for u in users if u not in ignored]
                found[nid].append({"type": "m.typing", "content": {"user_ids": shown}})
        moved: defaultdict[int, list[Receipt]] = defaultdict(list)
        if receipts:
            for each in await receipts_between(tx, receipts, reader, since, upto):
                if each.user_id not in ignored:
                    moved[each.room_nid].append(each)
    for nid, of_room in moved.items():
        found[nid] += [
            {"type": "m.receipt", "content": content}
            for content in contents_of(of_room)
        ]
    return found
