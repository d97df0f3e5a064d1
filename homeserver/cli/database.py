"""Where the database is, for every command: given, running, or ours to start."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from homeserver.config import Config
from homeserver.db import owner
from homeserver.db.cluster import MAX_CONNECTIONS
from homeserver.db.embedded import EmbeddedPostgres, Report
from homeserver.db.errors import DatabaseError, DatabaseUnavailable
from homeserver.db.migrate import migrate
from homeserver.db.pool import Database

# For a server that has the data directory and is still starting its database.
ANNOUNCEMENT_PATIENCE: Final = 60.0
# Of a process beside its pool, to hear and to tell; and some for commands.
MORE_CONNECTIONS: Final = 6


@dataclass(frozen=True, slots=True)
class Source:
    """How to reach the database; `failed` returns only by raising, when it is lost."""

    dsn: str
    failed: Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def own_database(
    config: Config, report: Report, processes: int = 1
) -> AsyncIterator[Source]:
    """The database for a server: the one that is given, or our private one, started.

    `processes` is how many will use it.

    Raises: DatabaseError when another process runs it.
    """
    if config.database_url:
        yield Source(config.database_url, asyncio.Event().wait)
        return
    connections = processes * (config.database_pool_size + MORE_CONNECTIONS)
    settings = {"max_connections": str(max(MAX_CONNECTIONS, connections))}
    async with EmbeddedPostgres(
        config.data_path, report=report, settings=settings
    ) as server:
        yield Source(server.dsn, server.watch)


@contextlib.asynccontextmanager
async def any_database(config: Config, report: Report) -> AsyncIterator[Source]:
    """The same for a command that may run beside a server: that one's is used."""
    dsn = await _of_running_server(config)
    if dsn is not None:
        yield Source(dsn, asyncio.Event().wait)
        return
    async with own_database(config, report) as source:
        yield source


async def _of_running_server(config: Config) -> str | None:
    if config.database_url:
        return None
    try:
        async with asyncio.timeout(ANNOUNCEMENT_PATIENCE):
            while owner.is_held(config.data_path):
                if announced := owner.running(config.data_path):
                    return announced.dsn
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise DatabaseUnavailable(
            "the server does not come to an end of its start"
        ) from None
    except PermissionError as error:
        raise DatabaseError(
            f"{error.filename} may not be read: be root, or the user who runs the"
            " server"
        ) from None
    return None


@contextlib.asynccontextmanager
async def opened(config: Config, report: Report) -> AsyncIterator[Database]:
    """The database with its schema up to date, opened for a command."""
    async with any_database(config, report) as source:
        await migrate(source.dsn, report=report)
        async with await Database.connect(
            source.dsn, size=2, name="hearth command", patience=10
        ) as database:
            yield database
