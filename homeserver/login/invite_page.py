"""The page behind an invite link: which server this is, and which apps to use."""

from typing import Final
from urllib.parse import quote, urlencode

from homeserver.accounts.store import registration_tokens
from homeserver.config import Config
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import logins
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login.register import MAX_TOKEN
from homeserver.pages import kit
from homeserver.pages.visitors import visitor_of

PATH: Final = "/account/invite/"
# The page on which accounts are made; it stands further down, in `oauth`.
_SIGN_UP: Final = "/account/register"
# For phones and for computers: the name and where to get it.
APPS: Final = (
    ("Element X", "https://element.io/download"),
    ("Element Web", "https://app.element.io"),
    ("FluffyChat", "https://fluffychat.im"),
    ("Cinny", "https://cinny.in"),
    ("Nheko", "https://nheko-reborn.github.io"),
    ("Fractal", "https://wiki.gnome.org/Apps/Fractal"),
)


def invite_link(config: Config, token: str) -> str:
    """The link that brings somebody here with a token."""
    base = config.public_base_url.rstrip("/")
    return f"{base}{PATH}{quote(token, safe='')}"


@route("GET", PATH + "{token}", auth=nobody, limit=logins)
@kit.page
async def show_invite(ctx: Context, request: Request) -> Answer:
    """Say where somebody is invited to, and how to come in."""
    visitor, token = visitor_of(ctx.config, request), request.path(str, "token")
    is_good = False
    if ctx.config.registration.mode == "token" and len(token) <= MAX_TOKEN:
        async with ctx.db.read() as tx:
            is_good = "\0" not in token and await registration_tokens.is_valid(
                tx, token
            )
    return kit.show(
        ctx,
        visitor,
        "login/invite.html",
        status=200 if is_good else 404,
        is_good=is_good,
        token=token,
        sign_up=f"{_SIGN_UP}?{urlencode({'token': token})}",
        address=ctx.config.public_base_url or ctx.server_name,
        apps=APPS,
    )
