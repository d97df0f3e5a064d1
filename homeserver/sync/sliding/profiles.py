"""The extension that tells what people say of themselves (MSC4262).

Of rooms that are shown for the first time all that their members say, afterwards what
moves of everybody who shares a room with the user. Only users of ours: other servers
tell nobody when a profile changes.
"""

from homeserver.accounts.store.profiles import Said, said_between, said_in
from homeserver.sync.profiles import MOST, by_user
from homeserver.sync.sliding.connection import LIVE, NEVER, Phase
from homeserver.sync.sliding.extensions import PROFILES, InView, Json
from homeserver.sync.sliding.request import Extension
from homeserver.sync.sliding.scene import Scene


async def read_profiles(
    scene: Scene, extension: Extension, view: InView
) -> Json | None:
    """What is new of people."""
    draft, user_id = scene.draft, scene.viewer.user_id
    place = draft.own.get(PROFILES, NEVER)
    draft.put_own(PROFILES, LIVE)
    since = scene.upto if place == NEVER else draft.since(place)
    joined = [nid for nid, m in view.standing.members.items() if m.membership == "join"]
    new = [nid for nid in joined if _is_new(scene, extension, view, nid, place)]
    moved = place != NEVER and view.standing.moved_people > since
    names = None if extension.fields is None else list(extension.fields)
    said: list[Said] = []
    if not new and not moved:
        return None
    async with scene.sources.db.read() as tx:
        if new:
            said += await said_in(tx, names, new, 0, MOST)
        if moved:
            said += await said_between(
                tx, user_id, names, joined, since, scene.upto, MOST
            )
    users: dict[str, object] = {}
    for who, fields in by_user(said).items():
        updated = {name: value for name, value in fields.items() if value is not None}
        removed = [name for name, value in fields.items() if value is None]
        users[who] = {
            **({"updated": updated} if updated else {}),
            **({"removed": removed} if removed else {}),
        }
    return {"users": users} if users else None


def _is_new(
    scene: Scene, extension: Extension, view: InView, nid: int, place: int
) -> bool:
    """Whether what the room's members say has not been told yet."""
    if nid not in view.shown or not view.covers(extension, nid):
        return False
    old = scene.draft.old.rooms.get(nid)
    return place == NEVER or old is None or old.phase is not Phase.JOINED
