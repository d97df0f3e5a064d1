"""Reads that may be old go to a standby, and show no less than the reader has seen."""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import place
from tests.faults.fleet import Fleet
from tests.faults.postgres import Postgres
from tests.support.api import eventually, path
from tests.support.client import Client

pytestmark = pytest.mark.timeout(120)
_READS = re.compile(
    r'^hearth_replica_reads_total\{by="(\w+)"\} ([0-9.e+]+)', re.MULTILINE
)


@dataclass
class Site:
    """A server whose database has a standby that may be read."""

    fleet: Fleet
    primary: Postgres
    standby: Postgres

    async def reads(self) -> dict[str, float]:
        """How many reads each has answered so far."""
        one = self.fleet[0]
        async with one.http.get(f"{one.base_url}/metrics") as reply:
            found = dict(_READS.findall(await reply.text()))
        return {who: float(count) for who, count in found.items()}

    async def replay(self, *, goes_on: bool) -> None:
        """Hold the standby where it is, or let it go on."""
        connection = await asyncpg.connect(self.standby.dsn)
        what = "resume" if goes_on else "pause"
        await connection.execute(f"SELECT pg_wal_replay_{what}()")
        await connection.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="hearth-replica-", dir=place()) as made:
        directory = Path(made)
        async with (
            await Postgres.made(directory / "a") as primary,
            await primary.standby(directory / "b") as standby,
            Fleet(
                directory,
                1,
                primary.dsn,
                {"database_replica_urls": json.dumps([standby.dsn])},
            ) as fleet,
        ):
            yield Site(fleet, primary, standby)


async def check(site: Site) -> str:
    """What `hearth check` says."""
    one = site.fleet[0]
    process = await asyncio.create_subprocess_exec(
        *one.argv()[:-1], "check", "--offline",
        cwd=one.working_directory(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return " ".join(said.decode().split())


async def finds(who: Client, term: str) -> int:
    """How many messages a search finds."""
    asked = {"search_categories": {"room_events": {"search_term": term}}}
    reply = await who.post(path("search"), asked)
    return int(reply["search_categories"]["room_events"]["count"])


async def test_replicas_are_read_as_far_as_they_have_come(site: Site) -> None:
    alice = await site.fleet.registers("alice")
    room = await alice.creates_room(
        preset="public_chat", visibility="public", name="A room in the list"
    )
    for n in range(30):
        await alice.sends(room, f"haystack {n}")

    async def all_are_found() -> bool:
        return await finds(alice, "haystack") == 30

    await eventually(all_are_found, "search finds all")

    async def the_replica_answers() -> bool:
        before = await site.reads()
        assert len(await alice.history(room)) >= 30
        assert await finds(alice, "haystack") == 30
        listed = (await alice.get(path("publicRooms")))["chunk"]
        assert [each["name"] for each in listed] == ["A room in the list"]
        after = await site.reads()
        return after["replica"] >= before["replica"] + 3

    await eventually(the_replica_answers, "the replica answers reads")
    said = await check(site)
    assert f"replica 127.0.0.1:{site.standby.port}: has all" in said, said
    # It falls behind: nobody sees less than they have sent.
    await site.replay(goes_on=False)
    before = await site.reads()
    for n in range(5):
        await alice.sends(room, f"needle {n}")
        newest = (await alice.messages(room, limit=1))["chunk"][0]
        assert newest["content"]["body"] == f"needle {n}"
    after = await site.reads()
    assert after["primary"] > before["primary"]
    await site.replay(goes_on=True)
    await eventually(the_replica_answers, "it answers again when it has caught up")
    # It dies: the primary answers.
    await site.standby.kill()
    assert len(await alice.history(room)) >= 35
    assert await finds(alice, "haystack") == 30
    await site.standby.restart()
    await eventually(the_replica_answers, "it answers again when it is back")
    site.fleet.assert_said("a replica answers reads", "a replica is away")


@pytest.mark.skipif("HEARTH_SOAK" not in os.environ, reason="in `make soak`")
async def test_what_a_replica_takes_off_the_primary(site: Site) -> None:
    alice = await site.fleet.registers("alice")
    room = await alice.creates_room(preset="public_chat", visibility="public")
    for n in range(2000):
        await alice.sends(room, f"straw {n % 50} in a haystack")
    used = {}
    for share, there in (("without", False), ("with", True)):
        site.fleet[0].keys = {}
        if there:
            urls = json.dumps([site.standby.dsn])
            site.fleet[0].keys = {"database_replica_urls": urls}
        await site.fleet[0].stop()
        await site.fleet[0].start()
        before = site.primary.cpu_seconds(), site.standby.cpu_seconds()
        for _ in range(20):
            await alice.history(room)
            await finds(alice, "haystack")
            await alice.get(path("publicRooms"))
        after = site.primary.cpu_seconds(), site.standby.cpu_seconds()
        used[share] = [b - a for a, b in zip(before, after, strict=True)]
    told = {share: [round(n, 2) for n in each] for share, each in used.items()}
    sys.stdout.write(f"\nCPU seconds of [primary, standby]: {told}\n")
    assert used["with"][0] < used["without"][0] / 2
