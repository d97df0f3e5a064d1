"""`m.login.sso` on our own pages, for clients that know no more than how to open one.

The client names an address, and nobody vouches that it is the client's: so the user is
shown where the login token would go, and has to agree.

Spec: client-server-api#client-login-via-sso; client-server-api#oauth-20-aware-clients
"""

from typing import Final
from urllib.parse import urlencode, urlsplit

from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.store import login_tokens
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login.client_api import LOGIN_TOKEN_LIFETIME
from homeserver.oauth import browsers, places, uris
from homeserver.oauth.register_pages import sign_up_page
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor, read_form, visitor_of

REDIRECT: Final = "/_matrix/client/v3/login/sso/redirect"
# What a browser would run, or open from the user's own machine.
_DANGEROUS: Final = (
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "filesystem",
)


def _checked(where: str | None) -> str:
    """An address that a browser may be sent to. Raises: M_INVALID_PARAM."""
    parts = uris.split(where or "")
    is_web = parts is not None and parts.scheme in ("http", "https")
    if (
        where is None
        or parts is None
        or parts.scheme in _DANGEROUS
        or (is_web and (not parts.hostname or "@" in parts.netloc))
    ):
        raise errors.invalid_param(
            "The app that sent you here did not say where it wants the answer."
        )
    return where


def _shown(where: str) -> str:
    """What people tell the address by."""
    parts = urlsplit(where)
    is_web = parts.scheme in ("http", "https")
    return parts.netloc if is_web else f"{parts.scheme}:"


@route("GET", REDIRECT, auth=nobody, limit=lookups, since="1.1")
@kit.page
async def redirect_to_sso(ctx: Context, request: Request) -> Answer:
    """Send the browser to the page on which people log in.

    Spec: client-server-api#get_matrixclientv3loginssoredirect
    """
    where = _checked(request.query_str("redirectUrl"))
    page = f"{places.SSO}?{urlencode({'redirectUrl': where})}"
    if request.query_str("action") == "register":
        page = sign_up_page(page)
    reply = kit.go(visitor_of(ctx.config, request), page)
    return Reply(302, b"", reply.headers, reply.content_type)


@route("GET", REDIRECT + "/{idpId}", auth=nobody, limit=lookups, since="1.1")
@kit.page
async def redirect_to_id_p(ctx: Context, request: Request) -> Answer:
    """Send the browser to a provider that people log in with.

    Spec: client-server-api#get_matrixclientv3loginssoredirectidpid
    """
    provider = request.path(str, "idpId")
    if all(each.id != provider for each in ctx.config.sign_on_choices):
        raise errors.not_found("This server knows no such identity provider.")
    where = _checked(request.query_str("redirectUrl"))
    onward = f"{places.SSO}?{urlencode({'redirectUrl': where})}"
    page = places.provider_page(provider, next=onward)
    reply = kit.go(visitor_of(ctx.config, request), page)
    return Reply(302, b"", reply.headers, reply.content_type)


@route("GET", places.SSO, auth=nobody, limit=lookups)
@kit.page
async def show_sso(ctx: Context, request: Request) -> Answer:
    """Ask whether who stands behind the address may log in."""
    visitor = visitor_of(ctx.config, request)
    where = _checked(request.query_str("redirectUrl"))
    return await _ask(ctx, visitor, where)


async def _ask(ctx: Context, visitor: Visitor, where: str) -> Reply:
    here = f"{places.SSO}?{urlencode({'redirectUrl': where})}"
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None:
        return kit.go(visitor, browsers.login_page(here))
    return kit.show(
        ctx,
        visitor,
        "oauth/sso.html",
        allow={"form-action": kit.source_of(where)},
        shown=_shown(where),
        user_id=owner.user_id,
        where=where,
        action=places.SSO,
        logout=places.LOGOUT,
        onward=here,
    )


@route("POST", places.SSO, auth=nobody, limit=lookups)
@kit.page
async def answer_sso(ctx: Context, request: Request) -> Answer:
    """Send a login token to where the user has agreed to."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    where = _checked(form["where"])
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None or owner.user_id != form["user_id"]:
        return await _ask(ctx, visitor, where)
    token = tokens.new_token(tokens.LOGIN)
    async with ctx.db.transaction() as tx:
        await login_tokens.add(
            tx,
            tokens.hash_of(token),
            owner.user_id,
            LOGIN_TOKEN_LIFETIME,
            owner.sign_on,
        )
    return kit.go(visitor, _with_token(where, token))


def _with_token(where: str, token: str) -> str:
    """The address with the token in its query, whatever else stands there."""
    parts = urlsplit(where)
    kept = [
        pair
        for pair in parts.query.split("&")
        if pair and pair.partition("=")[0] != "loginToken"
    ]
    query = "&".join([*kept, urlencode({"loginToken": token})])
    return parts._replace(query=query).geturl()
