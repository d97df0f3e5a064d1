"""From bytes that come over the network to a file in a store, in constant memory.

While one batch is written and hashed in a thread, the next one is received; when the
store is slower than the network, the network waits.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog

from homeserver import errors
from homeserver.media.places import Draft, Unavailable

_BATCH: Final = 1024 * 1024

D = TypeVar("D", bound=Draft)

log = structlog.get_logger(__name__)


class TooBig(Exception):  # noqa: N818 - reads as a sentence at the raise
    """More came than may be kept."""


@asynccontextmanager
async def drafting(begin: Awaitable[D]) -> AsyncIterator[D]:
    """A draft for the length of the block; afterwards it is kept or gone.

    Raises: 503, when the disk is full or the store does not answer.
    """
    try:
        draft = await begin
        try:
            yield draft
        finally:
            await asyncio.shield(draft.discard())
    except Unavailable as error:
        raise unavailable(error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.unavailable(
                "The server has no room for files just now."
            ) from error
        raise


def unavailable(error: Unavailable) -> errors.MatrixError:
    """What a client is told when the store does not do its part."""
    log.error("the store of files does not answer", reason=str(error))
    return errors.unavailable("The files cannot be reached just now.")


async def receive(
    draft: Draft,
    chunks: AsyncIterator[bytes],
    most: int,
    on_written: Callable[[], None] | None = None,
) -> None:
    """Write all chunks. `on_written` is called meanwhile.

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
            writing = draft.add(held)
            held, held_size = [], 0
            if on_written is not None:
                await asyncio.shield(writing)
                on_written()
        if writing is not None:
            await asyncio.shield(writing)
        writing = draft.add(held)
        await asyncio.shield(writing)
    finally:
        if writing is not None and not writing.done():
            # The file must not be closed under the thread.
            await asyncio.wait([writing])
    if on_written is not None:
        on_written()
