"""Uploads: receive a file, put it in its place, and only then say that it is there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from federation.ids import UserId
from homeserver import errors
from homeserver.config.media import Media as MediaConfig
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.media import store
from homeserver.media.media import Media
from homeserver.media.places import Draft, Place
from homeserver.media.receiving import TooBig, drafting, receive
from homeserver.media.store import Content, Mxc

# A client that sends nothing for so long has gone.
_SILENCE_SECONDS: Final = 60.0


class Body(Protocol):
    """What a file comes from; empty at its end."""

    async def readany(self) -> bytes:
        """What has come."""

    async def readchunk(self) -> tuple[bytes, bool]:
        """The next piece, and whether a piece has ended; nothing twice: the end."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a user sends."""

    user_id: UserId
    content_type: str
    filename: str | None
    # What the client says that comes; None: it does not say.
    size: int | None


async def check_quota(ctx: Context, user_id: UserId, more: int) -> None:
    """Refuse what exceeds a quota. Raises: M_FORBIDDEN, with the numbers."""
    config: MediaConfig = ctx.config.media
    user_most, total_most = config.user_bytes, config.total_bytes
    if not user_most and not total_most:
        return
    async with ctx.db.read() as tx:
        used = await store.usage(tx, user_id, with_total=total_most > 0)
    if user_most and used.user + more > user_most:
        raise errors.quota_exceeded(used.user, user_most, more)
    if total_most and used.total + more > total_most:
        raise errors.forbidden("This server has no room for more files.")


async def take(
    ctx: Context,
    media: Media,
    upload: Upload,
    body: Body,
    mxc: Mxc,
    *,
    is_new: bool,
) -> None:
    """Receive a file, store it, and have it be what the URI stands for, or nothing.

    `is_new`: the URI is given to it now; else it was created before.

    Raises: M_TOO_LARGE, M_FORBIDDEN, M_CANNOT_OVERWRITE_MEDIA, 408.
    """
    most = ctx.config.media.upload_bytes
    if upload.size is not None and upload.size > most:
        raise too_large(most)
    if upload.size:
        await check_quota(ctx, upload.user_id, upload.size)
    with media.uploads.one(upload.user_id):
        if media.scanner.is_on:
            async with drafting(media.files.spool()) as spooled:
                await _receive(spooled, body, most)
                await media.scanner.check(spooled.path)
                await _keep(ctx, media, upload, spooled, mxc, is_new=is_new)
        else:
            async with drafting(media.files.begin(upload.size)) as draft:
                await _receive(draft, body, most)
                await _keep(ctx, media, upload, draft, mxc, is_new=is_new)


async def _receive(draft: Draft, body: Body, most: int) -> None:
    try:
        await receive(draft, _pieces(body), most)
    except TooBig:
        raise too_large(most) from None


async def _keep(
    ctx: Context, media: Media, upload: Upload, draft: Draft, mxc: Mxc, *, is_new: bool
) -> None:
    await check_quota(ctx, upload.user_id, draft.size)
    content = Content(
        draft.sha256,
        draft.size,
        upload.content_type,
        upload.filename,
        await draft.keep(),
    )
    try:
        if is_new:
            async with ctx.db.read() as tx:
                place = await store.add_upload(tx, mxc, upload.user_id, content)
        else:
            place = await _fill(ctx, mxc, content)
    except MatrixError:
        await media.files.delete(content.place)
        raise
    await settle(media, content, place)


async def _fill(ctx: Context, mxc: Mxc, content: Content) -> Place | None:
    async with ctx.db.transaction() as tx:
        place = await store.add_file(tx, content.sha256, content.size, content.place)
        if place is not None and not await store.fill(tx, mxc, content):
            raise cannot_overwrite()
    return place


async def settle(media: Media, content: Content, place: Place | None) -> Content:
    """Where a file is that has just been counted, among others as it may be.

    Raises: M_FORBIDDEN, when its content is blocked.
    """
    if place != content.place:
        # Another file has this content already, or nobody may have it.
        await media.files.delete(content.place)
    if place is None:
        raise errors.forbidden("This file may not be uploaded.")
    return replace(content, place=place)


def cannot_overwrite() -> MatrixError:
    """The URI has its file."""
    return MatrixError(
        409, "M_CANNOT_OVERWRITE_MEDIA", "The file has been uploaded already."
    )


def too_large(most: int) -> errors.MatrixError:
    """The file exceeds what may be uploaded."""
    return errors.too_large(f"A file can have at most {most} bytes here.")


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """What the client sends, as it comes. Raises: 408."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                piece = await body.readany()
        except TimeoutError:
            raise errors.unknown("The file did not go on.", status=408) from None
        if not piece:
            return
        yield piece
