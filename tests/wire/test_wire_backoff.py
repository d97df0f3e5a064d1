"""Leaving servers alone: how long, and what ends it."""

import asyncio

import pytest
from aiohttp import web
from wire_support import NOWHERE, Clock, Wire, answering, ask

from federation.ids import ServerName
from federation.wire.backoff import MAX_SERVERS, Backoff, BackoffState
from federation.wire.client import Limits
from federation.wire.errors import BadResponse, NotReachable, RemoteError

A = ServerName("a.test")
B = ServerName("b.test")


def fail(backoff: Backoff, clock: Clock, server: ServerName = A) -> float:
    """A failure as soon as one may happen again; how long to wait after it."""
    retry_at = backoff.retry_at(server)
    if retry_at is not None:
        clock.now = retry_at
    clock.now += 0.001
    backoff.failed(server, clock.now)
    after = backoff.retry_at(server)
    assert after is not None
    return after - clock.now


def test_waits_double_up_to_under_an_hour() -> None:
    clock = Clock()
    backoff = Backoff(clock, chance=lambda: 0.5)
    waits = [round(fail(backoff, clock)) for _ in range(2000)]
    assert waits[:6] == [2, 4, 8, 16, 32, 64]
    assert waits[10:13] == [2048, 2700, 2700]
    assert waits[-1] == 2700


@pytest.mark.parametrize(("chance", "first", "last"), [(0, 1.6, 2160), (1, 2.4, 3240)])
def test_chance_spreads_them_and_keeps_them_under_an_hour(chance, first, last) -> None:
    clock = Clock()
    backoff = Backoff(clock, chance=lambda: chance)
    waits = [fail(backoff, clock) for _ in range(20)]
    assert waits[0] == pytest.approx(first)
    assert waits[-1] == pytest.approx(last)
    assert waits[-1] < 3600


def test_a_sign_of_life_ends_it() -> None:
    clock = Clock()
    backoff = Backoff(clock, chance=lambda: 0.5)
    for _ in range(5):
        fail(backoff, clock)
    backoff.sign_of_life(A)
    assert backoff.retry_at(A) is None
    assert backoff.export() == ()
    assert fail(backoff, clock) == pytest.approx(2)


def test_servers_are_apart() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    fail(backoff, clock, A)
    assert backoff.retry_at(B) is None
    backoff.sign_of_life(B)
    assert backoff.retry_at(A) is not None


def test_requests_that_fail_together_count_once() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    started = clock.now
    clock.now += 10
    for _ in range(20):
        backoff.failed(A, started)
    (state,) = backoff.export()
    assert state.failures == 1
    clock.now += 10
    backoff.failed(A, clock.now)
    (state,) = backoff.export()
    assert state.failures == 2


def test_what_changes_is_told() -> None:
    told = []
    clock = Clock()
    backoff = Backoff(clock, on_change=lambda *change: told.append(change))
    backoff.sign_of_life(A)
    fail(backoff, clock)
    fail(backoff, clock)
    backoff.sign_of_life(A)
    backoff.sign_of_life(A)
    assert [state and state.failures for _, state in told] == [1, 2, None]
    assert {server for server, _ in told} == {A}


def test_the_state_outlives_the_process() -> None:
    clock = Clock()
    backoff = Backoff(clock, chance=lambda: 0.5)
    began = clock.now
    for _ in range(5):
        fail(backoff, clock)
    told = []
    again = Backoff(
        clock, chance=lambda: 0.5, on_change=lambda *change: told.append(change)
    )
    again.load(backoff.export())
    assert told == []
    assert again.retry_at(A) == backoff.retry_at(A)
    (state,) = again.export()
    assert state.failing_since == pytest.approx(began, abs=0.1)
    assert fail(again, clock) == pytest.approx(64)


def test_it_remembers_a_bounded_number_of_servers() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    backoff.load(
        BackoffState(ServerName(f"s{n}.test"), 1, 0, 0, clock.now + 60)
        for n in range(MAX_SERVERS + 5)
    )
    assert len(backoff.export()) == MAX_SERVERS
    assert backoff.retry_at(ServerName("s0.test")) is None
    assert backoff.retry_at(ServerName(f"s{MAX_SERVERS}.test")) is not None


