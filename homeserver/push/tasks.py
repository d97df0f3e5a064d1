"""What a process does for push while it runs: it keeps counts at hand, and sends."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from homeserver.context import Context
from homeserver.push.counts import unread_counts
from homeserver.push.keeper import Keeper
from homeserver.push.mailer import Mailer
from homeserver.push.sender import PushSender
from homeserver.push.store import extras_of
from homeserver.push.vapid import vapid_key


@asynccontextmanager
async def pushing(ctx: Context) -> AsyncIterator[None]:
    """Do it while the block lasts."""
    unread_counts(ctx.db, ctx.live, extras_of(ctx.config.push))
    vapid = await vapid_key(ctx.db, ctx.config)
    ctx.parts.put(vapid)
    ctx.capabilities["m.webpush"] = vapid.capability
    async with AsyncExitStack() as stack:
        for part in (Keeper(ctx), PushSender(ctx), Mailer(ctx)):
            await stack.enter_async_context(part)
        yield
