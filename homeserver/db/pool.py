"""Connections to the database, and what is done with them.

`Database.read` runs single statements, `snapshot` several that must see one state,
`transaction` writes. None of them is held across a network call. `listen` and `notify`
have connections of their own, as they must not wait for the pool.

A lost connection is a `DatabaseUnavailable`, or a `CommitUnknown` when it was lost
while committing. The pool finds its way back by itself when the server does.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from homeserver.bounded import KIB, MEMORY
from homeserver.db.errors import (
    CommitUnknown,
    DatabaseError,
    DatabaseUnavailable,
    NotCommitted,
)
from homeserver.db.listener import Listener, OnNotification
from homeserver.db.sessions import COMMAND_SECONDS, notice_silence, prepare

# A connection, inside a transaction where the caller writes.
Tx: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
T = TypeVar("T")

ACQUIRE_SECONDS: Final = 10.0  # for a free connection
CONNECT_SECONDS: Final = 10.0
NOTIFY_SECONDS: Final = 5.0
# Prepared on each connection, those of the hot paths three times over. Each takes 4 KiB
# here and 20 and more in PostgreSQL.
STATEMENTS: Final = 128
_STATEMENT: Final = 4 * KIB
MAX_PAYLOAD_BYTES: Final = 7999  # PostgreSQL's limit for NOTIFY

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
# Somebody else has used the connection meanwhile.
MIXED_UP: Final = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)
SHARED: Final = (
    "a pooler before the database hands connections on after each transaction; let it"
    " do so after each session (pgbouncer: pool_mode = session)"
)
# It lives and cannot now: no room on the disk, no memory; somebody else, who may be cut
# off, holds what is needed, or it takes too long.
SHORT_OF: Final = (
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
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


async def is_shared(pool: asyncpg.Pool) -> bool:
    """Whether what is set on one connection shows on another."""
    try:
        async with pool.acquire() as one, pool.acquire() as other:
            await one.execute("SET hearth.probe TO 'here'")
            seen = await other.fetchval("SELECT current_setting('hearth.probe', true)")
            return bool(seen)
    except MIXED_UP:
        return True
    except DRIVER_ERRORS:
        return False  # whoever needs a connection is told what is wrong


class Health:
    """Whether the database answers; the log is told when that changes."""

    __slots__ = ("failing_since",)

    def __init__(self) -> None:
        self.failing_since: float | None = None

    def fails(self, reason: object) -> None:
        """It did not do what it was asked for."""
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.error(
                "the database fails; requests that need it get 503", reason=str(reason)
            )

    def answers(self) -> None:
        """It did. Call it only when it is failing: this is on every request's way."""
        if self.failing_since is not None:
            after = time.monotonic() - self.failing_since
            self.failing_since = None
            log.warning("the database answers again", after_s=round(after, 1))


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Spare the round trip that clears session state: we never set any."""


class Elsewhere(Protocol):
    """Where else to read: homeserver/db/replicas.py."""

    async def read(
        self, db: "Database", at_least: int, work: Callable[[Tx], Awaitable[T]]
    ) -> T:
        """Do it there, or here."""
        ...


class Database:
    """The database, through a pool of at most `size` connections."""

    def __init__(self, dsn: str, pool: asyncpg.Pool, size: int) -> None:
        self.dsn = dsn
        self._pool = pool
        self.size = size
        self._listeners: list[Listener] = []
        self._notifier: asyncpg.Connection | None = None
        self._notifying = asyncio.Lock()
        each = STATEMENTS * _STATEMENT
        MEMORY.add_queue(
            "prepared statements", self, lambda it: it.connections * each, size * each
        )
        self.health = Health()
        # Where reads may go that may be a moment old, and how old at most.
        self.elsewhere: Elsewhere | None = None
        self.known_position: Callable[[], int] = lambda: 0

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return self._pool.get_size()

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
                    statement_cache_size=STATEMENTS,
                    max_cached_statement_lifetime=0,
                    max_cacheable_statement_size=64 * 1024,
                    reset=_leave_as_it_is,
                    init=prepare,
                    command_timeout=COMMAND_SECONDS,
                    server_settings={"application_name": name},
                )
            except DRIVER_ERRORS as error:
                if is_lost(error) or isinstance(error, OSError):
                    raise DatabaseUnavailable(
                        f"the database cannot be reached: {error}"
                    ) from error
                raise DatabaseError(f"the database refuses us: {error}") from error

        pool = await retrying(open_pool, patience)
        if size > 1 and await is_shared(pool):
            pool.terminate()
            raise DatabaseError(SHARED)
        return cls(dsn, pool, size)

    def read(self) -> "Use":
        """A connection for single statements, each seeing what is committed by then.

        Raises: DatabaseUnavailable.
        """
        return Use(self._pool, self.health)

    def snapshot(self) -> "Use":
        """A read-only transaction: all its statements see one state of the database.

        Raises: DatabaseUnavailable.
        """
        return SnapshotUse(
            self._pool,
            self.health,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )

    async def read_old(
        self, work: Callable[[Tx], Awaitable[T]], at_least: int | None = None
    ) -> T:
        """Do it with a snapshot that may be a moment old, at a replica if there is one.

        It is as new as the position `at_least`; without one, as what this process
        knows. The work may be done twice, so it must do nothing but read, and no table
        that is not logged.

        Raises: DatabaseUnavailable.
        """
        if self.elsewhere is not None:
            needed = self.known_position() if at_least is None else at_least
            return await self.elsewhere.read(self, needed, work)
        async with self.snapshot() as tx:
            return await work(tx)

    def transaction(self) -> "Use":
        """A transaction: committed when the block ends, undone when it raises.

        Raises: DatabaseUnavailable and NotCommitted when nothing was committed;
        CommitUnknown when the connection was lost while committing.
        """
        return TransactionUse(self._pool, self.health, "BEGIN")

    def preparation(self) -> "Use":
        """A transaction for rows that count only once a later transaction names them.

        It does not wait for the disk: whoever names the rows does, and with that they
        are on the disk too, as the log is written in order.

        Raises: as `transaction`.
        """
        return TransactionUse(
            self._pool, self.health, "BEGIN; SET LOCAL synchronous_commit TO off"
        )

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
                    notice_silence(self._notifier)
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


class Use:
    """One use of a connection of the pool, for `async with`."""

    __slots__ = ("_connection", "_health", "_pool")

    # A class and not a generator: it is on the way of every request.

    def __init__(self, pool: asyncpg.Pool, health: Health) -> None:
        self._pool = pool
        self._health = health
        self._connection: PoolConnectionProxy

    async def __aenter__(self) -> Tx:
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                self._connection = await self._pool.acquire()
        except TimeoutError:
            self._health.fails("no connection")
            raise DatabaseUnavailable(
                f"no database connection became free in {ACQUIRE_SECONDS:.0f} s"
            ) from None
        except DRIVER_ERRORS as error:
            self._health.fails(error)
            raise DatabaseUnavailable(
                f"the database cannot be reached: {error}"
            ) from error
        return self._connection

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        lost = error is not None and self._is_lost(error)
        if lost:
            with contextlib.suppress(asyncpg.InterfaceError):
                self._connection.terminate()  # the pool must not hand it out again
        try:
            await self._pool.release(self._connection)
        except DRIVER_ERRORS as reason:
            # The pool has dropped it and makes a new one when it is needed.
            log.debug("database connection dropped", reason=str(reason))
        if lost:
            self._health.fails(error)
            raise DatabaseUnavailable(
                f"the database connection was lost: {error}"
            ) from error
        if isinstance(error, MIXED_UP):
            raise DatabaseError(SHARED) from error
        if isinstance(error, SHORT_OF):
            self._health.fails(error)
            raise DatabaseUnavailable(f"the database cannot: {error}") from error
        if error is None and self._health.failing_since is not None:
            self._health.answers()

    def _is_lost(self, error: BaseException) -> bool:
        if isinstance(error, OSError):  # what the kernel found out, or the caller's own
            return self._connection.is_closed()
        # Who was the primary is a standby now.
        return is_lost(error) or isinstance(error, asyncpg.ReadOnlySQLTransactionError)


class TransactionUse(Use):
    """The same within a transaction, which `begin` opens."""

    __slots__ = ("_begin",)

    def __init__(self, pool: asyncpg.Pool, health: Health, begin: str) -> None:
        super().__init__(pool, health)
        self._begin = begin

    async def __aenter__(self) -> Tx:
        connection = await super().__aenter__()
        try:
            await connection.execute(self._begin)
        except BaseException as error:
            await super().__aexit__(type(error), error, None)
            raise
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # A lost connection has undone it already; one that cannot even roll back
            # is dropped when it is given back.
            with contextlib.suppress(*DRIVER_ERRORS):
                await self._connection.execute("ROLLBACK")
            await super().__aexit__(kind, error, trace)
            return
        try:
            told = await self._connection.execute("COMMIT")
        except BaseException as failure:
            try:
                await super().__aexit__(type(failure), failure, None)
            except DatabaseUnavailable as unavailable:
                raise CommitUnknown(str(unavailable)) from failure
            raise
        await super().__aexit__(None, None, None)
        if told != "COMMIT":
            # A statement failed, and its error did not leave the block.
            raise NotCommitted("an error within the transaction was passed over")


class SnapshotUse(TransactionUse):
    """The same for what does not write."""

    __slots__ = ()

    def _is_lost(self, error: BaseException) -> bool:
        slip = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        return super()._is_lost(error) and not slip


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
