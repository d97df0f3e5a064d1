"""What the pool promises: typed losses, and a way back after each."""

import asyncio
import contextlib

import asyncpg
import pytest

from homeserver.db.errors import (
    CommitUnknown,
    DatabaseError,
    DatabaseUnavailable,
    NotCommitted,
)
from homeserver.db.pool import Database, retrying


async def terminate_all(administrator, database):
    """End every connection to the database, as a crash would."""
    name = database.dsn.partition("@/")[2].partition("?")[0]
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
        name,
    )


async def test_a_transaction_commits_at_the_end_and_undoes_on_an_error(database):
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE birds (name text)")
    with pytest.raises(KeyError):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO birds VALUES ('wren')")
            raise KeyError
    async with database.read() as tx:
        assert await tx.fetchval("SELECT count(*) FROM birds") == 0


async def test_a_snapshot_sees_one_state_and_does_not_write(database):
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE birds (name text)")
    async with database.snapshot() as old:
        assert await old.fetchval("SELECT count(*) FROM birds") == 0
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO birds VALUES ('wren')")
        assert await old.fetchval("SELECT count(*) FROM birds") == 0
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.snapshot() as tx:
            await tx.execute("INSERT INTO birds VALUES ('robin')")


async def test_a_lost_connection_is_unavailable_and_the_next_one_works(
    database, administrator
):
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE birds (name text)")
            await terminate_all(administrator, database)
            await tx.execute("INSERT INTO birds VALUES ('wren')")

    async def look():
        async with database.read() as tx:
            return await tx.fetchval("SELECT to_regclass('birds')")

    # Other connections of the pool may be found dead as well.
    assert await retrying(look, 5) is None


async def test_a_connection_lost_while_committing_is_unknown(database, administrator):
    # A deferred trigger keeps COMMIT busy until the connection is ended under it.
    async with database.transaction() as tx:
        await tx.execute(
            """
            CREATE TABLE birds (name text);
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON birds
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
            """
        )

    async def write():
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO birds VALUES ('wren')")

    writing = asyncio.create_task(write())
    while not await administrator.fetchval(
        "SELECT true FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    ):
        await asyncio.sleep(0.01)
    await terminate_all(administrator, database)
    with pytest.raises(CommitUnknown):
        await writing


async def test_errors_of_statements_and_of_the_caller_pass_unchanged(database):
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.read() as tx:
            await tx.fetch("SELECT * FROM no_such_table")
    with pytest.raises(TimeoutError):
        async with database.read():
            raise TimeoutError
    with pytest.raises(asyncpg.UniqueViolationError):
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE once (n int PRIMARY KEY)")
            await tx.execute("INSERT INTO once VALUES (1), (1)")


async def test_an_error_that_is_passed_over_does_not_look_like_a_commit(database):
    with pytest.raises(NotCommitted):
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE birds (name text)")
            with contextlib.suppress(asyncpg.UndefinedTableError):
                await tx.execute("INSERT INTO fish VALUES (1)")
    async with database.read() as tx:
        assert await tx.fetchval("SELECT to_regclass('birds')") is None


async def test_a_cancelled_transaction_is_undone_and_the_connection_goes_back(database):
    async def write():
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE birds (name text)")
            await tx.execute("SELECT pg_sleep(60)")

    for _ in range(database.size + 1):
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    async with database.read() as tx:
        assert await tx.fetchval("SELECT to_regclass('birds')") is None


async def test_waiting_for_a_connection_is_bounded(database, monkeypatch):
    monkeypatch.setattr("homeserver.db.pool.ACQUIRE_SECONDS", 0.05)
    held = [database.read() for _ in range(database.size)]
    for one in held:
        await one.__aenter__()
    with pytest.raises(DatabaseUnavailable, match="became free"):
        async with database.read():
            pass
    for one in held:
        await one.__aexit__(None, None, None)


async def test_a_hung_transaction_loses_its_connection(database):
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as tx:
            await tx.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            await asyncio.sleep(0.3)
            await tx.execute("SELECT 1")


async def test_sessions_have_their_time_outs(database):
    async with database.read() as tx:
        shown = await tx.fetchval("SHOW idle_in_transaction_session_timeout")
        assert shown == "15s"
        assert await tx.fetchval("SHOW statement_timeout") == "1min"


async def test_connecting_to_nothing_is_unavailable_and_to_a_wrong_name_refused(
    postgres, tmp_path
):
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(f"postgresql://hearth@/hearth?host={tmp_path}")
    wrong = postgres.dsn.replace("@/hearth?", "@/nowhere?")
    with pytest.raises(DatabaseError, match="nowhere"):
        await Database.connect(wrong)


async def test_retrying_goes_on_until_it_works_or_time_is_up():
    attempts = []

    async def third_time():
        attempts.append(1)
        if len(attempts) < 3:
            raise DatabaseUnavailable("not yet")
        return "done"

    assert await retrying(third_time, 5) == "done"
    assert len(attempts) == 3

    async def never():
        raise DatabaseUnavailable("no")

    with pytest.raises(DatabaseUnavailable):
        await retrying(never, 0.2)


async def eventually(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_listeners_hear_what_is_notified_with_any_characters(database):
    heard = []
    await database.listen("birds", heard.append)
    assert heard == [None]
    assert await database.notify("birds", "wren 'ö'")
    await eventually(lambda: heard == [None, "wren 'ö'"])


async def test_a_lost_listener_comes_back_and_says_that_it_may_have_missed_something(
    database, administrator
):
    heard = []
    await database.listen("birds", heard.append)
    await terminate_all(administrator, database)
    await eventually(lambda: heard == [None, None])
    while not await database.notify("birds", "wren"):  # it lost its connection too
        await asyncio.sleep(0.01)
    await eventually(lambda: heard[-1] == "wren")


async def test_a_payload_that_postgres_would_refuse_is_refused_here(database):
    assert await database.notify("birds", "x" * 7999)
    with pytest.raises(ValueError, match="7999"):
        await database.notify("birds", "ö" * 4000)


async def test_nothing_is_left_open_after_close(new_dsn, administrator):
    database = await Database.connect(await new_dsn())
    await database.listen("birds", lambda _: None)
    await database.notify("birds", "wren")
    await database.close()
    name = database.dsn.partition("@/")[2].partition("?")[0]
    async with asyncio.timeout(5):
        while await administrator.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name
        ):
            await asyncio.sleep(0.01)
