"""Previews of links, where the configuration allows them."""

from typing import Final
from urllib.parse import urlsplit

from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.media import limits
from homeserver.media.previews import store
from homeserver.media.previews.look import look

_MOST_URL: Final = 4_000


@route(
    "GET",
    "/_matrix/media/v3/preview_url",
    auth=by_access_token,
    limit=limits.previews,
    aliases=("/_matrix/media/r0/preview_url", "/_matrix/media/v1/preview_url"),
    operation="get_url_preview",
)
@route(
    "GET",
    "/_matrix/client/v1/media/preview_url",
    auth=by_access_token,
    since="1.11",
    limit=limits.previews,
    flag="org.matrix.msc3916.stable",
)
async def get_url_preview_authed(ctx: Context, request: ClientRequest) -> Answer:
    """What a page says of itself.

    Raises: M_FORBIDDEN, when previews are off (MSC4452); 502, when the link leads
    nowhere.

    Spec: client-server-api#get_matrixclientv1mediapreview_url
    """
    if not ctx.config.media.url_previews or request.is_guest:
        raise errors.forbidden("This server makes no previews of links.")
    url = _checked(request.query_required("url"))
    request.query_int("ts", 0)
    async with ctx.db.read() as tx:
        found = await store.find(tx, url)
    if found is not None:
        return found
    async with ctx.turns.take(("preview", url)):
        async with ctx.db.read() as tx:
            found = await store.find(tx, url)
        if found is None:
            found = await look(ctx, url)
            async with ctx.db.transaction() as tx:
                await store.keep(tx, url, found)
    return found


def _checked(url: str) -> str:
    """The link without its fragment. Raises: M_INVALID_PARAM."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good or len(url) > _MOST_URL:
        raise errors.invalid_param("url: an http or https link is needed.")
    return url.partition("#")[0]
