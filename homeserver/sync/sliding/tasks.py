"""What sliding sync forgets in time. Every process may run it; twice does no harm."""

from typing import Final

from homeserver.context import Context
from homeserver.sync.sliding import store

EVERY_S: Final = 3600.0
_UNUSED_DAYS: Final = 30


async def forget_unused(ctx: Context) -> None:
    """Forget connections that no client came back to."""
    async with ctx.db.read() as tx:
        await store.delete_unused(tx, _UNUSED_DAYS)
