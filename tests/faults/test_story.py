"""Processes, their database and the wire between them break, one after the other.

Short: each fault once. With HEARTH_SOAK=MINUTES: in random order for so long, with more
processes and people.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import place
from tests.faults.fleet import Fleet
from tests.faults.load import Load, load
from tests.faults.peers import Held, get, held, slow_body, slow_head, waiting_poll
from tests.faults.postgres import Postgres
from tests.faults.proxy import Wire
from tests.support.api import eventually, path

MINUTES = float(os.environ.get("HEARTH_SOAK", "0"))
PROCESSES = 3 if MINUTES else 2
WAITING = 5000 if MINUTES else 200
SLOW = 1200 if MINUTES else 100

pytestmark = pytest.mark.timeout((900 if MINUTES else 200) + 90 * MINUTES)


@dataclass
class Site:
    """All that can break."""

    postgres: Postgres
    wire: Wire
    fleet: Fleet
    load: Load
    clock: Path
    told: list[str] = field(default_factory=list)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="hearth-faults-", dir=place()) as made:
        directory = Path(made)
        async with (
            await Postgres.made(directory / "postgres", clock(directory)) as postgres,
            Wire(postgres.port) as wire,
            Fleet(directory, PROCESSES, postgres.dsn_of("hearth", wire.port)) as fleet,
            load(
                fleet,
                talkers=8 if MINUTES else 4,
                followers=3 if MINUTES else 2,
                rooms=2 if MINUTES else 1,
                pause_s=0.2 if MINUTES else 0.02,
                most_resident=(450 if MINUTES else 200) * 1024 * 1024,
            ) as people,
        ):
            yield Site(postgres, wire, fleet, people, directory / "clock")


def clock(directory: Path) -> dict[str, str]:
    """What makes programs believe in another time, written to a file: libfaketime."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None or not MINUTES:
        return {}
    (directory / "clock").write_text("+0")
    (directory / "clock").chmod(0o644)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }


async def each_process_is_killed(site: Site) -> None:
    for one in site.fleet:
        await one.kill()
        await site.load.goes_on(1)  # with those that are left
        await one.start()


async def the_database_restarts_fast(site: Site) -> None:
    await site.postgres.restart(signal.SIGINT)


async def the_database_restarts_at_once(site: Site) -> None:
    await site.postgres.restart(signal.SIGQUIT)


async def the_database_is_killed(site: Site) -> None:
    await site.postgres.kill()
    await asyncio.sleep(0.5)  # while nothing is there to talk to
    await site.postgres.restart()


async def connections_are_cut(site: Site) -> None:
    """A tenth of them, again and again."""
    for _ in range(10):
        site.wire.cut(0.1)
        await asyncio.sleep(0.05)


async def the_disk_is_slow(site: Site) -> None:
    """Every answer of the database takes a while."""
    site.wire.delay_s = 0.1 if MINUTES else 0.05
    await site.load.goes_on(1)
    site.wire.delay_s = 0


async def peers_hold_connections(site: Site) -> None:
    """Thousands wait; others send their requests byte by byte, or read no answers."""
    one = site.fleet[0]
    idler = await site.fleet.registers(f"idler{time.monotonic_ns()}")
    before = site.fleet.resident()[0]
    big = get(idler, path("rooms", site.load.rooms[0], "messages"), "dir=b&limit=1000")
    await idler.joins(site.load.rooms[0])
    await idler.leaves(site.load.rooms[0])
    async with held(one, WAITING, await waiting_poll(idler)) as waiting:
        await site.load.goes_on(1)
        each = (site.fleet.resident()[0] - before) / WAITING
        site.told.append(f"a long poll: {each / 1024:.1f} KiB")
        async with (
            held(one, SLOW, slow_head()) as heads,
            held(one, SLOW, slow_body()) as bodies,
            held(one, SLOW // 4, big * 20),
        ):
            await site.load.goes_on(2)
            await one.answers()
            assert waiting.closed() == 0, "those who wait were cut"
            if MINUTES:
                await eventually(
                    lambda: all_closed(heads, bodies), "they are cut", seconds=200
                )


async def all_closed(*connections: Held) -> bool:
    return all(each.closed() == len(each.readers) for each in connections)


async def clocks_jump(site: Site) -> None:
    """All of them, the database's too: an hour ahead, two back, and one on."""
    if site.clock.exists():
        for offset in ("+3600", "-3600", "+0"):
            site.clock.write_text(offset)
            await asyncio.sleep(2)
            await site.load.goes_on()


async def the_wire_is_dead(site: Site) -> None:
    """Nothing arrives and nobody says so, for a while."""
    site.wire.stall()
    await asyncio.sleep(15)
    site.wire.flow()


FAULTS: tuple[Callable[[Site], Awaitable[None]], ...] = (
    connections_are_cut,
    each_process_is_killed,
    the_database_restarts_fast,
    the_disk_is_slow,
    the_database_restarts_at_once,
    the_database_is_killed,
    peers_hold_connections,
    *((the_wire_is_dead, clocks_jump) if MINUTES else ()),
)


async def test_nothing_is_lost_and_all_recover_by_themselves(site: Site) -> None:
    end = time.monotonic() + 60 * MINUTES
    faults, told = list(FAULTS), site.told
    while faults:
        fault = faults.pop(0)
        began = time.monotonic()
        await fault(site)
        lasted = time.monotonic() - began
        took = await site.load.goes_on()
        told.append(
            f"{fault.__name__}: {lasted:.1f} s, and {took:.1f} s until all went on"
        )
        if not faults and time.monotonic() < end:
            faults = random.sample(FAULTS, len(FAULTS))
    told.append(f"MiB: {[n >> 20 for n in site.fleet.resident()]}")
    sys.stdout.write("\n".join(["", *told, ""]))
    site.fleet.assert_said("the database fails", "the database answers again")
