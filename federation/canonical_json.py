"""JSON as events need it: canonical bytes, and parsing that loses nothing.

Two laws. What is signed or hashed is `encode(value)`. What was received is parsed by
`parse`, so that large integers and floats of old room versions survive.

Spec: appendices#canonical-json
"""

import json
from typing import Final, TypeAlias

import orjson

from federation.errors import Malformed

# JSON as Python sees it; `JsonObject` is what an event or a body is.
JsonValue: TypeAlias = (
    "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
)
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_INTEGER: Final = 2**53 - 1
# orjson's own encoder stops at 254; real events nest a dozen levels.
MAX_DEPTH: Final = 200

_STRICT: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_STRICT_SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
_SCALARS: Final = _STRICT_SCALARS | {float}


def check(value: JsonValue, *, strict: bool = True) -> None:
    """Raise Malformed unless the value has a canonical form.

    Strict is the rule since room version 6: integers within ±(2^53-1) and no floats.
    Not strict, only what cannot be written at all is refused.
    """
    encode_checked(value, strict=strict)


def encode_checked(value: JsonValue, *, strict: bool) -> bytes:
    """Check a value as `check` does and give its canonical bytes, in one go.

    The walk sees what orjson lets pass (depth, floats, tuples, dates); orjson sees
    the rest (range of integers, kind of keys, lone surrogates), at a fifth of the
    price of doing it here. Raises: Malformed.
    """
    if strict:
        _check_shape(value, _STRICT_SCALARS)
        try:
            return orjson.dumps(value, option=_STRICT)
        except TypeError as error:
            raise Malformed(f"not canonical JSON: {error}") from None
    _check_shape(value, _SCALARS)
    if not has_float(value):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            pass  # integers past 64 bits, or what the slow path refuses too
    _check_keys(value)
    return _encode_slowly(value)


def _check_shape(value: JsonValue, scalars: frozenset[type]) -> None:
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[JsonValue] = []
        for item in level:
            if type(item) in scalars:
                continue
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
            else:
                raise Malformed(f"canonical JSON has no {type(item).__name__}")
        if not deeper:
            return
        level = deeper
    raise Malformed(f"JSON nests deeper than {MAX_DEPTH} levels")


def _check_keys(value: JsonValue) -> None:
    """Refuse keys that the slow encoder would turn into strings."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if not all(type(key) is str for key in item):
                raise Malformed("a JSON object's keys must be strings")
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def encode(value: JsonValue) -> bytes:
    """The canonical bytes of a value that `check` has let through.

    Values outside orjson's range (old room versions only) take the slow path, which
    writes the same bytes. Raises: Malformed, when there is no canonical form.
    """
    if has_float(value):
        return _encode_slowly(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers past 64 bits, lone surrogates, too deep
        return _encode_slowly(value)


def encode_strict(value: JsonValue) -> bytes:
    """The canonical bytes of a value without floats or large integers; fastest.

    For values that `check(value, strict=True)` has let through, and our own.
    Raises: Malformed, for what orjson cannot write.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Malformed(f"not canonical JSON: {error}") from None


def _encode_slowly(value: JsonValue) -> bytes:
    try:
        return json.dumps(
            value,
            ensure_ascii=False,
            separators=(",", ":"),
            sort_keys=True,
            allow_nan=False,
        ).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no canonical form: {error}") from None


def has_float(value: JsonValue) -> bool:
    """Whether a float stands anywhere in the value."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) in _STRICT_SCALARS:
            continue
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, float):
            return True
    return False


def parse(body: bytes | str) -> JsonValue:
    """Parse JSON without losing integers of any size. Raises: Malformed.

    orjson reads integers of 2^64 and more as floats without a word, so a document
    with a float in it is read again by the standard library.
    """
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    if has_float(value):
        try:
            value = json.loads(body)  # infinities and NaN orjson has refused
        except (ValueError, RecursionError) as error:
            raise Malformed(f"not JSON: {error}") from None
    return value


def parse_object(body: bytes | str) -> JsonObject:
    """Parse a JSON object. Raises: Malformed, also when it is something else."""
    value = parse(body)
    if not isinstance(value, dict):
        raise Malformed("expected a JSON object")
    return value
