"""Forgets delayed events that nobody will ask for any more."""

from typing import Final

from homeserver.context import Context
from homeserver.delayed import store

EVERY_S: Final = 600.0


async def forget_old(ctx: Context) -> None:
    """Keep what has been finalised within its bounds."""
    async with ctx.db.transaction() as tx:
        await store.forget_old(tx)
