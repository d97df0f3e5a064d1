"""Several identical processes behind one port: kept, replaced one by one, and ended."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from homeserver.http.siblings import merge
from tests.processes.family import Family
from tests.support.api import eventually, path
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client

pytestmark = pytest.mark.timeout(150)
SENDERS = 4


@pytest.fixture
async def server(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> AsyncIterator[Family]:
    authority, database_url = CertificateAuthority.create(), await new_dsn()
    async with Family(tmp_path / "h", authority, database=database_url) as family:
        await family.until_it_says("processes serve")
        yield family


async def test_processes_are_replaced_under_load_and_no_request_is_dropped(
    server: Family,
) -> None:
    alice = await server.registers("alice")
    room = await alice.creates_room(preset="public_chat")
    done = asyncio.Event()
    load = [
        asyncio.create_task(work(alice, room, server, done)) for _ in range(SENDERS)
    ]
    poll = asyncio.create_task(polls(alice, server, done))
    before = {member.pid for member in server.members()}
    assert len(before) == 2
    assert await server.counts("hearth_process_up") == {"1": 1, "2": 1}

    server.signals(signal.SIGUSR1)
    await server.until_it_says("all processes are new")
    done.set()
    asked = sum(await asyncio.gather(*load))
    await alice.put(path("user", alice.user_id, "account_data", "test.end"), {})
    await asyncio.wait_for(poll, 20)
    after = {member.pid for member in server.members()}
    assert len(after) == 2
    assert before.isdisjoint(after)
    assert asked > 20 * SENDERS
    # Whoever was asked, it counts in what is told: the counters of both are there.
    assert set(await server.counts("hearth_commit_batch_size_count")) == {"1", "2"}
    # One that was killed comes back; the other one answers meanwhile.
    victim = server.members()[0]
    victim.kill()
    assert (await alice.get(path("account", "whoami")))["user_id"] == alice.user_id

    async def both_are_up() -> bool:
        return await server.counts("hearth_process_up") == {"1": 1, "2": 1}

    await server.until_it_says("a process serves again", 3)
    await eventually(both_are_up, "both processes are up")
    members = server.members()
    assert victim.pid not in {member.pid for member in members}
    assert psutil.Process(server.child.pid).memory_info().rss < 50 * 2**20
    await server.stop()
    assert not [m for m in members if m.is_running()]
    lines = [line for line in server.says().splitlines() if line.startswith("20")]
    assert {re.findall(r"\[(\d)\]", line)[0] for line in lines} == {"0", "1", "2"}


async def work(alice: Client, room: str, server: Family, done: asyncio.Event) -> int:
    """Ask for one thing after the other on one connection; how many were answered.

    With POST, which no client repeats by itself. Raises: what went wrong.
    """
    url = f"{server.base_url}/_matrix/client/v3/rooms/{room}/receipt/m.read/"
    event = await alice.sends(room, "read this")
    asked = 0
    async with aiohttp.ClientSession(headers=_headers(alice)) as http:
        while not done.is_set():
            async with http.post(f"{url}{event}", json={}) as reply:
                assert reply.status == 200, await reply.text()
            asked += 1
            await asyncio.sleep(0.02)
    return asked


async def polls(alice: Client, server: Family, done: asyncio.Event) -> None:
    """Wait for news, again and again; a process that ends answers at once."""
    url = f"{server.base_url}/_matrix/client/v3/sync"
    query = {"timeout": "30000", "filter": '{"room":{"rooms":[]}}'}
    async with aiohttp.ClientSession(headers=_headers(alice)) as http:
        while not done.is_set():
            async with http.get(url, params=query) as reply:
                assert reply.status == 200, await reply.text()
                query["since"] = (await reply.json())["next_batch"]


def _headers(alice: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {alice.access_token}"}


async def test_what_cannot_be_started_ends_the_parent(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> None:
    database_url = await new_dsn()
    family = Family(
        tmp_path / "h", CertificateAuthority.create(), database=database_url
    )
    family.write_configuration()
    (family.directory / "data").mkdir()
    (family.directory / "data" / "signing.key").write_text("no key\n")
    family.child.start()
    async with asyncio.timeout(60):
        while family.child.is_running:
            await asyncio.sleep(0.05)
    said = family.says()
    assert "is no signing key" in said
    assert "process 1 of 2 did not start" in said


def test_what_processes_count_is_told_together() -> None:
    one = "# HELP a_total Says.\n# TYPE a_total counter\na_total 1.0\n"
    two = '# HELP a_total Says.\n# TYPE a_total counter\na_total{x="y}"} 2.0\n'
    assert merge({"1": one, "2": two, "3": ""}).splitlines() == [
        "# HELP a_total Says.",
        "# TYPE a_total counter",
        'a_total{process="1"} 1.0',
        'a_total{process="2",x="y}"} 2.0',
        "# HELP hearth_process_up Whether the process says what it counts.",
        "# TYPE hearth_process_up gauge",
        'hearth_process_up{process="1"} 1',
        'hearth_process_up{process="2"} 1',
        'hearth_process_up{process="3"} 0',
    ]
