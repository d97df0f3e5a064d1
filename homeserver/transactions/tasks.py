"""Forgets transactions that nobody will repeat any more."""

from typing import Final

from homeserver.context import Context
from homeserver.transactions import store

EVERY_S: Final = 600.0
_KEEP: Final = "1 day"


async def forget_old(ctx: Context) -> None:
    """Keep `received_transactions` small."""
    async with ctx.db.transaction() as tx:
        await store.delete_old(tx, _KEEP)
