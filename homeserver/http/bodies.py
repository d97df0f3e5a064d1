"""JSON bodies: parsed without loss, checked, and turned into typed structs.

Laws. Bytes that are not JSON, or not UTF-8, are M_NOT_JSON; JSON that is not what the
endpoint asks for is M_BAD_JSON. Integers lie within ±(2^53-1) in everything a client
sends, since other clients read them as floats; only what servers send is kept as it
is, for the sake of old room versions.
"""

from typing import Final, TypeVar

import msgspec
import orjson

from federation import canonical_json
from federation.canonical_json import MAX_DEPTH, MAX_INTEGER, JsonObject, JsonValue
from federation.errors import Malformed
from homeserver import errors

Struct = TypeVar("Struct", bound=msgspec.Struct)

_OBJECT_NEEDED: Final = "The body must be a JSON object."


def _loads(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise errors.not_json() from None
    return value


def parse_body(body: bytes) -> JsonValue:
    """Parse a client's body. Raises: M_NOT_JSON, M_BAD_JSON."""
    value = _loads(body)
    if _has_float(value):
        # orjson reads integers of 2^64 and more as floats without a word.
        value = parse_server_body(body)
        _has_float(value)
    return value


def parse_event_content(body: bytes) -> JsonObject:
    """Parse what is to become an event's content: an object without floats.

    Raises: M_NOT_JSON, M_BAD_JSON. Spec: appendices#canonical-json
    """
    content = as_object(_loads(body))
    try:
        canonical_json.check(content, strict=True)
    except Malformed as error:
        raise errors.of_caller(error) from None
    return content


def parse_server_body(body: bytes) -> JsonValue:
    """Parse another server's body, with integers and floats as they are.

    Raises: M_NOT_JSON.
    """
    try:
        return canonical_json.parse(body)
    except Malformed:
        raise errors.not_json() from None


def _has_float(value: JsonValue) -> bool:
    """Whether there is a float; refuses large integers and nesting without end.

    Raises: M_BAD_JSON.
    """
    found = False
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[JsonValue] = []
        for item in level:
            if type(item) is dict:
                deeper.extend(item.values())
            elif type(item) is list:
                deeper.extend(item)
            elif type(item) is int and not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise errors.bad_json("Integers must lie within ±(2^53-1).")
            elif type(item) is float:
                found = True
        if not deeper:
            return found
        level = deeper
    raise errors.bad_json(f"JSON may nest at most {MAX_DEPTH} levels deep.")


def as_object(value: JsonValue) -> JsonObject:
    """The value as an object. Raises: M_BAD_JSON, when it is something else."""
    if type(value) is not dict:
        raise errors.bad_json(_OBJECT_NEEDED)
    return value


def to_struct(value: JsonObject, kind: type[Struct]) -> Struct:
    """The object as a struct; keys that the struct lacks are left out.

    Raises: M_BAD_JSON, when a required key is missing or has the wrong type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # For example: Expected `str`, got `int` - at `$.password`
        raise errors.bad_json(f"{error}.") from None
