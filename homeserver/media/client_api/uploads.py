"""Uploads, at once or to a URI that was created before, and what is allowed."""

from typing import Final

from federation.ids import UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.media import headers, limits, store
from homeserver.media.ids import mxc_of, new_id
from homeserver.media.media import Media
from homeserver.media.store import Mxc
from homeserver.media.upload import Upload, cannot_overwrite, take

# The configured limit is checked where it is known.
_ANY_SIZE: Final = 2**62
_V3: Final = "/_matrix/media/v3"


def _upload_of(request: ClientRequest) -> Upload:
    """What the request says of its file. Raises: M_INVALID_PARAM, M_FORBIDDEN."""
    if request.is_guest:
        raise errors.guest_access_forbidden("Guests cannot upload files.")
    filename = request.query_str("filename")
    if filename is not None and len(filename) > headers.MAX_NAME:
        raise errors.invalid_param(
            f"filename: at most {headers.MAX_NAME} characters are taken."
        )
    return Upload(
        request.user_id,
        headers.content_type(request.headers.get("Content-Type")),
        filename or None,
        request.raw.content_length,
    )


@route(
    "POST",
    f"{_V3}/upload",
    auth=by_access_token,
    limit=limits.uploads,
    aliases=("/_matrix/media/r0/upload", "/_matrix/media/v1/upload"),
    max_body=_ANY_SIZE,
    streams_body=True,
)
async def upload_content(ctx: Context, request: ClientRequest) -> Answer:
    """Take a file and give it a URI.

    Raises: M_TOO_LARGE; M_FORBIDDEN, when the quota is used up.

    Spec: client-server-api#post_matrixmediav3upload
    """
    media = ctx.parts.get(Media)
    upload = _upload_of(request)
    mxc = Mxc(ctx.server_name, new_id())
    await take(ctx, media, upload, request.raw.content, mxc, is_new=True)
    return {"content_uri": str(mxc)}


@route(
    "POST",
    "/_matrix/media/v1/create",
    auth=by_access_token,
    since="1.7",
    limit=limits.creations,
    aliases=("/_matrix/media/unstable/fi.mau.msc2246/create",),
)
async def create_content(ctx: Context, request: ClientRequest) -> Answer:
    """Give a URI to a file that comes later.

    Raises: M_LIMIT_EXCEEDED, when too many have been created and not uploaded to.

    Spec: client-server-api#post_matrixmediav1create
    """
    if request.is_guest:
        raise errors.guest_access_forbidden("Guests cannot upload files.")
    mxc = Mxc(ctx.server_name, new_id())
    async with ctx.db.transaction() as tx:
        expires_at = await store.create(
            tx, mxc, request.user_id, limits.PENDING_SECONDS, limits.MOST_PENDING
        )
    if expires_at is None:
        raise errors.limit_exceeded(60_000)
    return {
        "content_uri": str(mxc),
        "unused_expires_at": int(expires_at.timestamp() * 1000),
    }


@route(
    "PUT",
    f"{_V3}/upload/{{serverName}}/{{mediaId}}",
    auth=by_access_token,
    since="1.7",
    limit=limits.uploads,
    aliases=("/_matrix/media/unstable/fi.mau.msc2246/upload/{serverName}/{mediaId}",),
    max_body=_ANY_SIZE,
    streams_body=True,
)
async def upload_content_to_mxc(ctx: Context, request: ClientRequest) -> Answer:
    """Take the file for a URI that was created.

    Raises: M_FORBIDDEN, when somebody else created it; M_CANNOT_OVERWRITE_MEDIA, when
    its file has come already; M_NOT_FOUND; M_TOO_LARGE.

    Spec: client-server-api#put_matrixmediav3uploadservernamemediaid
    """
    media = ctx.parts.get(Media)
    upload = _upload_of(request)
    mxc = mxc_of(request)
    await _check_created(ctx, mxc, upload.user_id)
    await take(ctx, media, upload, request.raw.content, mxc, is_new=False)
    media.arrivals.has_come(mxc)
    return {}


async def _check_created(ctx: Context, mxc: Mxc, user_id: UserId) -> None:
    async with ctx.db.read() as tx:
        medium = await store.find(tx, mxc)
    if mxc.origin != ctx.server_name or medium is None or medium.is_expired:
        raise errors.not_found("This URI was not created here, or has expired.")
    if medium.user_id != user_id:
        raise errors.forbidden("Somebody else created this URI.")
    if medium.sha256 is not None:
        raise cannot_overwrite()


@route(
    "GET",
    f"{_V3}/config",
    auth=by_access_token,
    aliases=("/_matrix/media/r0/config", "/_matrix/media/v1/config"),
    operation="get_config",
)
@route(
    "GET",
    "/_matrix/client/v1/media/config",
    auth=by_access_token,
    since="1.11",
    flag="org.matrix.msc3916.stable",
)
async def get_config_authed(ctx: Context, _request: ClientRequest) -> Answer:
    """How large a file may be.

    Spec: client-server-api#get_matrixclientv1mediaconfig
    """
    return {"m.upload.size": ctx.config.media.upload_bytes}
