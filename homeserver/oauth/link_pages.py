"""The page on which a user allows a device that shows a code (RFC 8628, 3.3).

Spec: client-server-api#device-authorisation-flow
"""

from typing import Final
from urllib.parse import urlencode

from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import Limit, lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import browsers, places
from homeserver.oauth.store import device_codes
from homeserver.oauth.store.browsers import Owner
from homeserver.oauth.token_api import USER_CODE_LENGTH, USER_CODE_LETTERS, known_client
from homeserver.pages import kit
from homeserver.pages.visitors import Visitor, read_form, visitor_of

# By user: with twenty billion codes nobody finds one that way.
user_codes: Final = Limit("user_codes", per_second=0.1, burst=10)
WRONG: Final = "No device waits with this code. It may have taken too long."


def _typed(code: str) -> str:
    """The code, however it was typed."""
    return "".join(sign for sign in code[:40].upper() if sign in USER_CODE_LETTERS)


@route("GET", places.LINK, auth=nobody, limit=lookups)
@kit.page
async def show_link(ctx: Context, request: Request) -> Answer:
    """Ask for the code, or, with a code, whether its device is allowed."""
    visitor = visitor_of(ctx.config, request)
    code = _typed(request.query_str("user_code") or "")
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None:
        where = f"{places.LINK}?{urlencode({'user_code': code})}" if code else ""
        return kit.go(visitor, browsers.login_page(where or places.LINK))
    if not code:
        return _ask_code(ctx, visitor, "")
    request.spend(user_codes, owner.user_id)
    return await _ask(ctx, visitor, owner, code)


def _ask_code(ctx: Context, visitor: Visitor, refused: str) -> Reply:
    return kit.show(
        ctx,
        visitor,
        "oauth/link.html",
        status=400 if refused else 200,
        refused=refused,
        action=places.LINK,
    )


async def _ask(ctx: Context, visitor: Visitor, owner: Owner, code: str) -> Reply:
    found = None
    if len(code) == USER_CODE_LENGTH:
        async with ctx.db.read() as tx:
            found = await device_codes.by_user_code(tx, code)
    if found is None:
        return _ask_code(ctx, visitor, visitor.say(WRONG))
    client = await known_client(ctx, found.client_id)
    return kit.show(
        ctx,
        visitor,
        "oauth/link_consent.html",
        client=client,
        device_id=found.device_id,
        user_id=owner.user_id,
        shown=f"{code[:4]}-{code[4:]}",
        code=code,
        action=places.LINK,
    )


@route("POST", places.LINK, auth=nobody, limit=lookups)
@kit.page
async def answer_link(ctx: Context, request: Request) -> Answer:
    """Take the code, or the answer to whether its device is allowed."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    code = _typed(form["user_code"])
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None:
        return kit.go(visitor, browsers.login_page(places.LINK))
    request.spend(user_codes, owner.user_id)
    if form["user_id"] != owner.user_id or form["answer"] not in ("allow", "deny"):
        return await _ask(ctx, visitor, owner, code)
    allowed = form["answer"] == "allow"
    async with ctx.db.transaction() as tx:
        if not await device_codes.answer(
            tx, code, owner.user_id, allowed=allowed, sign_on=owner.sign_on
        ):
            raise errors.invalid_param(WRONG)
    return kit.show(ctx, visitor, "oauth/linked.html", allowed=allowed)
