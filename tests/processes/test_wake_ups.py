"""Wake-ups between processes: the same by PostgreSQL and by NATS."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from homeserver.db.pool import Database
from homeserver.wake_ups.base import WakeUps
from homeserver.wake_ups.choice import wake_ups_of
from tests.support.api import Json, eventually, path
from tests.support.app import Running, User, configuration, running
from tests.support.homeserver import free_port

NATS = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
needs_nats = pytest.mark.skipif(NATS is None, reason="no nats-server here")
KINDS = ("postgresql", pytest.param("nats", marks=needs_nats))


class Nats:
    """A NATS server with a user and a password."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._log = directory / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        url = f"nats://127.0.0.1:{self.port}"
        return {
            "by": "nats",
            "nats_urls": [url],
            "nats_user": "hearth",
            "nats_password": "of nats",
        }

    def start(self) -> None:
        assert NATS is not None
        address = ["-a", "127.0.0.1", "-p", str(self.port), "-l", str(self._log)]
        login = ["--user", "hearth", "--pass", "of nats"]
        self._process = subprocess.Popen([NATS, *address, *login])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def nats(tmp_path: Path) -> Any:
    server = Nats(tmp_path)
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
async def settings(request: pytest.FixtureRequest, nats: Nats) -> dict[str, Any]:
    """[wake_ups], and what it names runs."""
    if request.param == "postgresql":
        return {}
    nats.start()
    return nats.settings


@pytest.fixture
async def birds(
    settings: dict[str, Any],
    tmp_path: Path,
    new_dsn: Callable[[], Awaitable[str]],
) -> AsyncIterator[list[WakeUps]]:
    """The wake-ups of two processes."""
    config = configuration(tmp_path, wake_ups=settings)
    async with AsyncExitStack() as stack:
        made = []
        dsn = await new_dsn()
        for _ in range(2):
            database = await Database.connect(dsn, size=2)
            stack.push_async_callback(database.close)
            made.append(wake_ups_of(config, database))
            stack.push_async_callback(made[-1].close)
        yield made


async def test_who_listens_hears_what_is_told_and_nothing_of_other_subjects(
    birds: list[WakeUps],
) -> None:
    one, two = birds
    heard: list[str | None] = []
    others: list[str | None] = []
    await two.listen("songs", heard.append)
    await two.listen("nests", others.append)
    await one.listen("nests", lambda _: None)
    assert heard[0] is None  # what was told before may have been missed

    async def arrives() -> bool:
        await one.tell("songs", "wren 'ö'")
        return "wren 'ö'" in heard

    await eventually(arrives, "the other one hears")
    assert set(others) == {None}
    with pytest.raises(ValueError, match="at most 7999 bytes"):
        await one.tell("songs", "ö" * 4000)


async def woken(one: Running, two: Running) -> None:
    """What happens at one process is news at the other, sooner than that one looks."""
    alice = await one.registers()
    there = User(lambda: two.session, two.base_url, access_token=alice.access_token)
    since = (await there.get(path("sync")))["next_batch"]
    took = []
    loop = asyncio.get_running_loop()
    while len(took) < 5:
        content = {"n": len(took)}
        waits = asyncio.create_task(there.get(path("sync"), since=since, timeout=30000))
        await eventually(
            lambda waits=waits: _waits(two, alice.user_id, waits),
            "it waits",
            pause=0.01,
        )
        if not waits.done():
            began = loop.time()
            where = path("user", alice.user_id, "account_data", "test.news")
            await alice.put(where, content)
            while "account_data" not in (reply := await waits):  # other news
                query = {"since": reply["next_batch"], "timeout": 30000}
                waits = asyncio.create_task(there.get(path("sync"), **query))
            took.append(loop.time() - began)
            assert reply["account_data"]["events"][0]["content"] == content
        since = (await waits)["next_batch"]
    # The slow look comes every two seconds, and some of the five may just have met it.
    assert sorted(took)[2] < 0.7


async def _waits(two: Running, user_id: str, sync: "asyncio.Task[Json]") -> bool:
    return sync.done() or bool(two.ctx.live.view.waiting.of(user_id))


async def test_a_sync_is_woken_by_another_process(
    settings: dict[str, Any],
    tmp_path: Path,
    new_dsn: Callable[[], Awaitable[str]],
) -> None:
    config, dsn = configuration(tmp_path, wake_ups=settings), await new_dsn()
    async with running(config, dsn) as one, running(config, dsn) as two:
        await woken(one, two)


@needs_nats
async def test_without_nats_news_come_later_and_with_it_soon_again(
    nats: Nats, tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> None:
    config, dsn = configuration(tmp_path, wake_ups=nats.settings), await new_dsn()
    async with running(config, dsn) as one, running(config, dsn) as two:
        alice = await one.registers()
        there = User(lambda: two.session, two.base_url, access_token=alice.access_token)
        since = (await there.get(path("sync")))["next_batch"]
        await alice.put(path("user", alice.user_id, "account_data", "test.a"), {})
        reply = await there.get(path("sync"), since=since, timeout=30_000)
        assert reply["account_data"]["events"][0]["type"] == "test.a"
        nats.start()
        for process in (one, two):
            await eventually(lambda p=process: _tells(p), "nats is connected")
        await woken(one, two)


async def _tells(process: Running) -> bool:
    return bool(await process.ctx.live.wake_ups.tell("nothing", ""))
