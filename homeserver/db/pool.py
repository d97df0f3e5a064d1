"""Connections to the database, and what is done with them.

`Database.read` runs single statements, `snapshot` several that must see one state,
`transaction` writes. None of them is held across a network call. `listen` and `notify`
have connections of their own, as they must not wait for the pool.

A lost connection is a `DatabaseUnavailable`, or a `CommitUnknown` when it was lost
while committing. The pool finds its way back by itself when the server does.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from homeserver.db.errors import CommitUnknown, DatabaseError, DatabaseUnavailable
from homeserver.db.listener import Listener, OnNotification

# A connection, inside a transaction where the caller writes.
Tx: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
T = TypeVar("T")

ACQUIRE_SECONDS: Final = 10.0  # for a free connection
CONNECT_SECONDS: Final = 10.0
NOTIFY_SECONDS: Final = 5.0
MAX_PAYLOAD_BYTES: Final = 7999  # PostgreSQL's limit for NOTIFY

SESSION_SETTINGS: Final = {
    # A hung process cannot hold the sequencer row.
    "idle_in_transaction_session_timeout": "15s",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "jit": "off",
    "timezone": "UTC",
}

# The server is gone, going, or not there yet; nothing is wrong with the statement.
# InternalClientError: asyncpg heard the server's farewell on an idle connection.
LOST: Final = (
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
)

log = structlog.get_logger(__name__)


DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


def is_lost(error: BaseException) -> bool:
    """Whether the connection failed, and not the statement."""
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has no class of its own for a connection that has been closed.
        return "clos" in str(error) or "released back" in str(error)
    return isinstance(error, LOST)


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Spare the round trip that clears session state: we never set any."""


class Database:
    """The database, through a pool of at most `size` connections."""

    def __init__(self, dsn: str, pool: asyncpg.Pool, size: int) -> None:
        self.dsn = dsn
        self._pool = pool
        self.size = size
        self._listeners: list[Listener] = []
        self._notifier: asyncpg.Connection | None = None
        self._notifying = asyncio.Lock()

    @classmethod
    async def connect(
        cls, dsn: str, *, size: int = 10, name: str = "hearth", patience: float = 0.0
    ) -> Self:
        """Open the pool, trying for up to `patience` seconds.

        Raises: DatabaseUnavailable when the server cannot be reached; DatabaseError
        when it refuses us for a reason that will not pass.
        """

        async def open_pool() -> asyncpg.Pool:
            try:
                return await asyncpg.create_pool(
                    dsn,
                    min_size=min(2, size),
                    max_size=size,
                    max_inactive_connection_lifetime=300,
                    timeout=CONNECT_SECONDS,
                    statement_cache_size=512,
                    max_cached_statement_lifetime=0,
                    max_cacheable_statement_size=64 * 1024,
                    reset=_leave_as_it_is,
                    server_settings=SESSION_SETTINGS | {"application_name": name},
                )
            except DRIVER_ERRORS as error:
                if is_lost(error) or isinstance(error, OSError):
                    raise DatabaseUnavailable(
                        f"the database cannot be reached: {error}"
                    ) from error
                raise DatabaseError(f"the database refuses us: {error}") from error

        return cls(dsn, await retrying(open_pool, patience), size)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A connection for single statements, each seeing what is committed by then.

        Raises: DatabaseUnavailable.
        """
        async with self._connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tx]:
        """A read-only transaction: all its statements see one state of the database.

        Raises: DatabaseUnavailable.
        """
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """A transaction: committed when the block ends, undone when it raises.

        Raises: DatabaseUnavailable when nothing was committed; CommitUnknown when the
        connection was lost while committing.
        """
        committing = False
        try:
            async with self._connection() as connection:
                transaction = connection.transaction()
                await transaction.start()
                try:
                    yield connection
                except BaseException:
                    # A lost connection has undone it already.
                    with contextlib.suppress(*DRIVER_ERRORS):
                        await transaction.rollback()
                    raise
                committing = True
                await transaction.commit()
        except DatabaseUnavailable as error:
            if committing:
                raise CommitUnknown(str(error)) from error
            raise

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[PoolConnectionProxy]:
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"no database connection became free in {ACQUIRE_SECONDS:.0f} s"
            ) from None
        except DRIVER_ERRORS as error:
            raise DatabaseUnavailable(
                f"the database cannot be reached: {error}"
            ) from error
        try:
            yield connection
        except Exception as error:
            if is_lost(error):
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()  # the pool must not hand it out again
                raise DatabaseUnavailable(
                    f"the database connection was lost: {error}"
                ) from error
            raise
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: PoolConnectionProxy) -> None:
        try:
            await self._pool.release(connection)
        except DRIVER_ERRORS as error:
            # The pool has dropped it and makes a new one when it is needed.
            log.debug("database connection dropped", reason=str(error))

    async def listen(self, channel: str, callback: OnNotification) -> Listener:
        """Call back with every payload sent to the channel from now on.

        `callback(None)` means that payloads may have been missed: at the start and
        after every reconnection. The callback must not block. Ends with `close`.

        Raises: DatabaseUnavailable when the first connection fails.
        """
        listener = Listener(self.dsn, channel, callback)
        await listener.start()
        self._listeners.append(listener)
        return listener

    async def notify(self, channel: str, payload: str) -> bool:
        """Send a payload to every listener on the channel, of all processes.

        Best effort, on a connection of its own; False when the database was not to
        be reached. Listeners look for themselves from time to time as well.

        Raises: ValueError when the payload is longer than MAX_PAYLOAD_BYTES.
        """
        if len(payload.encode()) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes")
        try:
            async with asyncio.timeout(NOTIFY_SECONDS), self._notifying:
                if self._notifier is None or self._notifier.is_closed():
                    self._notifier = await asyncpg.connect(
                        self.dsn,
                        timeout=NOTIFY_SECONDS,
                        server_settings={"application_name": "hearth notify"},
                    )
                await self._notifier.execute(
                    "SELECT pg_notify($1, $2)", channel, payload
                )
        except DRIVER_ERRORS as error:
            log.warning("notify failed", channel=channel, reason=repr(error))
            if self._notifier is not None:
                self._notifier.terminate()
                self._notifier = None
            return False
        return True

    async def close(self) -> None:
        """Close all connections: politely, and after ten seconds without asking."""
        for listener in self._listeners:
            await listener.stop()
        self._listeners.clear()
        if self._notifier is not None:
            self._notifier.terminate()
            self._notifier = None
        try:
            await asyncio.wait_for(self._pool.close(), 10)
        except DRIVER_ERRORS:
            self._pool.terminate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def retrying(operation: Callable[[], Awaitable[T]], patience: float) -> T:
    """Do it, and again after every DatabaseUnavailable, for up to `patience` seconds.

    Raises: DatabaseUnavailable, the last one, when time is up.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = 0.05
    while True:
        try:
            return await operation()
        except DatabaseUnavailable:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2.0, pause * 2)