class TestRequests:
    async def test_a_server_that_is_down_is_left_alone(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = [NOWHERE]
        client = wire.client()
        server = f"a.test:{remote.port}"
        with pytest.raises(NotReachable) as first:
            await ask(client, server)
        assert first.value.retry_at is None
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        wire.clock.now += 1.9
        with pytest.raises(NotReachable) as second:
            await ask(client, server)
        assert second.value.retry_at == pytest.approx(wire.clock.now + 0.1)
        assert remote.handshakes == []
        wire.clock.now += 0.2
        await ask(client, server)
        assert client.backoff.export() == ()

    async def test_who_insists_gets_through_and_ends_it(self, wire: Wire) -> None:
        remote = await wire.remote("a.test")
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        client = wire.client()
        server = ServerName(f"a.test:{remote.port}")
        client.backoff.failed(server, wire.clock.now)
        limits = Limits().insist()
        await client.request(server, "GET", "/x", limits=limits)
        await ask(client, server)
        assert len(remote.seen) == 2

    async def test_many_at_once_to_a_dead_server_count_once(self, wire: Wire) -> None:
        wire.resolver.hosts["a.test"] = [NOWHERE]
        client = wire.client()
        results = await asyncio.gather(
            *(ask(client, "a.test:1") for _ in range(40)), return_exceptions=True
        )
        assert all(isinstance(each, NotReachable) for each in results)
        (state,) = client.backoff.export()
        assert state.failures == 1

    async def test_who_waited_behind_a_failure_fails_at_once(self, wire: Wire) -> None:
        wire.resolver.hosts["a.test"] = [NOWHERE]
        client = wire.client(max_requests_per_server=1)
        results = await asyncio.gather(
            *(ask(client, "a.test:1") for _ in range(5)), return_exceptions=True
        )
        assert [each.retry_at is not None for each in results] == [False] + [True] * 4
        assert wire.resolver.asked == ["a.test"]

    @pytest.mark.parametrize(
        ("handler", "error", "lives"),
        [
            (answering({"errcode": "M_FORBIDDEN"}, 403), RemoteError, True),
            (answering({"errcode": "M_UNKNOWN"}, 500), RemoteError, True),
            (answering({"errcode": "M_LIMIT_EXCEEDED"}, 429), RemoteError, True),
            (answering(b"slow down", 429), RemoteError, True),
            (answering(b"too large", 413), RemoteError, True),
            (answering({"big": "x" * 2000}), BadResponse, True),
            (answering(b"<html>", 404), RemoteError, False),
            (answering(b"<html>", 502), RemoteError, False),
            (answering({}, 302, {"Location": "/elsewhere"}), RemoteError, False),
            (answering(b"<html>", 200), BadResponse, False),
            (
                answering({}, 200, {"Content-Type": "text/html"}),
                BadResponse,
                False,
            ),
        ],
    )
    async def test_what_counts_as_an_answer_of_a_homeserver(
        self, wire: Wire, handler, error, lives
    ) -> None:
        remote = await wire.remote("a.test", handler=handler)
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        client = wire.client()
        server = ServerName(f"a.test:{remote.port}")
        client.backoff.load([BackoffState(server, 7, 0, 0, 0)])
        with pytest.raises(error):
            await client.request(server, "GET", "/x", limits=Limits(max_bytes=1000))
        failures = [state.failures for state in client.backoff.export()]
        assert failures == ([] if lives else [8])

    async def test_a_time_out_counts_and_cancelling_does_not(self, wire: Wire) -> None:
        async def never(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(60)
            raise AssertionError

        remote = await wire.remote("a.test", handler=never)
        wire.resolver.hosts["a.test"] = ["127.0.0.1"]
        client = wire.client()
        server = ServerName(f"a.test:{remote.port}")
        task = asyncio.create_task(ask(client, server))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.backoff.export() == ()
        with pytest.raises(NotReachable, match="time-out"):
            await client.request(server, "GET", "/x", limits=Limits(seconds=0.2))
        assert len(client.backoff.export()) == 1


def test_a_clock_that_is_set_back_makes_nobody_wait_longer() -> None:
    clock = Clock()
    backoff = Backoff(clock, chance=lambda: 0.5)
    backoff.failed(A, clock.now)
    assert backoff.retry_at(A) is not None
    clock.now -= 3600
    assert backoff.retry_at(A) is None
    backoff.failed(A, clock.now)  # which counts, although it was before the first
    retry_at = backoff.retry_at(A)
    assert retry_at is not None
    assert retry_at - clock.now <= 10
