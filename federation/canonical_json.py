"""JSON as events need it: canonical bytes, and parsing that loses nothing.

Two laws. What is signed or hashed is `encode(value)`. What was received is parsed by
`parse`, so that large integers and floats of old room versions survive.

Spec: appendices#canonical-json
"""

import json
import math
from typing import Final, TypeAlias

import orjson

from federation.errors import Malformed

# JSON as Python sees it; `JsonObject` is what an event or a body is.
JsonValue: TypeAlias = (
    "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"
)
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_INTEGER: Final = 2**53 - 1
# orjson's own encoder stops at 254; real events nest a dozen levels.
MAX_DEPTH: Final = 200


def check(value: JsonValue, *, strict: bool = True) -> None:
    """Raise Malformed unless the value has a canonical form.

    Strict is the rule since room version 6: integers within ±(2^53-1) and no floats.
    Not strict, only what cannot be written at all is refused.
    """
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[JsonValue] = []
        for item in level:
            _check_one(item, deeper, strict=strict)
        if not deeper:
            return
        level = deeper
    raise Malformed(f"JSON nests deeper than {MAX_DEPTH} levels")


def _check_one(item: JsonValue, deeper: list[JsonValue], *, strict: bool) -> None:
    kind = type(item)
    if kind is str:
        if not item.isascii():  # type: ignore[union-attr]
            _check_text(item)  # type: ignore[arg-type]
    elif kind is dict:
        for key in item:  # type: ignore[union-attr]
            if type(key) is not str:
                raise Malformed("a JSON object's keys must be strings")
            if not key.isascii():
                _check_text(key)
        deeper.extend(item.values())  # type: ignore[union-attr]
    elif kind is list:
        deeper.extend(item)  # type: ignore[arg-type]
    elif kind is int:
        if strict and not -MAX_INTEGER <= item <= MAX_INTEGER:  # type: ignore[operator]
            raise Malformed("integers must lie within ±(2^53-1)")
    elif kind is float:
        if strict:
            raise Malformed("canonical JSON has no floats")
        if not math.isfinite(item):  # type: ignore[arg-type]
            raise Malformed("JSON has no infinities and no NaN")
    elif item is not None and kind is not bool:
        raise Malformed(f"{kind.__name__} is not JSON")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("a lone surrogate is not Unicode text") from None


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
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


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
        kind = type(item)
        if kind is dict:
            stack.extend(item.values())  # type: ignore[union-attr]
        elif kind is list:
            stack.extend(item)  # type: ignore[arg-type]
        elif kind is float:
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
            value = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"not JSON: {error}") from None
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def parse_object(body: bytes | str) -> JsonObject:
    """Parse a JSON object. Raises: Malformed, also when it is something else."""
    value = parse(body)
    if not isinstance(value, dict):
        raise Malformed("expected a JSON object")
    return value
