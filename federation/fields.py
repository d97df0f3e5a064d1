"""Typed fields out of JSON objects; whatever has another type is Malformed."""

from collections.abc import Callable
from typing import TypeVar

from federation.canonical_json import MAX_INTEGER, JsonObject, JsonValue
from federation.errors import Malformed

T = TypeVar("T")


def as_object(value: JsonValue, what: str) -> JsonObject:
    """The value as a JSON object."""
    if not isinstance(value, dict):
        raise Malformed(f"{what} must be an object")
    return value


def as_text(value: JsonValue, what: str) -> str:
    """The value as a string without NUL, which no name or identifier holds."""
    if not isinstance(value, str):
        raise Malformed(f"{what} must be a string")
    if "\0" in value:
        raise Malformed(f"{what} must not contain NUL")
    return value


def as_integer(value: JsonValue, what: str) -> int:
    """The value as an integer that every JSON implementation can hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{what} must be an integer")
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise Malformed(f"{what} is out of range")
    return value


def text(body: JsonObject, name: str) -> str:
    """A required string."""
    return as_text(body.get(name), name)


def optional_text(body: JsonObject, name: str) -> str | None:
    """A string, or None when it is absent or null."""
    value = body.get(name)
    return None if value is None else as_text(value, name)


def integer(body: JsonObject, name: str) -> int:
    """A required integer."""
    return as_integer(body.get(name), name)


def optional_integer(body: JsonObject, name: str) -> int | None:
    """An integer, or None when it is absent or null."""
    value = body.get(name)
    return None if value is None else as_integer(value, name)


def boolean(body: JsonObject, name: str) -> bool:
    """A required boolean."""
    value = body.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} must be true or false")
    return value


def optional_boolean(body: JsonObject, name: str, *, default: bool = False) -> bool:
    """A boolean, or the default when it is absent or null."""
    return default if body.get(name) is None else boolean(body, name)


def obj(body: JsonObject, name: str) -> JsonObject:
    """A required object."""
    return as_object(body.get(name), name)


def optional_object(body: JsonObject, name: str) -> JsonObject | None:
    """An object, or None when it is absent or null."""
    value = body.get(name)
    return None if value is None else as_object(value, name)


def array(body: JsonObject, name: str) -> list[JsonValue]:
    """A required list."""
    value = body.get(name)
    if not isinstance(value, list):
        raise Malformed(f"{name} must be a list")
    return value


def objects(body: JsonObject, name: str) -> tuple[JsonObject, ...]:
    """A required list of objects, such as raw events."""
    what = f"each of {name}"
    return tuple(as_object(value, what) for value in array(body, name))


def optional_objects(body: JsonObject, name: str) -> tuple[JsonObject, ...]:
    """A list of objects, empty when it is absent or null."""
    return () if body.get(name) is None else objects(body, name)


def parsed_texts(
    body: JsonObject, name: str, parse: Callable[[str], T]
) -> tuple[T, ...]:
    """A required list of strings, each of which the parser accepts."""
    what = f"each of {name}"
    return tuple(parse(as_text(value, what)) for value in array(body, name))


def without_none(body: dict[str, JsonValue]) -> JsonObject:
    """The object without the keys whose value is None, for optional fields."""
    return {key: value for key, value in body.items() if value is not None}
