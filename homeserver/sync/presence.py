"""The section `presence`: how the people are who share rooms with the user.

Spec: client-server-api#presence
"""

from typing import Final

from federation.canonical_json import JsonObject
from homeserver.live.room import User
from homeserver.presence import reading
from homeserver.presence.content import content_of
from homeserver.sync.request import Sources, SyncRequest

_MOST: Final = 2000  # in one answer: those who moved last


def is_wanted(request: SyncRequest) -> bool:
    """Whether the client wants to know at all."""
    wanted = request.filter.presence
    return request.with_presence and wanted.limit != 0 and wanted.keeps(None, TYPE)


TYPE: Final = "m.presence"


async def read(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> list[JsonObject]:
    """What is new, as events."""
    if not is_wanted(request):
        return []
    since, view = request.since, sources.live.view
    joined = {n: m for n, m in user.rooms.items() if m.membership == "join"}
    fresh = list[int]()
    if since is not None:
        pulses = await sources.live.pulses(joined)
        moved = any(p.members > since for p in pulses.values())
        fresh = [nid for nid, member in joined.items() if member.position > since]
        if not moved and not fresh and await view.people_moved(user) <= since:
            return []
    most = min(request.filter.presence.limit or _MOST, _MOST)
    async with sources.db.read() as tx:
        if since is None:
            found = await reading.there(tx, user.user_id, list(joined), most)
        else:
            found = await reading.seen_between(
                tx, user.user_id, list(joined), fresh, since, upto, most
            )
    ignored = await sources.live.ignored.by(user.user_id)
    keeps = request.filter.presence.keeps
    return [
        {"type": TYPE, "sender": each.user_id, "content": content_of(each)}
        for each in found
        if each.user_id not in ignored and keeps(each.user_id, TYPE)
    ]
