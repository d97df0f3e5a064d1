"""What is done now and then: the cache kept small, and leftovers swept up."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

import structlog

from homeserver.context import Context
from homeserver.db import leases
from homeserver.media import leftovers
from homeserver.media.media import Media
from homeserver.media.places import Store, Unavailable
from homeserver.media.previews import store as previews_store

TIDY_EVERY_S: Final = 60.0
SWEEP_EVERY_S: Final = 600.0
# One process of all sweeps; its turn ends before the next one.
_LEASE: Final = "media-sweep"
_HOLDER: Final = secrets.token_hex(8)

log = structlog.get_logger(__name__)


async def tidy(ctx: Context) -> None:
    """Write down what was used, and keep the cache within its bound."""
    media = ctx.parts.get(Media)
    await media.write_uses(ctx)
    async with ctx.db.transaction() as tx:
        forgotten = await leftovers.forget_copies_beyond(
            tx, ctx.config.media.cache_bytes
        )
    if forgotten:
        log.info("copies of other servers' files removed", files=forgotten)
        await delete_unneeded(ctx, media)


async def sweep_in_turn(ctx: Context) -> None:
    """Sweep, unless another process of this server does."""
    async with ctx.db.transaction() as tx:
        is_ours = await leases.claim(tx, _LEASE, _HOLDER, SWEEP_EVERY_S)
    if is_ours:
        await sweep(ctx)


async def sweep(ctx: Context) -> None:
    """Remove what nothing needs, and what a crash left behind."""
    media = ctx.parts.get(Media)
    days = ctx.config.media.remote_keep_days
    async with ctx.db.transaction() as tx:
        await leftovers.forget_expired(tx)
        await previews_store.forget_old(tx)
        if days:
            await leftovers.forget_unused_copies(tx, days)
    await delete_unneeded(ctx, media)
    for each in media.files.stores.values():
        try:
            await _sweep_store(ctx, media, each)
        except Unavailable as error:
            log.warning("a store cannot be swept", store=each.name, reason=str(error))


async def _sweep_store(ctx: Context, media: Media, swept: Store) -> None:
    await swept.give_up_drafts()
    shelves = await swept.shelves()
    orphans: list[str] = []
    for shelf in media.next_shelves(swept.name, shelves, swept.shelves_at_once):
        found = await swept.on_shelf(shelf)
        async with ctx.db.read() as tx:
            orphans += await leftovers.unknown(tx, swept.name, found)
    if not orphans:
        return
    # A row follows its file within moments; S3 may give a file the time at which its
    # upload began, so that a new one looks old.
    await asyncio.sleep(media.settle_s)
    async with ctx.db.read() as tx:
        orphans = await leftovers.unknown(tx, swept.name, orphans)
    for key in orphans:
        await swept.delete(key)
    if orphans:
        log.info("leftover files removed", store=swept.name, files=len(orphans))


async def delete_unneeded(ctx: Context, media: Media) -> None:
    """Delete the files that nothing needs, and thumbnails of what is gone."""
    async with ctx.db.transaction() as tx:
        await leftovers.forget_thumbnails(tx)
    while True:
        async with ctx.db.read() as tx:
            found = await leftovers.unneeded(tx)
        if not await _delete(ctx, media, found):
            return


async def _delete(ctx: Context, media: Media, contents: Sequence[bytes]) -> int:
    deleted = 0
    for sha256 in contents:
        async with ctx.db.transaction() as tx:
            place = await leftovers.forget_file(tx, sha256)
        if place is not None:
            await media.files.delete(place)
            deleted += 1
    return deleted
