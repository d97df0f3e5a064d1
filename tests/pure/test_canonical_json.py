"""Canonical JSON: one value, one row of bytes, the same as the reference package's."""

import json
import math
from datetime import UTC, datetime

import canonicaljson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from federation import canonical_json
from federation.errors import Malformed
from tests.pure.json_values import LOOSE_JSON, MAX_INTEGER, STRICT_JSON

oracle = canonicaljson.encode_canonical_json


@given(STRICT_JSON)
def test_strict_values_have_the_oracles_bytes(value) -> None:
    expected = oracle(value)
    assert canonical_json.encode_checked(value, strict=True) == expected
    assert canonical_json.encode_checked(value, strict=False) == expected
    assert canonical_json.encode(value) == expected
    assert canonical_json.encode_strict(value) == expected


@given(LOOSE_JSON)
@example([1e-7, 1e16, 1e22, -0.0, 5e-324, 1.7976931348623157e308])
@example([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400])
@example([2**64, "\x00\x1f\x7f\u2028\U0010ffff\uffff"])
@example({"\U00010000": 1.5, "\uffff": 2, "": 3})
def test_loose_values_have_the_oracles_bytes(value) -> None:
    expected = oracle(value)
    assert canonical_json.encode_checked(value, strict=False) == expected
    assert canonical_json.encode(value) == expected


@given(LOOSE_JSON)
def test_parsing_loses_nothing(value) -> None:
    body = json.dumps(value)
    parsed = canonical_json.parse(body)
    assert parsed == value
    assert canonical_json.encode(parsed) == oracle(value)
    assert canonical_json.parse(body.encode()) == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{}", "{}"),
        ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
        ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
        ('{"a": "日本語"}', '{"a":"日本語"}'),
        ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
        ('{"a": "\\u65E5"}', '{"a":"日"}'),
        ('{"a": null}', '{"a":null}'),
        ('{"a": -0}', '{"a":0}'),
        (
            '{"c": {"e": [{"g": 1, "f": 2}], "d": true}}',
            '{"c":{"d":true,"e":[{"f":2,"g":1}]}}',
        ),
        (
            '"\\u0008\\u0009\\u000a\\u000c\\u000d\\u0022\\u005c\\u0000\\u001f\\u007f"',
            '"\\b\\t\\n\\f\\r\\"\\\\\\u0000\\u001f\x7f"',
        ),
    ],
)
def test_the_specifications_examples(text: str, canonical: str) -> None:
    value = canonical_json.parse(text)
    assert canonical_json.encode_checked(value, strict=True) == canonical.encode()


@pytest.mark.parametrize(
    "value",
    [MAX_INTEGER + 1, -MAX_INTEGER - 1, 2**63, 2**64, 10**100, 1.5, 0.0, -0.0, 1e10],
)
def test_strict_is_stricter(value) -> None:
    for holder in (value, [value], {"key": [value]}):
        canonical_json.check(holder, strict=False)
        with pytest.raises(Malformed):
            canonical_json.check(holder)  # strict, if nothing else is asked for


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        "a\udfff",
        {"\udc00": 1},
        {1: "one"},
        {None: 1},
        {True: 1},
        ("a", "tuple"),
        {"a", "set"},
        b"bytes",
        datetime.now(UTC),
        object(),
        3j,
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_json_is_refused(value, *, strict: bool) -> None:
    for holder in (value, [1.5, value], [2**70, value], {"key": [value]}):
        with pytest.raises(Malformed):
            canonical_json.check(holder, strict=strict)


def test_the_bounds_are_those_of_the_text() -> None:
    assert canonical_json.MAX_INTEGER == 2**53 - 1
    assert canonical_json.MAX_DEPTH == 200


def nest(depth: int, value: object = 0) -> object:
    for level in range(depth):
        value = [value] if level % 2 else {"": value}
    return value


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("value", [0, 2**53, 2**70])
def test_depth_is_bounded(value: int, *, strict: bool) -> None:
    if value == 0 or not strict:
        deep = nest(canonical_json.MAX_DEPTH - 1, value)
        assert canonical_json.encode_checked(deep, strict=strict) == oracle(deep)
    for depth in (canonical_json.MAX_DEPTH, 100_000):
        with pytest.raises(Malformed):
            canonical_json.check(nest(depth, value), strict=strict)


@pytest.mark.parametrize("strict", [True, False])
def test_encoding_what_was_not_checked_is_refused_at_most(*, strict: bool) -> None:
    encode = canonical_json.encode_strict if strict else canonical_json.encode
    for value in ("\ud800", nest(100_000), 10**5000, [1.5, "\ud800"]):
        if strict and isinstance(value, list):
            continue
        with pytest.raises(Malformed):
            encode(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b"NaN",
        b"[1.5, NaN]",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"01",
        b"1.",
        b"nul",
        b'"\xff"',
        b'"\\ud800"',
        b'"\x00"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1} {}',
        b"[" * 100_000,
        b"[" * 2000 + b"]" * 2000,
        b"[1.5," * 900 + b"1" + b"]" * 899,
        b"[1.5," * 1020 + b"1" + b"]" * 1020,
        b"1" * 5000,
        b"[1.5," + b"1" * 5000 + b"]",
    ],
)
def test_broken_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        canonical_json.parse(body)


@given(st.binary() | st.text().map(str.encode))
def test_any_body_is_refused_at_most(body: bytes) -> None:
    try:
        value = canonical_json.parse(body)
    except Malformed:
        return
    canonical_json.check(value, strict=False)


def test_large_integers_are_not_rounded() -> None:
    body = b'{"a":18446744073709551617,"b":[1.5,-36893488147419103233]}'
    assert canonical_json.parse(body) == {"a": 2**64 + 1, "b": [1.5, -(2**65) - 1]}
    assert canonical_json.encode(canonical_json.parse(body)) == body


def test_an_object_is_expected() -> None:
    assert canonical_json.parse_object(b'{"a":1}') == {"a": 1}
    for body in (b"[]", b"1", b"null", b'"{}"', b"{"):
        with pytest.raises(Malformed):
            canonical_json.parse_object(body)


def test_floats_are_found_wherever_they_stand() -> None:
    for value in (1.5, [1.5], {"a": {"b": [1, 1.5]}}):
        assert canonical_json.has_float(value)
    for value in (1, True, None, "1.5", [1], {"1.5": {"a": []}}):
        assert not canonical_json.has_float(value)
