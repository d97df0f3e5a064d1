"""The schema moves on step by step, or not at all."""

import asyncio

import asyncpg
import pytest

from homeserver.db import migrate as migrating
from homeserver.db.errors import DatabaseError, DatabaseUnavailable
from homeserver.db.migrate import MigrationFailed, Schema, Step, migrate, pending

FIRST = Step(1, "pre", "begin", "CREATE TABLE birds (name text);")
SECOND = Step(2, "pre", "colours", "ALTER TABLE birds ADD COLUMN colour text;")
THIRD = Step(3, "post", "name_key", "ALTER TABLE birds ADD PRIMARY KEY (name);")
TABLES_1 = FIRST.sql
TABLES_3 = "CREATE TABLE birds (name text PRIMARY KEY, colour text);"


async def columns(dsn):
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = 'birds' ORDER BY ordinal_position"
    )
    await connection.close()
    return [row["column_name"] for row in rows]


async def test_a_fresh_database_gets_all_tables_and_counts_every_step(empty_dsn):
    schema = Schema(TABLES_3, [FIRST, SECOND, THIRD])
    assert await migrate(empty_dsn, schema=schema) == ["tables.sql"]
    assert await columns(empty_dsn) == ["name", "colour"]
    assert await pending(empty_dsn, schema) == []
    assert await migrate(empty_dsn, schema=schema) == []


async def test_an_older_database_gets_what_is_missing_in_order(empty_dsn):
    await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))
    schema = Schema(TABLES_3, [FIRST, SECOND, THIRD])
    assert await pending(empty_dsn, schema) == [SECOND.file, THIRD.file]
    assert await migrate(empty_dsn, schema=schema) == [SECOND.file, THIRD.file]
    assert await columns(empty_dsn) == ["name", "colour"]


async def test_only_pre_leaves_post_steps_for_later(empty_dsn):
    await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))
    after = Step(4, "pre", "size", "ALTER TABLE birds ADD COLUMN size int;")
    schema = Schema(TABLES_3, [FIRST, SECOND, THIRD, after])
    assert await migrate(empty_dsn, schema=schema, only_pre=True) == [SECOND.file]
    assert await pending(empty_dsn, schema) == [THIRD.file, after.file]


async def test_a_failing_step_leaves_the_old_schema_and_names_its_line(empty_dsn):
    await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))
    bad = Step(
        3,
        "pre",
        "bad",
        "ALTER TABLE birds ADD COLUMN size int;\n"
        "INSERT INTO birds (name) VALUES ('wren');\n"
        "ALTER TABLE fish ADD COLUMN size int;\n",
    )
    schema = Schema("", [FIRST, SECOND, bad])
    with pytest.raises(MigrationFailed, match=r"schema/0003_pre_bad\.sql:\d+:.*fish"):
        await migrate(empty_dsn, schema=schema)
    # The step before it stays, the failing one has left nothing.
    assert await columns(empty_dsn) == ["name", "colour"]
    assert await pending(empty_dsn, schema) == [bad.file]


async def test_tables_that_fail_leave_nothing(empty_dsn):
    schema = Schema("CREATE TABLE birds (name text);\nSELECT 1/0;", [FIRST])
    with pytest.raises(MigrationFailed):
        await migrate(empty_dsn, schema=schema)
    assert await columns(empty_dsn) == []
    assert await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST])) == ["tables.sql"]


async def test_a_database_of_a_newer_release_is_refused(empty_dsn):
    await migrate(empty_dsn, schema=Schema(TABLES_3, [FIRST, SECOND, THIRD]))
    with pytest.raises(DatabaseError, match=r"0003_post_name_key\.sql.*newer"):
        await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST, SECOND]))


async def test_somebody_elses_database_is_refused(empty_dsn):
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("CREATE TABLE fish (name text)")
    await connection.close()
    with pytest.raises(DatabaseError, match="not Hearth's: it has 'fish'"):
        await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))


