"""The page that asks a user whether a client may have access.

Spec: client-server-api#authorisation-code-flow
"""

from datetime import timedelta
from typing import Final

from homeserver.accounts import own_pages, tokens
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import browsers, places
from homeserver.oauth.errors import OAuthError
from homeserver.oauth.register_pages import sign_up_page
from homeserver.oauth.requests import (
    AuthorizationRequest,
    Refused,
    parse_request,
    without_prompt,
)
from homeserver.oauth.store import codes
from homeserver.oauth.store.browsers import Owner
from homeserver.oauth.token_api import CODE
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor, read_form, visitor_of

# "RECOMMENDED maximum: 10 minutes"; clients take it at once.
CODE_LIFETIME: Final = timedelta(minutes=2)
_MXID: Final = "mxid:"


@route("GET", places.AUTHORIZE, auth=nobody, limit=lookups)
@kit.page
async def show_authorization(ctx: Context, request: Request) -> Answer:
    """Ask the user, who logs in first."""
    visitor = visitor_of(ctx.config, request)
    query = request.raw.rel_url.raw_query_string
    try:
        wanted = await parse_request(ctx, own_pages.base_of(ctx, request), query)
    except Refused as refused:
        return kit.go(visitor, refused.where)
    owner = await browsers.owner_of(ctx, visitor)
    if wanted.prompt == "none":
        code = "login_required" if owner is None else "consent_required"
        error = OAuthError(code, "Only the user can allow this.")
        return kit.go(visitor, wanted.reception.refuse(error))
    if wanted.prompt == "create":
        return kit.go(visitor, sign_up_page(without_prompt(query)))
    if owner is None:
        hint = wanted.login_hint.removeprefix(_MXID)[:255]
        where = f"{places.AUTHORIZE}?{query}"
        more = {"name": hint} if hint else {}
        return kit.go(visitor, browsers.login_page(where, **more))
    return _ask(ctx, visitor, wanted, owner, query)


def _ask(
    ctx: Context,
    visitor: Visitor,
    wanted: AuthorizationRequest,
    owner: Owner,
    query: str,
) -> Reply:
    return kit.show(
        ctx,
        visitor,
        "oauth/consent.html",
        allow={"form-action": kit.source_of(wanted.reception.redirect_uri)},
        client=wanted.client,
        device_id=wanted.scope.device_id,
        user_id=owner.user_id,
        query=query,
        action=places.AUTHORIZE,
        logout=places.LOGOUT,
        onward=f"{places.AUTHORIZE}?{query}",
    )


@route("POST", places.AUTHORIZE, auth=nobody, limit=lookups)
@kit.page
async def answer_authorization(ctx: Context, request: Request) -> Answer:
    """Take the user's answer to the client."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    query = form["query"]
    try:
        wanted = await parse_request(ctx, own_pages.base_of(ctx, request), query)
    except Refused as refused:
        return kit.go(visitor, refused.where)
    if form["answer"] != "allow":
        denied = OAuthError("access_denied", "The user does not want it.")
        return kit.go(visitor, wanted.reception.refuse(denied))
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None or owner.user_id != form["user_id"]:
        # Somebody else has logged in since the page was shown: they are asked first.
        return kit.go(visitor, f"{places.AUTHORIZE}?{query}")
    code = tokens.new_token(CODE)
    granted = codes.Code(
        wanted.client_id,
        owner.user_id,
        wanted.scope.device_id,
        wanted.scope.granted,
        wanted.reception.redirect_uri,
        wanted.challenge,
        owner.sign_on,
    )
    async with ctx.db.transaction() as tx:
        await codes.add(tx, tokens.hash_of(code), granted, CODE_LIFETIME)
    return kit.go(visitor, wanted.reception.answer(code=code))
