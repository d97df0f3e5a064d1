"""Let in who comes back from a provider: log them in, or have them choose a name.

Spec: client-server-api#sso-during-user-interactive-authentication
"""

import structlog
from msgspec import Struct, json

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import uia
from homeserver.accounts.addresses import EMAIL, canonical_email
from homeserver.accounts.store import sign_ons, threepids, users
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.replies import Reply
from homeserver.login.fallback_pages import done_page
from homeserver.oauth import browsers, places
from homeserver.oauth.store import browsers as browsers_store
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor
from homeserver.sign_on import store
from homeserver.sign_on.identity import Identity
from homeserver.sign_on.providers import Provider

log = structlog.get_logger(__name__)


class Purpose(Struct, frozen=True, kw_only=True):
    """What a browser was sent to a provider for: to log in, unless `confirms`."""

    onward: str
    confirms: UserId | None = None  # who it must be, that is logged in already
    session: str = ""  # of user-interactive authentication


async def let_in(
    ctx: Context,
    visitor: Visitor,
    provider: Provider,
    identity: Identity,
    purpose: Purpose,
) -> Reply:
    """Go on with whoever it is. Raises: why they may not."""
    async with ctx.db.read() as tx:
        user_id = await sign_ons.linked_user(tx, identity.provider, identity.subject)
    if purpose.confirms is not None:
        return await _confirm(ctx, visitor, user_id, purpose)
    if user_id is None and provider.rules.link_by_email:
        user_id = await _link_by_email(ctx, identity)
    if user_id is not None:
        await log_in(ctx, visitor, identity, user_id)
        return kit.go(visitor, purpose.onward)
    kept = store.Arrival(json.encode(identity).decode(), purpose.onward)
    async with ctx.db.transaction() as tx:
        await store.put_arrival(tx, visitor.hash, kept)
    return kit.go(visitor, places.WELCOME)


async def log_in(
    ctx: Context, visitor: Visitor, identity: Identity, user_id: UserId
) -> None:
    """Log the browser in as the user.

    Raises: M_USER_DEACTIVATED, M_USER_LOCKED, M_USER_AWAITING_APPROVAL.
    """
    async with ctx.db.read() as tx:
        account = await users.account(tx, user_id)
        addresses = await threepids.of_user(tx, user_id)
    if account is None or account.is_deactivated:
        raise errors.user_deactivated()
    if account.is_locked:
        raise errors.user_locked()
    if not account.is_approved:
        by_email = any(each.medium == EMAIL for each in addresses)
        raise errors.user_awaiting_approval(by_email=by_email)
    async with ctx.db.transaction() as tx:
        sign_on = await sign_ons.begin(
            tx, identity.provider, identity.subject, identity.sid, user_id
        )
    await browsers.log_in(ctx, visitor, user_id, sign_on)


async def _link_by_email(ctx: Context, identity: Identity) -> UserId | None:
    """Whose the confirmed address is, and with it whoever it is there."""
    address = confirmed_email(identity)
    if address is None:
        return None
    async with ctx.db.transaction() as tx:
        owner = await threepids.owner(tx, EMAIL, address)
        if owner is None or not await sign_ons.link(
            tx, identity.provider, identity.subject, owner
        ):
            return None
    log.info("linked by e-mail", user=owner, provider=identity.provider)
    return owner


def confirmed_email(identity: Identity) -> str | None:
    """The address that the provider has confirmed, as addresses are kept."""
    if not identity.email:
        return None
    try:
        return canonical_email(identity.email)
    except MatrixError:
        return None


async def _confirm(
    ctx: Context, visitor: Visitor, user_id: UserId | None, purpose: Purpose
) -> Reply:
    """The user has shown once more who they are."""
    if user_id is None or user_id != purpose.confirms:
        raise errors.forbidden("This is the account of somebody else there.")
    if not purpose.session:
        owner = await browsers.owner_of(ctx, visitor)
        if owner is None or owner.user_id != user_id:
            return kit.go(visitor, browsers.login_page(purpose.onward))
        async with ctx.db.transaction() as tx:
            await browsers_store.confirm(tx, visitor.hash)
        return kit.go(visitor, purpose.onward)
    session = await uia.find(ctx.db, purpose.session)
    if session is None or session.user_id != user_id:
        raise errors.not_found("This has run out. Go back to your app and begin again.")
    await uia.complete(ctx.db, session, uia.SSO)
    return done_page(ctx, visitor)
