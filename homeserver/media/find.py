"""From an mxc URI to the file: here, on its way, not there yet, or not to be had."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from homeserver import errors
from homeserver.context import Context
from homeserver.media import store
from homeserver.media.media import Media
from homeserver.media.remote import Fetch, not_yet_uploaded
from homeserver.media.store import Content, Medium, Mxc

DEFAULT_TIMEOUT_MS: Final = 20_000
MAX_TIMEOUT_MS: Final = 60_000
_MOST_WAITING: Final = 1_000
# Uploads at another process of ours are noticed after so long.
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Sought:
    """A file that is asked for, and on which terms."""

    mxc: Mxc
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    # Whether another server may be asked for it.
    allow_remote: bool = True
    # Whether somebody vouches for who asks.
    authenticated: bool = True
    # Called before another server is asked; refuses by raising.
    on_fetch: Callable[[], None] | None = None


def not_there() -> errors.MatrixError:
    """Nobody gets it; whether it was there once is not said."""
    return errors.not_found("There is no such file.")


async def find(ctx: Context, media: Media, sought: Sought) -> Content | Fetch:
    """The file, or the fetch that brings it.

    Raises: M_NOT_FOUND; M_NOT_YET_UPLOADED, when it does not come in time; what
    another server says.
    """
    mxc = sought.mxc
    async with ctx.db.read() as tx:
        medium = await store.find(tx, mxc)
    if medium is not None and (medium.is_hidden or medium.is_expired):
        raise not_there()
    if not sought.authenticated and not _is_open(ctx, medium):
        raise not_there()
    content = None if medium is None else medium.content
    if content is not None:
        media.note_use(mxc)
        return content
    if mxc.origin == ctx.server_name:
        if medium is None:
            raise not_there()
        return await _arrival(ctx, media, sought)
    if not sought.allow_remote or not ctx.config.federation.enabled:
        raise not_there()
    if sought.on_fetch is not None and not media.fetches.is_under_way(mxc):
        sought.on_fetch()
    return media.fetches.fetch(mxc, sought.timeout_ms)


async def find_stored(ctx: Context, media: Media, sought: Sought) -> Content:
    """The file once it is here as a whole. Raises: as `find`."""
    found = await find(ctx, media, sought)
    return await found.stored() if isinstance(found, Fetch) else found


def _is_open(ctx: Context, medium: Medium | None) -> bool:
    """Whether the file is served to who does not say who asks.

    "any media uploaded *before* the freeze remains accessible via the deprecated
    endpoints"; for copies, "the date the cache was populated" counts.
    Spec: client-server-api#content-repo-client-behaviour
    """
    frozen_from = ctx.config.media.frozen_from
    return (
        frozen_from is not None
        and medium is not None
        and medium.stored_at is not None
        and medium.stored_at < frozen_from
    )


async def _arrival(ctx: Context, media: Media, sought: Sought) -> Content:
    """Wait for a file that is to be uploaded here."""
    if len(media.arrivals) >= _MOST_WAITING:
        raise not_yet_uploaded()
    event, leave = media.arrivals.watch(sought.mxc)
    try:
        async with asyncio.timeout(sought.timeout_ms / 1000):
            while not ctx.live.is_stopping:
                content = await _look(ctx, sought.mxc)
                if content is not None:
                    return content
                await _wait(event)
    except TimeoutError:
        pass
    finally:
        leave()
    raise not_yet_uploaded()


async def _wait(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await event.wait()
    except TimeoutError:
        return


async def _look(ctx: Context, mxc: Mxc) -> Content | None:
    async with ctx.db.read() as tx:
        medium = await store.find(tx, mxc)
    if medium is None or medium.is_hidden or medium.is_expired:
        raise not_there()
    return medium.content
