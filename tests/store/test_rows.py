"""Rows become values, and any text survives the database."""

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.db.rows import fetch_as, fetch_one_as, from_text, to_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@dataclass(frozen=True, slots=True)
class Bird:
    name: str
    size: int
    colour: str = "brown"


class BirdStruct(msgspec.Struct, frozen=True):
    name: str
    size: int


class BirdTuple(NamedTuple):
    name: str
    size: int


async def test_rows_become_values_of_every_kind_of_type(database):
    async with database.read() as tx:
        sql = (
            "SELECT n AS name, s AS size FROM (VALUES ('wren', 1), ('owl', 3)) t(n, s)"
        )
        assert await fetch_as(tx, Bird, sql) == [Bird("wren", 1), Bird("owl", 3)]
        assert await fetch_as(tx, BirdTuple, sql) == [("wren", 1), ("owl", 3)]
        assert (await fetch_as(tx, BirdStruct, sql))[1] == BirdStruct("owl", 3)
        assert await fetch_one_as(tx, Bird, sql) == Bird("wren", 1)
        none = "SELECT 'x' AS name, 1 AS size WHERE $1"
        assert await fetch_one_as(tx, Bird, none, False) is None
        assert await fetch_as(tx, Bird, none, False) == []


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS size, 'wren' AS name", "SELECT 'wren' AS name, 1 AS weight"]
)
async def test_columns_that_are_not_the_fields_are_an_error(database, sql):
    async with database.read() as tx:
        with pytest.raises(TypeError, match="not the fields of Bird"):
            await fetch_as(tx, Bird, sql)
        with pytest.raises(TypeError, match="not the fields of Bird"):
            await fetch_one_as(tx, Bird, sql)


@given(TEXT)
def test_text_comes_back_as_it_was_and_holds_no_nul(value):
    kept = to_text(value)
    assert "\0" not in kept
    assert from_text(kept) == value


@given(st.lists(st.sampled_from(["\0", "\x10", "e", "n"])).map("".join), TEXT)
def test_different_strings_stay_different(one, other):
    assert (to_text(one) == to_text(other)) == (one == other)
    assert from_text(to_text(one)) == one


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=50))
async def test_postgres_takes_it(database, values):
    async with database.read() as tx:
        kept = await tx.fetchval("SELECT $1::text[]", [to_text(v) for v in values])
    assert [from_text(v) for v in kept] == values
