"""The extension that tells which threads the user follows. MSC4308."""

from typing import Final

from homeserver.relations import subscriptions
from homeserver.sync.sliding.connection import LIVE, NEVER
from homeserver.sync.sliding.extensions import THREADS, InView, Json
from homeserver.sync.sliding.request import Extension
from homeserver.sync.sliding.scene import Scene

_MOST: Final = 100


async def read_threads(scene: Scene, extension: Extension, view: InView) -> Json | None:
    """What changed, the newest only when it is too much: the client asks for more."""
    draft, user_id = scene.draft, scene.viewer.user_id
    place = draft.own.get(THREADS, NEVER)
    since = 0 if place == NEVER else draft.since(place)
    draft.put_own(THREADS, LIVE)
    if view.standing.moved_own <= since:
        return None
    asked = _MOST if extension.limit is None else extension.limit
    limit = max(1, min(asked, _MOST))
    async with scene.sources.db.read() as tx:
        found = await subscriptions.read_changes(
            tx, user_id, since, scene.upto, limit + 1
        )
    if not found:
        return None
    answer: Json = {**subscriptions.sections(found[:limit])}
    if len(found) > limit:
        answer["prev_batch"] = f"s{found[limit].position}"
    return answer
