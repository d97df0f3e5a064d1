"""A private PostgreSQL for all tests, and a fresh database for each that asks.

It runs from the wheel's programs; HEARTH_TEST_POSTGRES=system takes the system's. It
does not sync to disk: no test here may conclude anything about durability
(tests/store/test_embedded.py and tests/faults start servers of their own for that).
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from homeserver.db.embedded import EmbeddedPostgres
from homeserver.db.migrate import migrate
from homeserver.db.pool import Database

FAST_AND_LOOSE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "300",
    "max_wal_size": "512MB",
    "autovacuum": "off",
}
ROOM_NEEDED = 4 * 1024**3
TEMPLATE = "hearth_template"
_numbers = itertools.count(1)


# `make check` shall be quick: it tries fewer examples than `make test`.
settings.register_profile("quick", max_examples=15)
if os.environ.get("HEARTH_TESTS") == "quick":
    settings.load_profile("quick")


# Files of few tests that take minutes: they begin first, or one of them would run alone
# at the end.
LONG = ("simulation", "faults", "clients")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def preferred_postgres() -> str:
    """Whose programs the tests use: "wheel" or "system"."""
    return os.environ.get("HEARTH_TEST_POSTGRES", "wheel")


def place() -> str | None:
    """Where the server's files go: memory when there is plenty, ten times as fast."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > ROOM_NEEDED:
        return str(memory)
    return None


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """One PostgreSQL for the whole run, gone with it."""
    directory = Path(tempfile.mkdtemp(prefix="hearth-test-", dir=place()))
    directory.chmod(0o711)
    try:
        async with EmbeddedPostgres(
            directory / "data", settings=FAST_AND_LOOSE, prefer=preferred_postgres()
        ) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def dsn_of(postgres: EmbeddedPostgres, database: str) -> str:
    """How to reach another database of the same server."""
    return postgres.dsn.replace("@/hearth?", f"@/{database}?")


@pytest.fixture(scope="session")
async def administrator(
    postgres: EmbeddedPostgres,
) -> AsyncIterator[asyncpg.Connection]:
    """A connection that makes and drops databases."""
    connection = await asyncpg.connect(dsn_of(postgres, "postgres"))
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def database_template(
    postgres: EmbeddedPostgres, administrator: asyncpg.Connection
) -> str:
    """The name of a database that has the schema and nothing else."""
    await administrator.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    await migrate(dsn_of(postgres, TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def new_dsn(
    postgres: EmbeddedPostgres,
    administrator: asyncpg.Connection,
    database_template: str,
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes databases with the schema, as many as the test asks for."""
    made: list[str] = []
    # Three times as fast as the default when nothing is synced.
    newer = administrator.get_server_version().major >= 15
    strategy = "STRATEGY file_copy" if newer else ""

    async def make() -> str:
        name = f"test_{next(_numbers)}"
        await administrator.execute(
            f"CREATE DATABASE {name} TEMPLATE {database_template} {strategy}"
        )
        made.append(name)
        return dsn_of(postgres, name)

    yield make
    for name in made:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_dsn(
    postgres: EmbeddedPostgres, administrator: asyncpg.Connection
) -> AsyncIterator[str]:
    """A database with nothing in it."""
    name = f"test_{next(_numbers)}"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield dsn_of(postgres, name)
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def new_database(
    new_dsn: Callable[[], Awaitable[str]],
) -> AsyncIterator[Callable[[], Awaitable[Database]]]:
    """Makes and opens such databases; they are closed when the test ends."""
    opened: list[Database] = []

    async def make() -> Database:
        database = await Database.connect(await new_dsn(), size=5)
        opened.append(database)
        return database

    yield make
    for database in opened:
        await database.close()


@pytest.fixture
async def database(new_database: Callable[[], Awaitable[Database]]) -> Database:
    """A fresh database with the schema."""
    return await new_database()
