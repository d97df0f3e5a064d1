"""What is forgotten in time. Every process may run this; twice does no harm."""

from typing import Final

from homeserver.context import Context
from homeserver.threepids import store

EVERY_S: Final = 900.0


async def forget_expired(ctx: Context) -> None:
    """Forget sessions that have run out."""
    async with ctx.db.transaction() as tx:
        await store.delete_expired(tx)
