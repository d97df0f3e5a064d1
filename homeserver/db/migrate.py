"""Bring the schema up to date: numbered SQL files, in order, once each.

- One process at a time, under an advisory lock; the others wait and find it done.
- A fresh database gets `tables.sql` at once, and is noted as having had every step.
- A step and the row that says it was done are one transaction: it happens or not, and
  one that fails leaves the schema as it was.
- A step waits for a table's lock for four seconds at most, so that it never holds up
  the queries behind it; then it lets go and tries again.
- `pre` steps suit the release that is running, so they also have little time; `post`
  steps come when it is gone.

Table: `migrations(number, name, applied_at)`.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Self

import asyncpg

from homeserver.db.errors import DatabaseError, DatabaseUnavailable
from homeserver.db.pool import is_lost

Report = Callable[[str], None]

LOCK_KEY: Final = 0x6865617274680001  # "hearth" and 1
LOCK_TIMEOUT: Final = "4s"
PRE_STATEMENT_TIMEOUT: Final = "30s"
LOCK_ATTEMPTS: Final = 15
LOCK_PAUSE_SECONDS: Final = 2.0
OTHERS_PATIENCE: Final = 1800.0  # for another process that migrates
OLDEST_SERVER: Final = 140000
_STEP_NAME: Final = re.compile(r"(\d{4})_(pre|post)_([a-z0-9_]+)\.sql")


class MigrationFailed(DatabaseError):  # noqa: N818 - reads as a sentence at the raise
    """A step did not work; the schema is as it was before it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered file."""

    number: int
    phase: str  # "pre" or "post"
    name: str
    sql: str

    @property
    def file(self) -> str:
        """Its name in `schema/`."""
        return f"{self.number:04}_{self.phase}_{self.name}.sql"


@dataclass(frozen=True, slots=True)
class Schema:
    """The whole schema, and the steps that lead there."""

    tables: str
    steps: Sequence[Step]

    @classmethod
    def shipped(cls) -> Self:
        """What this release carries."""
        folder = resources.files("schema")
        steps = []
        for file in folder.iterdir():
            if match := _STEP_NAME.fullmatch(file.name):
                sql = file.read_text("utf-8")
                steps.append(Step(int(match[1]), match[2], match[3], sql))
        steps.sort(key=lambda step: step.number)
        return cls((folder / "tables.sql").read_text("utf-8"), steps)


def _say_nothing(_: str) -> None:
    pass


async def migrate(
    dsn: str,
    *,
    schema: Schema | None = None,
    report: Report = _say_nothing,
    only_pre: bool = False,
) -> list[str]:
    """Apply what is missing; answers the files that were applied.

    `only_pre` stops before the first `post` step, so that the former release can go on
    running meanwhile.

    Raises: DatabaseUnavailable; DatabaseError when the database is not one for us;
    MigrationFailed when a step does not work.
    """
    connection = await connect(dsn)
    try:
        return await _migrate(
            connection, schema or Schema.shipped(), report, only_pre=only_pre
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if is_lost(error):
            raise DatabaseUnavailable(f"the database was lost: {error}") from error
        raise DatabaseError(f"the database refuses: {error}") from error
    finally:
        # Ends the advisory lock too.
        connection.terminate()


async def pending(dsn: str, schema: Schema | None = None) -> list[str]:
    """The files that `migrate` would apply. Raises: as `migrate`."""
    steps = (schema or Schema.shipped()).steps
    connection = await connect(dsn)
    try:
        await _check_server(connection)
        applied = await _applied(connection, steps)
        return [step.file for step in steps if step.number not in applied]
    finally:
        connection.terminate()


async def connect(dsn: str) -> asyncpg.Connection:
    """One connection with the migrations' time-outs. Raises: as `migrate`."""
    try:
        name = {"application_name": "hearth migrate"}
        connection = await asyncpg.connect(dsn, timeout=10, server_settings=name)
        # Not at the connection's begin, which a pooler may refuse.
        await connection.execute(f"SET lock_timeout TO '{LOCK_TIMEOUT}'")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_lost(error):
            raise DatabaseUnavailable(f"cannot reach the database: {error}") from error
        raise DatabaseError(f"the database refuses us: {error}") from error
    except (OSError, ValueError) as error:
        raise DatabaseUnavailable(f"cannot reach the database: {error}") from error
    return connection


