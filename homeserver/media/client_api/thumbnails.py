"""Thumbnails, with and without a token."""

from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.media import limits
from homeserver.media.client_api.downloads import authed, legacy
from homeserver.media.find import Sought
from homeserver.media.ids import mxc_of
from homeserver.media.media import Media
from homeserver.media.serving import Asked, serve
from homeserver.media.thumbnails import size_of, thumbnail

_PATH = "/thumbnail/{serverName}/{mediaId}"


async def _thumbnail(
    ctx: Context, request: Request, asked: Asked, sought: Sought
) -> Answer:
    media = ctx.parts.get(Media)
    content = await thumbnail(ctx, media, sought, size_of(request))
    return await serve(media, content, asked)


@route(
    "GET",
    f"/_matrix/client/v1/media{_PATH}",
    auth=by_access_token,
    since="1.11",
    limit=limits.thumbnails,
    flag="org.matrix.msc3916.stable",
)
async def get_content_thumbnail_authed(ctx: Context, request: ClientRequest) -> Answer:
    """A thumbnail of an image.

    Raises: M_UNKNOWN, when there can be none; M_TOO_LARGE; and as downloads.

    Spec: client-server-api#get_matrixclientv1mediathumbnailservernamemediaid
    """
    return await _thumbnail(ctx, request, *authed(request, mxc_of(request)))


@route(
    "GET",
    f"/_matrix/media/v3{_PATH}",
    auth=nobody,
    limit=limits.thumbnails,
    aliases=(f"/_matrix/media/r0{_PATH}", f"/_matrix/media/v1{_PATH}"),
)
async def get_content_thumbnail(ctx: Context, request: Request) -> Answer:
    """A thumbnail of a file from before downloads needed a token.

    Spec: client-server-api#get_matrixmediav3thumbnailservernamemediaid
    """
    return await _thumbnail(ctx, request, *legacy(request, mxc_of(request)))
