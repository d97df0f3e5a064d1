"""Uploads: receive a file, put it in its place, and only then say that it is there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader

from federation.ids import UserId
from homeserver import errors
from homeserver.config.media import Media as MediaConfig
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.http.files import in_thread
from homeserver.media import store
from homeserver.media.media import Media
from homeserver.media.receiving import TooBig, drafting, receive
from homeserver.media.store import Content

# A client that sends nothing for so long has gone.
_SILENCE_SECONDS: Final = 60.0

# Names the file in the transaction that counts it.
Name = Callable[[Tx, Content], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a user sends."""

    user_id: UserId
    content_type: str
    filename: str | None
    # What the client says that comes; None: it does not say.
    size: int | None


async def check_quota(ctx: Context, tx: Tx, user_id: UserId, more: int) -> None:
    """Refuse what exceeds a quota. Raises: M_FORBIDDEN, with the numbers."""
    config: MediaConfig = ctx.config.media
    user_most, total_most = config.user_bytes, config.total_bytes
    if not user_most and not total_most:
        return
    used = await store.usage(tx, user_id, with_total=total_most > 0)
    if user_most and used.user + more > user_most:
        raise errors.quota_exceeded(used.user, user_most, more)
    if total_most and used.total + more > total_most:
        raise errors.forbidden("This server has no room for more files.")


async def take(
    ctx: Context, media: Media, upload: Upload, body: StreamReader, name: Name
) -> Content:
    """Receive a file, store it and have it named, all or nothing.

    Raises: M_TOO_LARGE, M_FORBIDDEN, 408.
    """
    most = ctx.config.media.upload_bytes
    if upload.size is not None and upload.size > most:
        raise too_large(most)
    if upload.size:
        async with ctx.db.read() as tx:
            await check_quota(ctx, tx, upload.user_id, upload.size)
    with media.uploads.one(upload.user_id):
        async with drafting(media.disk) as draft:
            try:
                await receive(draft, _pieces(body), most)
            except TooBig:
                raise too_large(most) from None
            content = Content(
                draft.sha256, draft.size, upload.content_type, upload.filename
            )
            await media.scanner.check(draft.path)
            async with ctx.db.transaction() as tx:
                await check_quota(ctx, tx, upload.user_id, content.size)
                if not await store.add_file(tx, content.sha256, content.size):
                    raise errors.forbidden("This file may not be uploaded.")
                await in_thread(media.disk.keep, draft)
                await name(tx, content)
    return content


def too_large(most: int) -> errors.MatrixError:
    """The file exceeds what may be uploaded."""
    return errors.too_large(f"A file can have at most {most} bytes here.")


async def _pieces(body: StreamReader) -> AsyncIterator[bytes]:
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
