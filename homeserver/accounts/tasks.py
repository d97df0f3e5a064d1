"""What accounts forget in time. Every process may run these; twice does no harm."""

from typing import Final

from homeserver.accounts.store import (
    login_tokens,
    openid_tokens,
    registration_tokens,
    tokens,
    uia_sessions,
)
from homeserver.accounts.uia import LIFETIME
from homeserver.context import Context

EVERY_S: Final = 900.0


async def forget_expired(ctx: Context) -> None:
    """Forget authentication that was not finished, and tokens that have run out.

    What a session had set aside of a registration token is free again.
    """
    async with ctx.db.transaction() as tx:
        ended = await uia_sessions.delete_old(tx, LIFETIME)
        held = [
            token
            for details in ended
            if isinstance(token := details.get("registration_token"), str)
        ]
        if held:
            await registration_tokens.release(tx, held)
        await login_tokens.delete_expired(tx)
        await openid_tokens.delete_expired(tx)
        await tokens.delete_expired(tx)
