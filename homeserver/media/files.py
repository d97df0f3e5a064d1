"""The stores of this server: the one that new files go to, and any that holds some.

While files move from one store to the other, a reader may come too late for the old
place; then the new one is looked up.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from federation.wire.transport import tls_context
from homeserver.config import Config
from homeserver.config.media import Bucket as BucketConfig
from homeserver.db.pool import Database
from homeserver.http.files import in_thread
from homeserver.media import store
from homeserver.media.disk import Disk, DiskDraft
from homeserver.media.places import (
    DISK,
    S3,
    Draft,
    Missing,
    Part,
    Place,
    Store,
    Unavailable,
)
from homeserver.media.s3.bucket import Bucket, Where
from homeserver.media.s3.signing import Credentials
from homeserver.media.s3.store import S3Store
from homeserver.media.store import Content

_AWS: Final = "https://s3.{region}.amazonaws.com"

log = structlog.get_logger(__name__)


class Files:
    """All files of the server."""

    def __init__(self, db: Database, disk: Disk, s3: S3Store | None, new: str) -> None:
        self._db = db
        self.disk = disk
        self.s3 = s3
        self.stores: Mapping[str, Store] = (
            {DISK: disk} if s3 is None else {DISK: disk, S3: s3}
        )
        self.new = self.stores[new]

    async def stop(self) -> None:
        """End what is under way."""
        for each in self.stores.values():
            await each.stop()

    async def begin(self, size: int | None) -> Draft:
        """Begin to write a file, of `size` bytes as far as is known."""
        return await self.new.begin(size)

    async def spool(self) -> DiskDraft:
        """Begin to write a file on the disk, wherever it goes in the end."""
        return self.disk.spool(self.new)

    async def open(self, content: Content, start: int, size: int) -> Part:
        """Open a part of a file. Raises: Missing, Unavailable."""
        try:
            return await self._at(content.place).open(content.place.key, start, size)
        except Missing:
            place = await self._moved(content)
        return await self._at(place).open(place.key, start, size)

    async def read(self, content: Content, start: int, size: int) -> bytes:
        """A small part of a file. Raises: Missing, Unavailable, EOFError."""
        try:
            return await self._at(content.place).read(content.place.key, start, size)
        except Missing:
            place = await self._moved(content)
        return await self._at(place).read(place.key, start, size)

    async def _moved(self, content: Content) -> Place:
        """Where the file is now. Raises: Missing, when it is nowhere else."""
        async with self._db.read() as tx:
            place = await store.place_of(tx, content.sha256)
        if place is None or place == content.place:
            log.error("a stored file is gone", sha256=content.sha256.hex())
            raise Missing(content.place.key)
        return place

    def _at(self, place: Place) -> Store:
        found = self.stores.get(place.store)
        if found is None:
            raise Unavailable(f"[{place.store}] is not configured")
        return found

    async def delete(self, place: Place) -> None:
        """Delete a file that no row names; one that stays is left to the sweep."""
        try:
            await self._at(place).delete(place.key)
        except (OSError, Unavailable) as error:
            log.warning("a file is left to the sweep", reason=str(error))

    @asynccontextmanager
    async def local(self, content: Content) -> AsyncIterator[Path]:
        """The file on this disk, as a copy for the length of the block if need be.

        Raises: Missing, Unavailable, OSError.
        """
        if content.place.store == DISK:
            path = self.disk.path_of(content.place.key)
            if await in_thread(path.exists):
                yield path
                return
            content = replace(content, place=await self._moved(content))
        part = await self.open(content, 0, content.size)
        draft = self.disk.spool(self.disk)
        try:
            async for piece in part.chunks():
                await draft.add([piece])
            yield draft.path
        finally:
            part.close()
            await asyncio.shield(draft.discard())


def files_of(config: Config, db: Database) -> Files:
    """The stores as they are configured."""
    disk = Disk(config.data_path / "media")
    s3 = None if not config.s3.bucket else _s3_of(config.s3)
    return Files(db, disk, s3, config.media.store)


def _s3_of(config: BucketConfig) -> S3Store:
    where = Where(
        config.endpoint or _AWS.format(region=config.region),
        config.bucket,
        config.region,
        path_style=bool(config.endpoint) and not config.virtual_hosts,
        prefix=config.prefix,
    )
    access_key, secret_key = config.access_key, config.secret_key
    token = ""
    if not access_key:
        access_key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        token = os.environ.get("AWS_SESSION_TOKEN", "")
    tls = tls_context(verify=True, ca_file=config.ca_file or None)
    bucket = Bucket(where, Credentials(access_key, secret_key, token), tls)
    return S3Store(bucket, config.redirect_minutes * 60)
