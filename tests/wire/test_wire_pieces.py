"""Long answers are parsed in pieces, to the same values."""

import json

import pytest

from federation import canonical_json
from federation.errors import Malformed
from federation.wire import pieces


def _state(count: int) -> list:
    return [
        {
            "content": {"n": n, "text": 'a "quoted", [tricky] {text} \\ ü ' * 3},
            "large": 2**70 + n,
            "float": n / 7,
            "nested": [[], {}, [n, [None, True]]],
        }
        for n in range(count)
    ]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"state": _state(5000), "auth_chain": _state(3), "omitted": True, "x": None},
        {"text": "long " * 100_000, "object": {"inner": _state(2000)}, "list": []},
        {"one": ["long " * 100_000, "long " * 50_000], "short": [1, 2]},
        [200, {"state": _state(2000)}],
        "no object " * 50_000,
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
async def test_the_values_are_the_same(value, indent) -> None:
    body = json.dumps(value, indent=indent).encode()
    assert await pieces.parse(body) == canonical_json.parse(body) == value


async def test_no_piece_is_long(monkeypatch) -> None:
    lengths = []
    parse = canonical_json.parse

    def noted(body: bytes) -> object:
        lengths.append(len(body))
        return parse(body)

    monkeypatch.setattr(canonical_json, "parse", noted)
    body = json.dumps({"state": _state(20_000), "auth_chain": _state(20_000)}).encode()
    await pieces.parse(body)
    assert len(body) > 10_000_000
    assert max(lengths) < 200_000


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"state": _state(2000)}).encode()[:-1],
        json.dumps({"state": _state(2000)}).encode() + b"x",
        json.dumps({"state": _state(2000)}).encode().replace(b'"n": 700', b'"n": 7x0'),
        json.dumps({"state": _state(2000)}).encode().replace(b"700", b"NaN"),
        b'{"state":' + b"[" * 300_000 + b"]" * 300_000 + b"}",
        b'{"state":"' + b"\xff" * 100_000 + b'"}',
        b'{"state":["' + b"\xff" * 100_000 + b'"]}',
        b"\x00" * 100_000,
    ],
)
async def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        await pieces.parse(body)
