"""What HTTP headers say about time, and caches with a bound."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.wire.caching import BoundedCache, Once, freshness, retry_after

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
LATER = "Fri, 15 Jan 2027 08:00:30 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Cache-Control": "public"}, None),
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": 'MAX-AGE = "60"'}, 60),
        ({"Cache-Control": "private,max-age=60 , must-revalidate"}, 60),
        ({"Cache-Control": "max-age=60", "Age": "50"}, 10),
        ({"Cache-Control": "max-age=60", "Age": "70"}, 0),
        ({"Cache-Control": "max-age=60", "Age": "old"}, 60),
        ({"Cache-Control": "max-age=60", "Expires": DATE}, 60),
        ({"Cache-Control": "no-store, max-age=60"}, 0),
        ({"Cache-Control": 'no-cache="x"'}, 0),
        ({"Cache-Control": "x-max-age=60"}, None),
        ({"Cache-Control": "max-age=-60"}, None),
        ({"Expires": LATER}, 30),
        ({"Expires": LATER, "Date": DATE}, 30),
        ({"Expires": LATER, "Date": LATER}, 0),
        ({"Expires": DATE, "Date": LATER}, 0),
        ({"Expires": LATER, "Date": "never"}, 30),
        ({"Expires": "0"}, 0),
        ({"Expires": ""}, 0),
    ],
)
def test_how_long_a_response_is_fresh(headers, expected) -> None:
    assert freshness(headers, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5", 5), (" 5 ", 5), (LATER, 30), ("", None), ("-5", None), ("²", None)],
)
def test_how_long_to_wait(value, expected) -> None:
    assert retry_after({"Retry-After": value}, NOW) == expected
    assert retry_after({}, NOW) is None


DATES = st.text("MonTueJanFeb 0123456789:,+-GMTZ/.'()", max_size=40)


@settings(max_examples=500)
@given(st.text(max_size=40) | DATES)
def test_any_header_can_be_read(value) -> None:
    for name in ("Cache-Control", "Expires", "Age", "Date"):
        headers = {"Cache-Control": "max-age=5", "Expires": LATER, name: value}
        found = freshness(headers, NOW)
        assert found is None or found >= 0
        assert (freshness({"Expires": LATER, "Date": value}, NOW) or 0) >= 0
    wait = retry_after({"Retry-After": value}, NOW)
    assert wait is None or wait >= 0


def test_a_full_cache_forgets_what_was_used_longest_ago() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c"), len(cache)) == (1, 3, 2)
    cache.drop("a")
    cache.drop("a")
    assert cache.get("a") is None


class TestOnce:
    async def test_work_is_done_once_for_all_who_wait(self) -> None:
        done = 0

        async def work() -> int:
            nonlocal done
            await asyncio.sleep(0.01)
            done += 1
            return done

        once: Once[str, int] = Once()
        assert await asyncio.gather(*(once.do("a", work) for _ in range(9))) == [1] * 9
        assert await once.do("a", work) == 2

    async def test_who_stops_waiting_does_not_stop_the_work(self) -> None:
        release = asyncio.Event()

        async def work() -> str:
            await release.wait()
            return "done"

        once: Once[str, str] = Once()
        impatient = asyncio.create_task(once.do("a", work))
        patient = asyncio.create_task(once.do("a", work))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        release.set()
        assert await patient == "done"
        assert impatient.cancelled()

    async def test_work_can_be_given_up(self) -> None:
        once: Once[str, None] = Once()
        waiting = asyncio.create_task(once.do("a", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        once.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
