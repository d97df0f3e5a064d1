"""Who is logged in with a browser, and that pages ask for it."""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from federation.ids import UserId
from homeserver.accounts import own_pages
from homeserver.context import Context
from homeserver.oauth import places
from homeserver.oauth.store import browsers as store
from homeserver.oauth.store.browsers import Owner
from homeserver.pages.visitors import Visitor

LIFETIME: Final = timedelta(days=14)
# Where somebody may be sent after logging in: pages of ours, and nowhere else.
_ONWARD: Final = (places.AUTHORIZE, places.LINK, places.SSO, own_pages.ACCOUNT)
_MAX_ONWARD: Final = 8192


async def owner_of(ctx: Context, visitor: Visitor) -> Owner | None:
    """Who is logged in with this browser."""
    if visitor.is_new:
        return None
    async with ctx.db.read() as tx:
        return await store.owner(tx, visitor.hash, LIFETIME)


async def log_in(
    ctx: Context, visitor: Visitor, user_id: UserId, sign_on: int | None = None
) -> None:
    """The browser gets a new cookie, by which it is known from now on."""
    async with ctx.db.transaction() as tx:
        await store.delete(tx, visitor.hash)
        visitor.renew()
        await store.add(tx, visitor.hash, user_id, sign_on)


async def log_out(ctx: Context, visitor: Visitor) -> None:
    """Nobody is logged in with the browser any more."""
    async with ctx.db.transaction() as tx:
        await store.delete(tx, visitor.hash)
    visitor.renew()


def onward(where: str) -> str:
    """Where to go on: `where`, if it is a page of ours; else the account."""
    path = where.partition("?")[0]
    if path in _ONWARD and len(where) <= _MAX_ONWARD and where.isprintable():
        return where
    return own_pages.ACCOUNT


def login_page(where: str, **more: str) -> str:
    """The page on which to log in, in order to go on to `where`."""
    return f"{places.LOGIN}?{urlencode({'next': where, **more})}"