async def _migrate(
    connection: asyncpg.Connection, schema: Schema, report: Report, *, only_pre: bool
) -> list[str]:
    await _check_server(connection)
    await _take_lock(connection, report)
    applied = await _applied(connection, schema.steps)
    if not applied:
        await _begin(connection, schema, report)
        return ["tables.sql"]
    done = []
    for step in schema.steps:
        if step.number in applied:
            continue
        if only_pre and step.phase == "post":
            report(f"left for later: {step.file} and what follows")
            break
        report(f"applying {step.file}")
        await _apply(connection, step, report)
        done.append(step.file)
    return done


async def _check_server(connection: asyncpg.Connection) -> None:
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database's encoding is {encoding}: make one with"
            " CREATE DATABASE … ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        )
    version = int(await connection.fetchval("SHOW server_version_num"))
    if version < OLDEST_SERVER:
        raise DatabaseError(
            f"the database server is PostgreSQL {version // 10000}; 14 or newer is"
            " needed"
        )


async def _take_lock(connection: asyncpg.Connection, report: Report) -> None:
    deadline = time.monotonic() + OTHERS_PATIENCE
    told = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
        if time.monotonic() > deadline:
            raise DatabaseError("another process has been migrating for too long")
        if not told:
            report("waiting for another process that brings the schema up to date")
            told = True
        await asyncio.sleep(0.2)


async def _applied(connection: asyncpg.Connection, steps: Sequence[Step]) -> set[int]:
    """The numbers of the steps that the database has had.

    Raises: DatabaseError when one of them is unknown here.
    """
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return set()
    rows = await connection.fetch("SELECT number, name FROM migrations ORDER BY number")
    known = {step.number for step in steps}
    unknown = [row["name"] for row in rows if row["number"] not in known]
    if unknown:
        raise DatabaseError(
            f"the database was brought to {unknown[-1]} by a newer Hearth: start that"
            " release, or restore the backup made before it"
        )
    return {row["number"] for row in rows}


async def _begin(
    connection: asyncpg.Connection, schema: Schema, report: Report
) -> None:
    """Make all tables in a database that is empty."""
    foreign = await connection.fetchval(
        """
        SELECT relname FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace
           AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relname <> 'migrations'
         LIMIT 1
        """
    )
    if foreign is not None:
        raise DatabaseError(
            f"the database is not empty and not Hearth's: it has {foreign!r}. Give it a"
            " database of its own"
        )
    report("making the tables")
    async with connection.transaction():
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS migrations (
                number integer PRIMARY KEY,
                name text COLLATE "C" NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        await _run(connection, "tables.sql", schema.tables)
        await connection.executemany(
            "INSERT INTO migrations (number, name) VALUES ($1, $2)",
            [(step.number, step.file) for step in schema.steps],
        )


async def _apply(connection: asyncpg.Connection, step: Step, report: Report) -> None:
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            await _apply_once(connection, step)
        except asyncpg.LockNotAvailableError:
            if attempt == LOCK_ATTEMPTS:
                break
            report(f"{step.file}: a table is busy, trying again ({attempt})")
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        else:
            return
    raise MigrationFailed(
        f"schema/{step.file}: a table it changes was busy {LOCK_ATTEMPTS} times; the"
        " schema is as it was. Look for long transactions in pg_stat_activity"
    )


async def _apply_once(connection: asyncpg.Connection, step: Step) -> None:
    async with connection.transaction():
        if step.phase == "pre":
            await connection.execute(
                "SELECT set_config('statement_timeout', $1, true)",
                PRE_STATEMENT_TIMEOUT,
            )
        await _run(connection, step.file, step.sql)
        await connection.execute(
            "INSERT INTO migrations (number, name) VALUES ($1, $2)",
            step.number,
            step.file,
        )


async def _run(connection: asyncpg.Connection, file: str, sql: str) -> None:
    """Run the file. Raises: MigrationFailed with the line, LockNotAvailableError."""
    try:
        await connection.execute(sql)
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        if is_lost(error):
            raise
        position = getattr(error, "position", None)
        line = sql.count("\n", 0, int(position)) + 1 if position else 1
        raise MigrationFailed(
            f"schema/{file}:{line}: {error}; the schema is as it was"
        ) from error
