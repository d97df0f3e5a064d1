"""Query strings are read as the standard library reads them."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import MatrixError
from homeserver.http.limits import Limits
from homeserver.http.requests import MAX_QUERY_FIELDS, Request

PIECES = st.sampled_from(
    (
        *("a", "filter", "=", "&", "+", "%", "%20", "%2B", "%26", "%C3%A9", "%c3", ";"),
        "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A10%7D%7D%7D",
    )
)


def read(text: str) -> list[tuple[str, str]]:
    raw: Any = SimpleNamespace(rel_url=SimpleNamespace(raw_query_string=text))
    return Request(raw, (), (), "127.0.0.1", Limits(lambda: 0.0)).query_pairs()


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_query_means_what_the_standard_library_says(text: str) -> None:
    try:
        expected = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(MatrixError):
            read(text)
        return
    # Twice: long values are remembered. Ours stand together by name.
    for _ in range(2):
        found = read(text)
        assert sorted(found) == sorted(expected)
        for name in dict(expected):
            ours, theirs = (
                [value for n, value in pairs if n == name]
                for pairs in (found, expected)
            )
            assert ours == theirs


def test_too_many_fields_are_refused() -> None:
    assert len(read("&".join(["a=1"] * MAX_QUERY_FIELDS))) == MAX_QUERY_FIELDS
    with pytest.raises(MatrixError):
        read("&".join(["a=1"] * (MAX_QUERY_FIELDS + 1)))
