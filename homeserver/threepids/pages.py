"""The page behind the link of an e-mail: a button confirms the address."""

from typing import Final
from urllib.parse import urlsplit

from homeserver.accounts.addresses import EMAIL
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.pages import kit
from homeserver.pages.visitors import read_form, visitor_of
from homeserver.threepids import validation

_TEMPLATE: Final = "threepids/confirm.html"


@route("GET", validation.PAGE, auth=nobody)
@kit.page
async def show_confirmation(ctx: Context, request: Request) -> Answer:
    """Ask whether the address is to be confirmed."""
    visitor = visitor_of(ctx.config, request)
    sid, token = request.query_str("sid") or "", request.query_str("token") or ""
    request.spend(validation.trying, address_key(request.ip))
    found = await validation.find(ctx, sid, token)
    if found is None or found.medium != EMAIL:
        raise validation.refused()
    return kit.show(
        ctx,
        visitor,
        _TEMPLATE,
        allow=_targets(found.next_link),
        address=found.address,
        is_done=False,
        sid=sid,
        token=token,
        next_link="",
        next_host="",
    )


@route("POST", validation.PAGE, auth=nobody)
@kit.page
async def confirm(ctx: Context, request: Request) -> Answer:
    """Confirm the address, and go on where the client wants it."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    request.spend(validation.trying, address_key(request.ip))
    found = await validation.submit(ctx, form["sid"], form["token"])
    if found is None:
        raise validation.refused()
    host = urlsplit(found.next_link or "").hostname or ""
    if found.next_link and host in ctx.config.threepids.next_link_hosts:
        return kit.go(visitor, found.next_link)
    return kit.show(
        ctx,
        visitor,
        _TEMPLATE,
        address=found.address,
        is_done=True,
        sid="",
        token="",
        next_link=found.next_link or "",
        next_host=host,
    )


def _targets(next_link: str | None) -> dict[str, str]:
    return {"form-action": kit.source_of(next_link)} if next_link else {}
