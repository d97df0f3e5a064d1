"""What is forgotten of OAuth in time. Every process may do it."""

from datetime import timedelta
from typing import Final

from homeserver.accounts.store import oauth_sessions
from homeserver.context import Context
from homeserver.oauth.browsers import LIFETIME
from homeserver.oauth.store import (
    browsers,
    clients,
    codes,
    device_codes,
    rendezvous,
)

EVERY_S: Final = 900.0
# So long a second use of a code is noticed, and an expired device is told so.
_KEEP_CODES: Final = timedelta(hours=1)
_KEEP_CLIENTS: Final = timedelta(days=30)


async def forget_old(ctx: Context) -> None:
    """Forget codes, browsers, and clients that nobody is logged in with."""
    async with ctx.db.transaction() as tx:
        await codes.delete_old(tx, _KEEP_CODES)
        await device_codes.delete_old(tx, _KEEP_CODES)
        await browsers.delete_old(tx, LIFETIME)
        await oauth_sessions.delete_expired_resets(tx)
        await rendezvous.delete_expired(tx)
        await clients.delete_unused(tx, _KEEP_CLIENTS)
