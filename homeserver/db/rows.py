"""Rows as values, and text that PostgreSQL cannot hold."""

from collections.abc import Sequence
from typing import Final, LiteralString, TypeVar

import asyncpg
import msgspec

from homeserver.db.pool import Tx

T = TypeVar("T")

# (type, statement) pairs whose columns have been compared with the type's fields.
_checked: Final[set[tuple[type, str]]] = set()
_MOST_CHECKED: Final = 10_000  # statements are literals, so there are far fewer


def _check_columns(type_: type, sql: str, record: asyncpg.Record) -> None:
    """The columns must be the type's fields, in order: a swap would go unnoticed.

    Raises: TypeError, a slip of ours.
    """
    columns = tuple(record.keys())
    fields = tuple(_field_names(type_))
    if columns != fields[: len(columns)]:
        raise TypeError(f"columns {columns} are not the fields of {type_.__name__}")
    if len(_checked) >= _MOST_CHECKED:
        _checked.clear()
    _checked.add((type_, sql))


def _field_names(type_: type) -> Sequence[str]:
    if issubclass(type_, tuple):
        return getattr(type_, "_fields", ())
    return (
        [field.name for field in msgspec.structs.fields(type_)]
        if issubclass(type_, msgspec.Struct)
        else list(getattr(type_, "__dataclass_fields__", ()))
    )


async def fetch_as(
    tx: Tx, type_: type[T], sql: LiteralString, *args: object
) -> list[T]:
    """The rows as values of a dataclass, Struct or NamedTuple.

    Columns are named like the type's fields and stand in their order; fields with
    defaults may be left out at the end.
    """
    records = await tx.fetch(sql, *args)
    if records and (type_, sql) not in _checked:
        _check_columns(type_, sql, records[0])
    return [type_(*record) for record in records]


async def fetch_one_as(
    tx: Tx, type_: type[T], sql: LiteralString, *args: object
) -> T | None:
    """The first row as such a value, or None when there is none."""
    record = await tx.fetchrow(sql, *args)
    if record is None:
        return None
    if (type_, sql) not in _checked:
        _check_columns(type_, sql, record)
    return type_(*record)


# PostgreSQL's text holds every character but U+0000, which JSON strings may hold. It is
# written as two characters that begin with U+0010 (data link escape), as is U+0010.
_ESCAPE: Final = "\x10"


def to_text(value: str) -> str:
    """The string as a text column can hold it. Different strings stay different."""
    if "\0" not in value and _ESCAPE not in value:
        return value
    return value.replace(_ESCAPE, "\x10e").replace("\0", "\x10n")


def from_text(value: str) -> str:
    """The string that `to_text` was given."""
    if _ESCAPE not in value:
        return value
    return value.replace("\x10n", "\0").replace("\x10e", _ESCAPE)
