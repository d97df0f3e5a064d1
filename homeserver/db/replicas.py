"""Reads that may be a moment old go to standbys of the database, where there are any.

Never older than asked for: each read is one snapshot, and the first thing that it reads
is the position up to which the replica has come. One that has not come so far, even a
moment later, or that is away, or takes back what it was asked (a conflict with what it
replays), is left alone for a while, and the primary is asked.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog
from prometheus_client import Counter

from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database, Tx

_LOOK_SECONDS: Final = 2.0
_CATCH_UP_SECONDS: Final = 0.02  # what replication usually takes, and some
_REST_SECONDS: Final = 0.5
_PATIENCE: Final = 1.0  # for a connection
# Of a replica alone: it replays what the read has to make way for; a table that is not
# logged is not there.
_TAKEN_BACK: Final = (asyncpg.SerializationError, asyncpg.FeatureNotSupportedError)

T = TypeVar("T")
log = structlog.get_logger(__name__)
_reads = Counter("hearth_replica_reads", "Reads by who answered them", ("by",))
_on_replica = _reads.labels("replica")
_on_primary = _reads.labels("primary")


class _Behind(Exception):  # noqa: N818 - reads as what happened
    """The replica has not come so far."""


@contextlib.asynccontextmanager
async def opened(
    dsn: str, replica_urls: Sequence[str], size: int
) -> AsyncIterator[Database]:
    """The database with its replicas, while the block lasts.

    Raises: as `Database.connect`; replicas may be away.
    """
    async with await Database.connect(dsn, size=size) as db:
        if not replica_urls:
            yield db
            return
        async with Replicas(replica_urls, size) as replicas:
            db.elsewhere = replicas
            yield db


class Replicas:
    """The standbys that are named in the configuration."""

    def __init__(self, urls: Sequence[str], size: int) -> None:
        self._replicas = [_Replica(url, size) for url in urls]
        self._turn = itertools.count()

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(replica.start() for replica in self._replicas))
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(replica.stop() for replica in self._replicas))

    async def read(
        self, db: Database, at_least: int, work: Callable[[Tx], Awaitable[T]]
    ) -> T:
        """Do it on a replica that has come to that position, or else on the primary.

        Raises: DatabaseUnavailable, when the primary is away too.
        """
        first = next(self._turn)
        for n in range(len(self._replicas)):
            replica = self._replicas[(first + n) % len(self._replicas)]
            if not replica.is_ready:
                continue
            try:
                result = await replica.read(at_least, work)
            except (DatabaseError, _Behind, *_TAKEN_BACK) as error:
                replica.rest(error)
            else:
                _on_replica.inc()
                return result
        _on_primary.inc()
        async with db.snapshot() as tx:
            return await work(tx)


class _Replica:
    """One standby."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._name = urlsplit(url).netloc.rpartition("@")[2]
        self._db: Database | None = None
        self._rests_until = 0.0
        self._is_good = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return self._is_good and time.monotonic() >= self._rests_until

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._watch(), name="replica")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._db is not None:
            await self._db.close()

    async def read(self, at_least: int, work: Callable[[Tx], Awaitable[T]]) -> T:
        """Do it here. Raises: _Behind; what the database raises."""
        if self._db is None:
            raise _Behind
        try:
            return await self._read(self._db, at_least, work)
        except _Behind:
            await asyncio.sleep(_CATCH_UP_SECONDS)
        return await self._read(self._db, at_least, work)

    async def _read(
        self, db: Database, at_least: int, work: Callable[[Tx], Awaitable[T]]
    ) -> T:
        async with db.snapshot() as tx:
            if await tx.fetchval("SELECT position FROM sequencer") < at_least:
                raise _Behind
            return await work(tx)

    def rest(self, error: Exception) -> None:
        """Leave it alone for a moment; until it is looked at, when it was lost."""
        self._rests_until = time.monotonic() + _REST_SECONDS
        if isinstance(error, DatabaseError):
            self._is_good = False
            log.warning("a replica is away", replica=self._name, reason=str(error))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        was_good = self._is_good
        try:
            async with asyncio.timeout(_PATIENCE):
                if self._db is None:
                    self._db = await Database.connect(
                        self._url, size=self._size, name="hearth replica"
                    )
                async with self._db.read() as tx:
                    await tx.fetchval("SELECT position FROM sequencer")
            self._is_good = True
        except (DatabaseError, asyncpg.PostgresError, OSError) as error:
            self._is_good = False
            if was_good or self._db is None:
                log.warning("a replica is away", replica=self._name, reason=str(error))
        if self._is_good and not was_good:
            log.info("a replica answers reads", replica=self._name)
