"""The pages to log in to this server with a browser, and to log out.

What is wrong, the name or the password, is not said, and both take as long.
"""

from typing import Final

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts.verify import identified_user, verify_password
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key, logins, lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import browsers, places
from homeserver.oauth.register_pages import sign_up_page
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor, read_form, visitor_of

WRONG: Final = "User name or password are wrong."
# What only somebody who knows the password is told, and who must wait.
_TOLD: Final = (
    "M_USER_LOCKED",
    "M_LIMIT_EXCEEDED",
    "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL",
)


@route("GET", places.LOGIN, auth=nobody, limit=lookups)
@kit.page
async def show_login(ctx: Context, request: Request) -> Answer:
    """Ask for name and password."""
    visitor = visitor_of(ctx.config, request)
    onward = browsers.onward(request.query_str("next") or "")
    name = (request.query_str("name") or "")[:255]
    return _ask(ctx, visitor, onward, name=name)


def _ask(
    ctx: Context,
    visitor: Visitor,
    onward: str,
    *,
    name: str = "",
    refused: MatrixError | None = None,
) -> Reply:
    return kit.show(
        ctx,
        visitor,
        "oauth/login.html",
        status=refused.status if refused else 200,
        refused=visitor.say(refused.safe_message) if refused else "",
        name=name,
        onward=onward,
        action=places.LOGIN,
        sign_up=sign_up_page(onward),
        providers=[
            (each.name, places.provider_page(each.id, next=onward))
            for each in ctx.config.sign_on_choices
        ],
        by_password=ctx.config.passwords.log_in,
        can_sign_up=ctx.config.registration.mode != "closed"
        and ctx.config.passwords.log_in,
    )


@route("POST", places.LOGIN, auth=nobody)
@kit.page
async def log_in_browser(ctx: Context, request: Request) -> Answer:
    """Log in, and go on."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    onward, name = browsers.onward(form["next"]), form["name"].strip()
    request.spend(logins, address_key(request.ip))
    identifier: JsonObject = {"type": "m.id.user", "user": name}
    user_id = identified_user({"identifier": identifier}, ctx.server_name)
    try:
        account = await verify_password(
            ctx, request.limits, user_id, form["password"], request.ip
        )
    except MatrixError as error:
        if error.status >= 500:
            raise
        is_told = error.errcode in _TOLD
        refused = error if is_told else errors.forbidden(WRONG)
        return _ask(ctx, visitor, onward, name=name, refused=refused)
    await browsers.log_in(ctx, visitor, account.user_id)
    return kit.go(visitor, onward)


@route("POST", places.LOGOUT, auth=nobody, limit=lookups)
@kit.page
async def log_out_browser(ctx: Context, request: Request) -> Answer:
    """Log out, and let somebody else log in."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    await browsers.log_out(ctx, visitor)
    return kit.go(visitor, browsers.login_page(browsers.onward(form["next"])))
