"""Moving files from one store to the other while the server runs.

Each file is read once, and goes only when what arrived has the right SHA-256. A move
that is cut off is taken up where it was: what is not yet there is moved.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import structlog

from homeserver.db.pool import Database, Tx
from homeserver.db.rows import fetch_as
from homeserver.media.files import Files
from homeserver.media.places import Missing, Place, Store, Unavailable

_PAGE: Final = 200
_AT_ONCE: Final = 4

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file, and where it is."""

    sha256: bytes
    size: int
    store: str
    key: str


@dataclass(slots=True)
class Tally:
    """What has been moved so far, and what could not be."""

    files: int = 0
    bytes: int = 0
    failed: int = 0


async def move(db: Database, files: Files, target: str) -> AsyncIterator[Tally]:
    """Move all files to a store; yields now and then, and at the end.

    Raises: Unavailable, when a store does not answer; OSError.
    """
    tally = Tally()
    after = b""
    while True:
        async with db.read() as tx:
            page = await _elsewhere(tx, target, after)
        for start in range(0, len(page), _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for stored in page[start : start + _AT_ONCE]:
                    group.create_task(_move_one(db, files, stored, target, tally))
        yield tally
        if len(page) < _PAGE:
            return
        after = page[-1].sha256


async def _elsewhere(tx: Tx, target: str, after: bytes) -> list[Stored]:
    return await fetch_as(
        tx,
        Stored,
        """
        SELECT sha256, size, store, coalesce(key, encode(sha256, 'hex')) AS key
          FROM media_files
         WHERE store <> $1 AND sha256 > $2
         ORDER BY sha256
         LIMIT $3
        """,
        target,
        after,
        _PAGE,
    )


async def _move_one(
    db: Database, files: Files, stored: Stored, target: str, tally: Tally
) -> None:
    source = files.stores.get(stored.store)
    if source is None:
        raise Unavailable(f"[{stored.store}] is not configured")
    try:
        place = await _copy(source, files.stores[target], stored)
    except (Missing, EOFError) as error:
        async with db.read() as tx:
            is_there = await _is_at(tx, stored)
        if is_there:
            tally.failed += 1
            log.error("a file is damaged", sha256=stored.sha256.hex(), why=str(error))  # noqa: TRY400 - the trace says nothing
        return
    old = Place(stored.store, stored.key)
    async with db.transaction() as tx:
        has_moved = await _note(tx, stored, place)
    # Somebody else may have moved it, or deleted it.
    await files.delete(old if has_moved else place)
    if has_moved:
        tally.files += 1
        tally.bytes += stored.size


async def _copy(source: Store, target: Store, stored: Stored) -> Place:
    """Copy the file. Raises: Missing; EOFError, when it is not what it should be."""
    part = await source.open(stored.key, 0, stored.size)
    try:
        draft = await target.begin(stored.size)
        try:
            async for piece in part.chunks():
                await draft.add([piece])
            await draft.add(())
            if draft.sha256 != stored.sha256:
                raise EOFError("it has another content than its name says")
            return await draft.keep()
        finally:
            await asyncio.shield(draft.discard())
    finally:
        part.close()


async def _is_at(tx: Tx, stored: Stored) -> bool:
    found: bool = await tx.fetchval(
        """
        SELECT EXISTS (SELECT
                         FROM media_files
                        WHERE sha256 = $1 AND store = $2
                          AND coalesce(key, encode(sha256, 'hex')) = $3)
        """,
        stored.sha256,
        stored.store,
        stored.key,
    )
    return found


async def _note(tx: Tx, stored: Stored, place: Place) -> bool:
    """Say where the file is now; False: it was not where we took it from."""
    moved = await tx.fetchval(
        """
        UPDATE media_files SET store = $4, key = $5
         WHERE sha256 = $1 AND store = $2
           AND coalesce(key, encode(sha256, 'hex')) = $3
        RETURNING true
        """,
        stored.sha256,
        stored.store,
        stored.key,
        place.store,
        place.key,
    )
    return moved is not None
