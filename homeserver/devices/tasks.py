"""What is forgotten of devices in time. Every process may do it."""

from typing import Final

from homeserver.context import Context
from homeserver.devices.store import keys, to_device

EVERY_S: Final = 1800.0
_KEEP_SEEN: Final = "7 days"  # who repeats a sending later repeats it
_KEEP_CLAIMED: Final = "30 days"


async def forget_old(ctx: Context) -> None:
    """Forget which messages were sent and which keys were claimed long ago."""
    async with ctx.db.transaction() as tx:
        await to_device.forget_seen(tx, _KEEP_SEEN)
        await keys.forget_claimed(tx, _KEEP_CLAIMED)
