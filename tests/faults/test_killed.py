"""One server on its private PostgreSQL: each of them, or both, killed without warning.

HEARTH_KILL_ROUNDS says how often.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet
from tests.faults.load import load

ROUNDS = int(os.environ.get("HEARTH_KILL_ROUNDS", "3"))

pytestmark = pytest.mark.timeout(60 + 20 * ROUNDS)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Fleet(tmp_path, 1, "") as made:
        yield made


async def kill_the_server(fleet: Fleet) -> None:
    await fleet[0].kill()
    await fleet[0].start()


async def kill_both(fleet: Fleet) -> None:
    await fleet[0].kill_with_database()
    await fleet[0].start()


async def kill_the_database(fleet: Fleet) -> None:
    """The server lives on, starts PostgreSQL again and goes on where it was."""
    pid = fleet[0].child.pid
    await fleet[0].kill_database()
    await fleet[0].answers()
    assert fleet[0].child.pid == pid


KILLS = (kill_the_server, kill_both, kill_the_database)


async def test_no_acknowledged_event_is_lost_or_doubled(fleet: Fleet) -> None:
    async with load(fleet, pause_s=0.005) as people:
        for number in range(ROUNDS):
            await asyncio.sleep(random.uniform(0.1, 0.4))
            await KILLS[number % len(KILLS)](fleet)
            await people.goes_on(1)
    fleet.assert_said("PostgreSQL runs again", "the database answers again")
