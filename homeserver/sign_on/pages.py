"""Where browsers come through on their way to a provider, and back.

References: OpenID Connect Core 1.0, 3.1.2; RFC 6749, 10.12 (CSRF); RFC 9700, 4.4
(mix-up).
"""

import secrets
from typing import Final

import structlog
from msgspec import json

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import own_pages, tokens, uia
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import Limit, address_key, lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import browsers, places
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor, visitor_of
from homeserver.sign_on import store
from homeserver.sign_on.arrivals import Purpose, let_in
from homeserver.sign_on.identity import NotIdentified
from homeserver.sign_on.providers import Providers

log = structlog.get_logger(__name__)

# By address: each is remembered for a while, and may ask the provider something.
sign_ons: Final = Limit("sign_ons", per_second=0.5, burst=30)
_STATE_BYTES: Final = 32
_MAX_ANSWER: Final = 20
FAILED: Final = "The log-in there did not work. Try again."
STRANGE: Final = "This log-in was not begun here, or too long ago. Begin again."


@route("GET", places.PROVIDER, auth=nobody, limit=lookups)
@kit.page
async def go_to_provider(ctx: Context, request: Request) -> Answer:
    """Send the browser to a provider; it comes back to `next` in the end."""
    visitor = visitor_of(ctx.config, request)
    provider_id = request.path(str, "idpId")
    provider = ctx.parts.get(Providers).get(provider_id)
    request.spend(sign_ons, address_key(request.ip))
    purpose = await _purpose(ctx, request, visitor)
    state = secrets.token_urlsafe(_STATE_BYTES)
    back = _back(ctx, request, provider_id)
    try:
        sent = await provider.begin(back, state, fresh=purpose.confirms is not None)
    except NotIdentified as error:
        return _failed(ctx, visitor, provider_id, error)
    kept = store.Request(
        provider_id,
        visitor.hash,
        json.encode(sent.secrets).decode(),
        json.encode(purpose).decode(),
    )
    async with ctx.db.transaction() as tx:
        await store.add_request(tx, tokens.hash_of(state), kept)
    return kit.go(visitor, sent.where)


async def _purpose(ctx: Context, request: Request, visitor: Visitor) -> Purpose:
    """What the browser is sent there for. Raises: M_FORBIDDEN, M_NOT_FOUND."""
    onward = browsers.onward(request.query_str("next") or "")
    session_id = request.query_str("confirm")
    if session_id is None:
        return Purpose(onward=onward)
    # Only a page of ours, which says what it is for, may have somebody confirm it.
    if not visitor.is_sealed(f"confirm {session_id}", request.query_str("seal") or ""):
        raise errors.forbidden(STRANGE)
    if not session_id:
        owner = await browsers.owner_of(ctx, visitor)
        if owner is None:
            raise errors.forbidden(STRANGE)
        return Purpose(onward=onward, confirms=owner.user_id)
    session = await uia.find(ctx.db, session_id)
    if session is None or session.user_id is None:
        raise errors.not_found("This has run out. Go back to your app and begin again.")
    return Purpose(onward=onward, confirms=UserId(session.user_id), session=session_id)


def _back(ctx: Context, request: Request, provider_id: str) -> str:
    """Where the provider sends people back to: an address of its own for each."""
    where = places.PROVIDER_BACK.replace("{idpId}", provider_id)
    return own_pages.base_of(ctx, request) + where


def _failed(
    ctx: Context, visitor: Visitor, provider_id: str, error: NotIdentified
) -> Reply:
    log.warning("no log-in through a provider", provider=provider_id, why=str(error))
    told = errors.MatrixError(403, "M_FORBIDDEN", error.told or FAILED)
    return kit.refuse(ctx, visitor, told)


@route("GET", places.PROVIDER_BACK, auth=nobody, limit=lookups)
@kit.page
async def come_back(ctx: Context, request: Request) -> Answer:
    """Take the provider's answer, which stands in the query."""
    visitor = visitor_of(ctx.config, request)
    query = request.raw.rel_url.query
    answer = dict(query)
    if len(answer) != len(query) or len(answer) > _MAX_ANSWER:
        raise errors.invalid_param(STRANGE)
    provider_id = request.path(str, "idpId")
    provider = ctx.parts.get(Providers).get(provider_id)
    state = answer.get("state") or ""
    kept = None
    if not visitor.is_new:
        async with ctx.db.transaction() as tx:
            kept = await store.take_request(
                tx, tokens.hash_of(state), provider_id, visitor.hash
            )
    if kept is None:
        # Another browser, another provider, or a second time.
        raise errors.forbidden(STRANGE)
    try:
        identity = await provider.identify(
            answer,
            _back(ctx, request, provider_id),
            json.decode(kept.secrets, type=dict[str, str]),
        )
    except NotIdentified as error:
        return _failed(ctx, visitor, provider_id, error)
    purpose = json.decode(kept.purpose, type=Purpose)
    return await let_in(ctx, visitor, provider, identity, purpose)
