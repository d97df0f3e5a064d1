"""Makes users idle and offline as time goes by.

Every process may do it; twice does no harm.
"""

import asyncio
import contextlib
from typing import Final

from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.presence import store
from homeserver.presence.store import Note

EVERY_S: Final = 10.0
FORGET_EVERY_S: Final = 3600.0
_AT_ONCE: Final = 200


async def pass_time(ctx: Context) -> None:
    """See who is no longer there, or only that."""
    async with ctx.db.read() as tx:
        due = await store.overdue(tx, _AT_ONCE)
        silent = await store.silent(tx, _AT_ONCE)
    notes = [Note(user_id) for user_id in due]
    with contextlib.suppress(Overloaded):
        await asyncio.gather(
            *(
                ctx.live.commit(
                    store.note,
                    note,
                    Change(Kind.PRESENCE, user_id=note.user_id, reach=note.reach),
                )
                for note in notes
            ),
            *(
                ctx.live.commit(
                    store.put_told,
                    told,
                    Change(Kind.PRESENCE, user_id=told.user_id, reach=told.reach),
                )
                for told in silent
            ),
        )


async def forget_old(ctx: Context) -> None:
    """Keep the tables small."""
    async with ctx.db.transaction() as tx:
        await store.forget_old(tx)
