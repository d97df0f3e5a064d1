"""The sections about people, whom not every client asks for: presence and profiles.

They have news of their own: who does not want them is not woken by them.
"""

from federation.canonical_json import JsonObject, JsonValue
from homeserver.live.room import User
from homeserver.sync import presence, profiles
from homeserver.sync.request import Sources, SyncRequest


def are_wanted(request: SyncRequest) -> bool:
    """Whether the client wants to know of people."""
    return presence.is_wanted(request) or profiles.are_wanted(request)


async def sections(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> JsonObject:
    """Those of the sections that are not empty."""
    found: JsonObject = {}
    events: list[JsonValue] = list(await presence.read(sources, request, user, upto))
    if events:
        found["presence"] = {"events": events}
    users = await profiles.read(sources, request, user, upto)
    if users:
        found[profiles.NAME] = users
    return found
