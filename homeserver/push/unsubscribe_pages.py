"""The page behind the link in e-mails about what is unread: no more of them.

Whoever has the link may follow it, without a log-in: a mail program does by itself when
its user says so (RFC 8058). Looking at the page changes nothing, for programs look too.
"""

from typing import Final

from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import Limit, address_key
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.pages import kit
from homeserver.pages.visitors import visitor_of
from homeserver.push import mails
from homeserver.push.mailer import PAGE

_TEMPLATE: Final = "push/unsubscribe.html"
_trying: Final = Limit("unsubscribing", per_second=0.5, burst=50)


@route("GET", PAGE, auth=nobody)
@kit.page
async def show_unsubscribing(ctx: Context, request: Request) -> Answer:
    """Ask whether no more e-mails are wanted."""
    request.spend(_trying, address_key(request.ip))
    token = request.query_str("token") or ""
    async with ctx.db.read() as tx:
        found = await mails.by_token(tx, token)
    if found is None:
        raise errors.not_found("These e-mails are not sent any more.")
    visitor = visitor_of(ctx.config, request)
    return kit.show(
        ctx, visitor, _TEMPLATE, address=found.pushkey, is_done=False, token=token
    )


@route("POST", PAGE, auth=nobody)
@kit.page
async def unsubscribe(ctx: Context, request: Request) -> Answer:
    """Send no more e-mails; what the form holds beside the link does not matter."""
    request.spend(_trying, address_key(request.ip))
    token = request.query_str("token") or ""
    async with ctx.db.transaction() as tx:
        await mails.unsubscribe(tx, token)
    visitor = visitor_of(ctx.config, request)
    return kit.show(ctx, visitor, _TEMPLATE, address="", is_done=True, token="")
