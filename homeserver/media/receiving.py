"""From bytes that come over the network to a file on the disk, in constant memory.

While one batch is written and hashed in a thread, the next one is received; when the
disk is slower than the network, the network waits.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from homeserver import errors
from homeserver.http.files import in_thread
from homeserver.media.disk import Disk, Draft

_BATCH: Final = 512 * 1024


class TooBig(Exception):  # noqa: N818 - reads as a sentence at the raise
    """More came than may be kept."""


@asynccontextmanager
async def drafting(disk: Disk) -> AsyncIterator[Draft]:
    """A draft for the length of the block; afterwards it is kept or gone.

    Raises: 503, when the disk is full.
    """
    draft = await in_thread(disk.begin)
    try:
        yield draft
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.unavailable(
                "The server has no room for files just now."
            ) from error
        raise
    finally:
        await asyncio.shield(in_thread(draft.discard))


async def receive(
    draft: Draft,
    chunks: AsyncIterator[bytes],
    most: int,
    on_written: Callable[[], None] | None = None,
) -> None:
    """Write all chunks and put them onto the disk. `on_written` is called meanwhile.

    Raises: TooBig.
    """
    size = 0
    held: list[bytes] = []
    held_size = 0
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise TooBig
            held.append(chunk)
            held_size += len(chunk)
            # Whoever reads what is written gets it at once.
            if on_written is None and held_size < _BATCH:
                continue
            if writing is not None:
                await asyncio.shield(writing)
            writing = in_thread(draft.add, held)
            held, held_size = [], 0
            if on_written is not None:
                await asyncio.shield(writing)
                on_written()
        if writing is not None:
            await asyncio.shield(writing)
        writing = in_thread(_finish, draft, held)
        await asyncio.shield(writing)
    finally:
        if writing is not None and not writing.done():
            # The file must not be closed under the thread.
            await asyncio.wait([writing])
    if on_written is not None:
        on_written()


def _finish(draft: Draft, held: list[bytes]) -> None:
    draft.add(held)
    draft.finish()
