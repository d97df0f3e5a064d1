"""Presence of other servers' users.

Spec: server-server-api#presence
"""

import asyncio
import contextlib
from typing import Final

from federation import edu
from federation.canonical_json import JsonObject
from federation.ids import ServerName
from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.presence import store
from homeserver.presence.states import MAX_STATUS, RANKS
from homeserver.presence.store import Told

_MOST: Final = 500  # of one EDU
_MAX_AGO_MS: Final = 10 * 365 * 24 * 3600 * 1000


async def receive(ctx: Context, origin: ServerName, content: JsonObject) -> None:
    """Take an `m.presence` EDU, as far as it is about users in rooms of ours.

    Raises: Malformed.
    """
    if not ctx.config.presence.enabled:
        return
    updates = edu.parse_presence(content, origin)[:_MOST]
    told = list({each.user_id: _told(each) for each in updates}.values())
    async with ctx.db.transaction() as tx:
        known = await store.here(tx, [each.user_id for each in told])
        told = [each for each in told if each.user_id in known]
        news = await store.repeated(tx, told) if told else []
    with contextlib.suppress(Overloaded):
        await asyncio.gather(
            *(
                ctx.live.commit(
                    store.put_told,
                    each,
                    Change(Kind.PRESENCE, user_id=each.user_id, reach=each.reach),
                )
                for each in news
            )
        )


def _told(update: edu.Presence) -> Told:
    status = update.status_msg
    return Told(
        update.user_id,
        RANKS[update.presence],
        min(max(update.last_active_ago, 0), _MAX_AGO_MS),
        currently_active=update.currently_active,
        status=None if status is None else status[:MAX_STATUS],
    )