async def test_another_encoding_is_refused(postgres, administrator):
    await administrator.execute(
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    )
    try:
        with pytest.raises(DatabaseError, match="encoding is LATIN1"):
            await migrate(postgres.dsn.replace("@/hearth?", "@/latin?"))
    finally:
        await administrator.execute("DROP DATABASE latin")


async def test_many_at_once_apply_each_step_once(empty_dsn):
    schema = Schema(TABLES_3, [FIRST, SECOND, THIRD])
    done = await asyncio.gather(*(migrate(empty_dsn, schema=schema) for _ in range(5)))
    assert sorted(done) == [[], [], [], [], ["tables.sql"]]


async def test_a_busy_table_is_tried_again(empty_dsn, monkeypatch):
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrating, "LOCK_PAUSE_SECONDS", 0.05)
    await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))
    reader = await asyncpg.connect(empty_dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT * FROM birds")
    said = []
    schema = Schema("", [FIRST, SECOND])
    task = asyncio.create_task(migrate(empty_dsn, schema=schema, report=said.append))
    while not any("a table is busy, trying again" in line for line in said):
        assert not task.done()
        await asyncio.sleep(0.01)
    await transaction.rollback()
    assert await task == [SECOND.file]
    await reader.close()


async def test_a_table_that_stays_busy_is_given_up(empty_dsn, monkeypatch):
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrating, "LOCK_PAUSE_SECONDS", 0.01)
    await migrate(empty_dsn, schema=Schema(TABLES_1, [FIRST]))
    reader = await asyncpg.connect(empty_dsn)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM birds")
        with pytest.raises(MigrationFailed, match="busy 15 times"):
            await migrate(empty_dsn, schema=Schema("", [FIRST, SECOND]))
    await reader.close()
    assert await columns(empty_dsn) == ["name"]


async def test_no_server_is_unavailable(tmp_path):
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql://hearth@/hearth?host={tmp_path}")


def test_the_shipped_steps_are_numbered_and_open_no_transaction():
    steps = Schema.shipped().steps
    numbers = [step.number for step in steps]
    assert numbers == sorted(set(numbers))
    for step in steps:
        words = step.sql.upper().split()
        assert not {"BEGIN;", "COMMIT;", "CONCURRENTLY"} & set(words), step.file


async def test_tables_sql_equals_the_chain_of_steps(
    empty_dsn, database_template, postgres
):
    """The same catalogue, whichever way it was made."""
    shipped = Schema.shipped()
    first = Schema(shipped.steps[0].sql, shipped.steps[:1])
    await migrate(empty_dsn, schema=first)
    await migrate(empty_dsn, schema=shipped)
    fresh = postgres.dsn.replace("@/hearth?", f"@/{database_template}?")
    assert await catalogue(empty_dsn) == await catalogue(fresh)


async def catalogue(dsn):
    """Columns in order, constraints, indexes and sequences, as text."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        """
        SELECT concat_ws(' ', c.relname, c.relkind, c.relpersistence, c.reloptions,
                         a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                         a.attnotnull, a.attstorage, pg_get_expr(d.adbin, d.adrelid),
                         l.collname) AS line
          FROM pg_class c
          JOIN pg_attribute a
               ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
          LEFT JOIN pg_collation l ON l.oid = a.attcollation
         WHERE c.relnamespace = 'public'::regnamespace
         UNION ALL
        SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
          FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         UNION ALL
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
         UNION ALL
        SELECT concat_ws(' ', sequencename, start_value, min_value, max_value,
                         increment_by, cycle, cache_size, data_type)
          FROM pg_sequences WHERE schemaname = 'public'
         UNION ALL
        SELECT pg_get_functiondef(oid)
          FROM pg_proc WHERE pronamespace = 'public'::regnamespace
         UNION ALL
        SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
         ORDER BY 1
        """
    )
    await connection.close()
    return [row["line"] for row in rows]
