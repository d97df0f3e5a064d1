"""A provider says that somebody has logged out there.

References: OpenID Connect Back-Channel Logout 1.0.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import structlog

from federation.ids import DeviceId, UserId
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import sign_ons
from homeserver.accounts.tokens import hash_of
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import places
from homeserver.oauth.errors import OAuthError, answers_oauth
from homeserver.pages.visitors import parse_form
from homeserver.sign_on import store
from homeserver.sign_on.identity import NotIdentified
from homeserver.sign_on.oidc import Oidc
from homeserver.sign_on.providers import Providers

log = structlog.get_logger(__name__)

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_MAX_BODY: Final = 128 * 1024
_MAX_ID: Final = 255
# Tokens that live longer are refused, so that those used need no longer be kept.
_MOST_LIFETIME: Final = timedelta(hours=1)
_TYPES: Final = ("logout+jwt", "jwt", "")


@route("POST", places.PROVIDER_LOGOUT, auth=nobody, limit=lookups, max_body=_MAX_BODY)
@answers_oauth
async def log_out_from_provider(ctx: Context, request: Request) -> Answer:
    """End what began with the log-in that has ended there. Section 2.5 to 2.8."""
    provider_id = request.path(str, "idpId")
    provider = ctx.parts.get(Providers).get(provider_id)
    token = parse_form(request)["logout_token"]
    if not isinstance(provider, Oidc):
        raise OAuthError("invalid_request", "This provider has no logout tokens.")
    try:
        header, claims = await provider.verify(token)
        provider.check_claims(claims, needs_sub=False)
        _check(ctx, header, claims)
    except NotIdentified as error:
        log.warning("no logout token", provider=provider_id, why=str(error))
        raise OAuthError("invalid_request", "The logout token is not good.") from None
    lifetime = _MOST_LIFETIME + timedelta(seconds=2 * provider.config.clock_skew_s)
    used = hash_of(f"{provider_id} {claims['jti']}")
    async with ctx.db.transaction() as tx:
        if not await store.use(tx, used, lifetime):
            raise OAuthError("invalid_request", "The logout token was used before.")
    await _end(ctx, provider, claims.get("sub", ""), claims.get("sid", ""))
    return Reply(200, {}, {"Cache-Control": "no-store"})


def _check(ctx: Context, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """Section 2.6. Raises: NotIdentified."""
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise NotIdentified("it is of another type")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise NotIdentified("it is about something else")
    if "nonce" in claims:
        raise NotIdentified("it has a nonce, as ID tokens have")
    for name in ("jti", "sub", "sid"):
        value = claims.get(name, "")
        if not isinstance(value, str) or len(value) > _MAX_ID or "\0" in value:
            raise NotIdentified(f"{name} cannot be one")
    if not claims.get("jti") or not (claims.get("sub") or claims.get("sid")):
        raise NotIdentified("it lacks jti, or both sub and sid")
    if claims["exp"] > ctx.clock.ms() / 1000 + _MOST_LIFETIME.total_seconds():
        raise NotIdentified("it lives too long")


async def _end(ctx: Context, provider: Oidc, subject: str, sid: str) -> None:
    what = provider.rules.on_logout
    if what == "nothing":
        return
    devices: dict[UserId, list[DeviceId]] = {}
    async with ctx.db.transaction() as tx:
        ending = await sign_ons.ending(tx, provider.config.id, subject, sid)
        numbers = [each.sign_on for each in ending]
        await sign_ons.end_browsers(tx, numbers)
        if what == "devices":
            for user_id, device_id in await sign_ons.devices_of(tx, numbers):
                devices.setdefault(user_id, []).append(device_id)
    for user_id, device_ids in devices.items():
        await end_sessions(ctx.live, user_id, tuple(device_ids))
    async with ctx.db.transaction() as tx:
        # Last, so that a provider that asks again after a failure still finds them.
        await sign_ons.end(tx, numbers)
