"""No input to the HTTP layer is answered with 500."""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.fake_http import V3, fake_server

Answer = TypeVar("Answer")


class Fuzzed:
    """A server in a loop of its own, as hypothesis has no asynchronous tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = fake_server()
        self._running = self._run(self._server.__aenter__())

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def answer(self, sent: bytes) -> bytes:
        return self._run(self._running.raw(sent))

    def stop(self) -> None:
        self._run(self._server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    running = Fuzzed()
    yield running
    running.stop()


@settings(
    max_examples=150,
    deadline=None,
)
@given(
    st.sampled_from(
        ["/form", "/object", "/content/x", "/query", "/rooms/{}/event/{}", "/{}"]
    ),
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
    st.text(alphabet="ab:!$@%/?&=.#\0é\\", max_size=12),
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "size", "flag", "more", "x"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=10,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
@example("/query", "GET", "?must=%", b"")
@example("/query", "GET", "?must=&via=%ff", b"")
def test_no_input_is_our_fault(
    fuzzed: Fuzzed, path: str, method: str, filling: str, body: bytes
) -> None:
    target = V3 + path.replace("{}", filling) + ("" if "{}" in path else filling)
    target = target.replace(" ", "%20")
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Authorization: Bearer good\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = fuzzed.answer(head.encode() + body)
    status = int(answer.split(b" ", 2)[1])
    assert status < 500, answer
    if status >= 400:
        assert b'"errcode"' in answer
