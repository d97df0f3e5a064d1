"""Downloads, with and without a token, whole or in part."""

from dataclasses import replace
from typing import Final

from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import address_key
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.media import limits
from homeserver.media.find import DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS, Sought, find
from homeserver.media.ids import mxc_of
from homeserver.media.media import Media
from homeserver.media.remote import Fetch
from homeserver.media.serving import Asked, pass_on, serve
from homeserver.media.store import Mxc

_FLAG: Final = "org.matrix.msc3916.stable"
_V1: Final = "/_matrix/client/v1/media"
_V3: Final = "/_matrix/media/v3"
# The paths of before v1.1.
_OLD: Final = ("/_matrix/media/r0", "/_matrix/media/v1")
_FILE: Final = "/download/{serverName}/{mediaId}"
_NAMED: Final = "/download/{serverName}/{mediaId}/{fileName}"


def timeout_of(request: Request) -> int:
    """How long the client waits for a file that is not there yet, in milliseconds."""
    return request.query_int("timeout_ms", DEFAULT_TIMEOUT_MS, at_most=MAX_TIMEOUT_MS)


async def _download(ctx: Context, asked: Asked, sought: Sought) -> Answer:
    media = ctx.parts.get(Media)
    found = await find(ctx, media, sought)
    if isinstance(found, Fetch):
        return await pass_on(media, found, asked)
    return await serve(media, found, asked)


def authed(request: ClientRequest, mxc: Mxc) -> tuple[Asked, Sought]:
    """How a user asks for a file."""
    key = request.user_id
    redirects = request.query_bool("allow_redirect")
    return Asked(request.headers, key, redirects=redirects), Sought(
        mxc,
        timeout_of(request),
        on_fetch=lambda: request.spend(limits.fetches, key),
    )


def legacy(request: Request, mxc: Mxc) -> tuple[Asked, Sought]:
    """How anybody asks for a file."""
    key = address_key(request.ip)
    redirects = request.query_bool("allow_redirect")
    return Asked(request.headers, key, is_public=True, redirects=redirects), Sought(
        mxc,
        timeout_of(request),
        allow_remote=request.query_bool("allow_remote", default=True),
        authenticated=False,
        on_fetch=lambda: request.spend(limits.fetches, key),
    )


@route(
    "GET",
    _V1 + _FILE,
    auth=by_access_token,
    since="1.11",
    limit=limits.downloads,
    flag=_FLAG,
)
async def get_content_authed(ctx: Context, request: ClientRequest) -> Answer:
    """A file.

    Raises: M_NOT_FOUND; M_NOT_YET_UPLOADED; 502, when its server does not give it.

    Spec: client-server-api#get_matrixclientv1mediadownloadservernamemediaid
    """
    return await _download(ctx, *authed(request, mxc_of(request)))


@route(
    "GET",
    _V1 + _NAMED,
    auth=by_access_token,
    since="1.11",
    limit=limits.downloads,
    flag=_FLAG,
)
async def get_content_override_name_authed(
    ctx: Context, request: ClientRequest
) -> Answer:
    """A file, under another name. Raises: as `get_content_authed`.

    Spec: client-server-api#get_matrixclientv1mediadownloadservernamemediaidfilename
    """
    asked, sought = authed(request, mxc_of(request))
    return await _download(ctx, _renamed(asked, request), sought)


@route(
    "GET",
    _V3 + _FILE,
    auth=nobody,
    limit=limits.downloads,
    aliases=tuple(old + _FILE for old in _OLD),
)
async def get_content(ctx: Context, request: Request) -> Answer:
    """A file from before downloads needed a token. Raises: as `get_content_authed`.

    Spec: client-server-api#get_matrixmediav3downloadservernamemediaid
    """
    return await _download(ctx, *legacy(request, mxc_of(request)))


@route(
    "GET",
    _V3 + _NAMED,
    auth=nobody,
    limit=limits.downloads,
    aliases=tuple(old + _NAMED for old in _OLD),
)
async def get_content_override_name(ctx: Context, request: Request) -> Answer:
    """The same, under another name. Raises: as `get_content_authed`.

    Spec: client-server-api#get_matrixmediav3downloadservernamemediaidfilename
    """
    asked, sought = legacy(request, mxc_of(request))
    return await _download(ctx, _renamed(asked, request), sought)


def _renamed(asked: Asked, request: Request) -> Asked:
    name = request.path(str, "fileName")
    return replace(asked, filename=name)
