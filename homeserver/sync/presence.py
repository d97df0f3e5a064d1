"""The section `presence`: how the people are who share rooms with the user.

Spec: client-server-api#presence
"""

from typing import Final

from federation.canonical_json import JsonObject
from homeserver.live.room import User
from homeserver.presence import reading
from homeserver.presence.content import content_of
from homeserver.presence.reading import Presence
from homeserver.sync.request import Sources, SyncRequest

TYPE: Final = "m.presence"
_MOST: Final = 2000  # in one answer: those who moved last


def is_wanted(request: SyncRequest) -> bool:
    """Whether the client wants to know at all."""
    wanted = request.filter.presence
    return request.with_presence and wanted.limit != 0 and wanted.keeps(None, TYPE)


async def read(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> list[JsonObject]:
    """What is new, as events."""
    if not is_wanted(request):
        return []
    ignored = await sources.live.ignored.by(user.user_id)
    keeps = request.filter.presence.keeps
    found = {each.user_id: each for each in await _new(sources, request, user, upto)}
    return [
        {"type": TYPE, "sender": each.user_id, "content": content_of(each)}
        for each in found.values()
        if each.user_id not in ignored and keeps(each.user_id, TYPE)
    ]


async def _new(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> list[Presence]:
    """What moved, and who is there of people who are new to the user."""
    since = request.since
    joined = user.joined
    most = min(request.filter.presence.limit or _MOST, _MOST)
    if since is None:
        async with sources.db.read() as tx:
            return await reading.there(tx, user.user_id, joined, most)
    view = sources.live.view
    pulses = await view.pulses(await view.rooms_moved(user, since))
    new = [nid for nid in joined if user.rooms[nid].position > since]
    come = [n for n, p in pulses.items() if p.members > since and n not in new]
    moved = await view.people_moved(user, since)
    found: list[Presence] = []
    if not (new or come or moved):
        return found
    async with sources.db.read() as tx:
        if new:
            found += await reading.there_since(tx, new, 0, most)
        if come:
            found += await reading.there_since(tx, come, since, most)
        if moved:
            found += await reading.moved_between(
                tx, user.user_id, joined, since, upto, most
            )
    return found
