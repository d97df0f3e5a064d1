"""Files and thumbnails for other servers, each in an envelope of two parts.

Spec: server-server-api#content-repository
"""

from collections.abc import AsyncIterator
from typing import Final

from federation.wire.multipart import Frame, frame
from homeserver.context import Context
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer, Reply, Stream
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.media import headers
from homeserver.media.client_api.downloads import timeout_of
from homeserver.media.find import Sought, find_stored
from homeserver.media.ids import media_id_of
from homeserver.media.media import Media
from homeserver.media.places import Part
from homeserver.media.serving import link_of, opened
from homeserver.media.store import Content, Mxc
from homeserver.media.thumbnails import size_of, thumbnail

_V1: Final = "/_matrix/federation/v1/media"


def _sought(ctx: Context, request: FederationRequest) -> Sought:
    return Sought(
        Mxc(ctx.server_name, media_id_of(request)),
        timeout_of(request),
        allow_remote=False,
    )


@route(
    "GET",
    f"{_V1}/download/{{mediaId}}",
    auth=by_server,
    since="1.11",
    limit=federation,
    operation="get_content",
)
async def get_content(ctx: Context, request: FederationRequest) -> Answer:
    """A file of this server.

    Raises: M_NOT_FOUND; M_NOT_YET_UPLOADED.

    Spec: server-server-api#get_matrixfederationv1mediadownloadmediaid
    """
    media = ctx.parts.get(Media)
    content = await find_stored(ctx, media, _sought(ctx, request))
    return await _enveloped(media, content, str(request.origin), inline=None)


@route(
    "GET",
    f"{_V1}/thumbnail/{{mediaId}}",
    auth=by_server,
    since="1.11",
    limit=federation,
)
async def get_content_thumbnail(ctx: Context, request: FederationRequest) -> Answer:
    """A thumbnail of a file of this server.

    Raises: M_UNKNOWN, when there can be none; M_TOO_LARGE; M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1mediathumbnailmediaid
    """
    media = ctx.parts.get(Media)
    sought, size = _sought(ctx, request), size_of(request)
    content = await thumbnail(ctx, media, sought, size)
    return await _enveloped(media, content, str(request.origin), inline=True)


async def _enveloped(
    media: Media, content: Content, key: str, *, inline: bool | None
) -> Answer:
    kind = content.content_type or headers.OCTETS
    disposition = headers.disposition(kind, content.filename, inline=inline)
    link = link_of(media, content, disposition)
    if link is not None and link.startswith("https:"):
        # "or a `Location` header to redirect the caller to where the media can be
        # retrieved".
        around = frame({"Location": link})
        body = around.beginning + around.end
        return Reply(200, body, {}, around.content_type)
    around = frame({"Content-Type": kind, "Content-Disposition": disposition})
    part, after = await opened(media, content, 0, content.size, key)
    length = len(around.beginning) + content.size + len(around.end)
    return Stream(
        _parts(part, around),
        headers={"Content-Length": str(length)},
        content_type=around.content_type,
        after=after,
    )


async def _parts(part: Part, around: Frame) -> AsyncIterator[bytes]:
    yield around.beginning
    async for piece in part.chunks():
        yield piece
    yield around.end
