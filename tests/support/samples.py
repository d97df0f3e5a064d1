"""Requests that are nearly right, made from the specification's own shapes.

Each request has a rate of its own at which values are odd, often none or few, so that
many get past the first checks.
"""

import random
from typing import Any
from urllib.parse import quote

from tests.support import openapi
from tests.support.openapi import Operation

# What nobody should send, and somebody will.
ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53,
    10**30,
    0.5,
    1e300,
    "",
    "\0",
    "é\u2028\U0001f600",
    "x" * 5000,
    "%",
    "@",
    "@a:b",
    "!a:b",
    "#a:b",
    "$a",
    "m.room.message",
    [],
    [None],
    [[[[]]]],
    {},
    {"": {}},
    {"a": {"b": {"c": [1, {"d": None}]}}},
]
ODD_TEXTS = [
    "",
    "%00",
    "%C3%A9",
    "%2F",
    "..",
    "x",
    "x" * 300,
    "-1",
    "99999999999999999999",
    "1.5",
    "{",
    "{}",
    "[]",
    "%7B%22room%22%3A1%7D",
    "true",
    "t1",
    "s1_2_3",
]
NOT_JSON = [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 10_000, b'"\\ud800"']
NOT_OBJECTS = [b"[]", b"null", b"1", b'"x"']
_DEPTH = 6


class Sampler:
    """Random requests for an operation; the same seed gives the same ones."""

    def __init__(self, seed: str, known: dict[str, list[str]]) -> None:
        self._random = random.Random(seed)
        # Good values of path and query parameters, by name.
        self._known = known
        self._rate = 0.0

    def request(self, operation: Operation, path: str) -> tuple[str, bytes | None]:
        """A target and a body."""
        self._rate = self._random.choice([0, 0, 0.05, 0.15, 0.5])
        return self.target(operation, path), self.body(operation)

    def _is_odd(self) -> bool:
        return self._random.random() < self._rate

    def target(self, operation: Operation, template: str) -> str:
        """A path and a query."""
        path = template
        for name in openapi.PARAMETER.findall(template):
            path = path.replace(name, self._text(name[1:-1]), 1)
        pairs = [
            f"{quote(each['name'], safe='')}={self._text(each['name'])}"
            for each in operation.parameters
            if each.get("in") == "query"
            if (each.get("required") and not self._is_odd())
            or self._random.random() < 0.3
        ]
        return path + ("?" + "&".join(pairs) if pairs else "")

    def _text(self, name: str) -> str:
        good = self._known.get(name, [])
        if good and not self._is_odd():
            return quote(self._random.choice(good), safe="")
        return self._random.choice(ODD_TEXTS)

    def body(self, operation: Operation) -> bytes | None:
        """A body, seldom one that is no JSON object."""
        if operation.method == "GET":
            return None
        if self._is_odd():
            return self._random.choice([*NOT_JSON, *NOT_OBJECTS])
        schema = operation.body_schema()
        value = self._value(schema, str(operation.file), _DEPTH) if schema else {}
        if not isinstance(value, dict):
            value = {}
        if self._is_odd():
            value[self._random.choice(["unknown", "", "\0"])] = self._odd()
        return openapi.encode(value)

    def _odd(self) -> Any:
        return self._random.choice(ODD_VALUES)

    def _value(self, schema: dict[str, Any], base: str, depth: int) -> Any:
        if depth == 0 or self._is_odd():
            return self._odd()
        if "$ref" in schema:
            resolved, found_in = openapi.resolve(schema["$ref"], base)
            return self._value(resolved, found_in, depth)
        if "allOf" in schema:
            parts = [self._value(part, base, depth) for part in schema["allOf"]]
            objects = [part for part in parts if isinstance(part, dict)]
            merged = {key: value for part in objects for key, value in part.items()}
            return merged if objects else parts[0]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self._random.choice(kind)
        return self._of_kind(kind, schema, base, depth)

    def _of_kind(self, kind: str, schema: dict[str, Any], base: str, depth: int) -> Any:
        match kind:
            case "object":
                return {
                    name: self._property(name, part, base, depth)
                    for name, part in schema.get("properties", {}).items()
                    if name in schema.get("required", ()) or self._random.random() < 0.5
                }
            case "array":
                return [
                    self._value(schema.get("items", {}), base, depth - 1)
                    for _ in range(self._random.randrange(3))
                ]
            case "integer":
                return self._random.choice([0, 1, 50, 100, 2**53 - 1])
            case "number":
                return self._random.choice([0, 0.5, 1])
            case "boolean":
                return self._random.random() < 0.5
            case _:
                return self._string(schema)

    def _property(
        self, name: str, schema: dict[str, Any], base: str, depth: int
    ) -> Any:
        good = self._known.get(name)
        if good and schema.get("type") == "string" and not self._is_odd():
            return self._random.choice(good)
        return self._value(schema, base, depth - 1)

    def _string(self, schema: dict[str, Any]) -> str:
        example = schema.get("example")
        if isinstance(example, str) and not self._is_odd():
            return example
        pool = [text for texts in self._known.values() for text in texts]
        return self._random.choice([*pool, "x", "\0"])
