"""What people say of themselves, for clients that ask for it (MSC4429).

Only users of ours: other servers tell nobody when a profile changes.
"""

from collections.abc import Iterable
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from homeserver.accounts.store.profiles import Said, said_between, said_in
from homeserver.live.room import User
from homeserver.sync.request import Sources, SyncRequest

NAME: Final = "org.matrix.msc4429.users"
MOST: Final = 5000  # fields in one answer


def are_wanted(request: SyncRequest) -> bool:
    """Whether the client wants any field."""
    return bool(request.filter.profile_fields.ids)


async def read(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> JsonObject:
    """What is new, by user ID: fields that moved, and all of people who are new."""
    names = request.filter.profile_fields.ids
    if not names:
        return {}
    since, view = request.since or 0, sources.live.view
    joined = user.joined
    pulses = await view.pulses(await view.rooms_moved(user, since))
    new = [nid for nid in joined if user.rooms[nid].position > since]
    come = [n for n, p in pulses.items() if p.members > since and n not in new]
    moved = await view.people_moved(user, since)
    if not (new or come or moved):
        return {}
    said: list[Said] = []
    async with sources.db.read() as tx:
        if new:
            said += await said_in(tx, names, new, 0, MOST)
        if come:
            said += await said_in(tx, names, come, since, MOST)
        if moved:
            said += await said_between(
                tx, user.user_id, names, joined, since, upto, MOST
            )
    if request.since is None:
        said = [each for each in said if each.value is not None]
    return {
        user_id: {"profile_updates": fields}
        for user_id, fields in by_user(said).items()
    }


def by_user(said: Iterable[Said]) -> dict[str, JsonObject]:
    """The fields of each user; None of one that was removed."""
    found: dict[str, dict[str, JsonValue]] = {}
    for each in said:
        found.setdefault(each.user_id, {})[each.name] = each.value
    return dict(found)
