"""Token buckets, and the bound on how many are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import MatrixError
from homeserver.http.limits import Limit, Limits, address_key

SLOW = Limit("slow", per_second=1, burst=3)


class Now:
    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


def passes(limits: Limits, key: str = "a", cost: float = 1) -> bool:
    try:
        limits.spend(SLOW, key, cost)
    except MatrixError as error:
        return error.errcode != "M_LIMIT_EXCEEDED"
    return True


def test_a_bucket_holds_its_burst_and_fills_again() -> None:
    now = Now()
    limits = Limits(now)
    assert [passes(limits) for _ in range(4)] == [True, True, True, False]
    now.seconds += 0.9
    assert not passes(limits)
    now.seconds += 0.11
    assert [passes(limits) for _ in range(2)] == [True, False]
    now.seconds += 1000
    assert [passes(limits) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=40))
def test_no_more_pass_than_the_rate_allows(pauses: list[float]) -> None:
    now = Now()
    limits = Limits(now)
    passed: list[float] = []
    for pause in pauses:
        now.seconds += pause
        if passes(limits):
            passed.append(now.seconds)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            elapsed = passed[last] - start
            assert last - first + 1 <= SLOW.burst + elapsed + 1e-6


def test_who_is_told_to_wait_passes_after_that_wait() -> None:
    now = Now()
    limits = Limits(now)
    while passes(limits):
        pass
    with pytest.raises(MatrixError) as refused:
        limits.spend(SLOW, "a")
    wait = refused.value.extra["retry_after_ms"]
    assert isinstance(wait, int)
    now.seconds += wait / 1000
    assert passes(limits)


def test_keys_and_limits_do_not_share_buckets() -> None:
    limits = Limits(Now())
    while passes(limits):
        pass
    assert passes(limits, "b")
    limits.spend(Limit("other", per_second=1, burst=1), "a")


def test_a_look_takes_nothing() -> None:
    limits = Limits(Now())
    for _ in range(10):
        limits.check(SLOW, "a")
    while passes(limits):
        limits.check(SLOW, "b")
    with pytest.raises(MatrixError):
        limits.check(SLOW, "a")


def test_a_cost_above_the_burst_passes_when_the_bucket_is_full() -> None:
    now = Now()
    limits = Limits(now)
    assert passes(limits, cost=10)
    assert not passes(limits)
    now.seconds += 8.01
    assert passes(limits)


def test_limits_can_be_switched_off() -> None:
    limits = Limits(Now(), enabled=False)
    assert all(passes(limits) for _ in range(100))
    limits.check(SLOW, "a")


def test_the_table_keeps_its_bound_and_those_who_ask_now() -> None:
    limits = Limits(Now(), max_buckets=100)
    for number in range(1000):
        passes(limits, "busy")
        passes(limits, f"address {number}")
    assert len(limits._buckets["slow"]) <= 101
    assert not passes(limits, "busy")


def test_full_buckets_are_forgotten_first() -> None:
    now = Now()
    limits = Limits(now, max_buckets=100)
    while passes(limits, "busy"):
        pass
    now.seconds += 1.5  # one request has come back, the bucket is not full
    for number in range(99):
        limits._take(SLOW, f"past {number}", 0)
    passes(limits, "new")
    passes(limits, "newer")
    assert set(limits._buckets["slow"]) >= {"busy", "newer"}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_address_is_counted_with_its_subscriber(address: str, key: str) -> None:
    assert address_key(address) == key
