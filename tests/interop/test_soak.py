"""Encryption under stress: nobody ever says "unable to decrypt".

Six people with up to fifteen devices on three servers talk while devices come and go,
and servers are restarted, killed and cut off. HEARTH_SOAK_MESSAGES says for how long
(`make soak`: 2000), HEARTH_SOAK_SEED plays one story again.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.interop.soak_stage import Crowd, SoakStage, new_seed, summary
from tests.interop.soak_story import (
    SERVERS,
    USERS,
    Fail,
    LogIn,
    LogOut,
    Rest,
    Send,
    Step,
    Story,
)
from tests.support.certificates import CertificateAuthority
from tests.support.doors import HearthBehindDoors

MESSAGES = int(os.environ.get("HEARTH_SOAK_MESSAGES", "100"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", "0")) or new_seed()
_AT_ONCE = 8

pytestmark = pytest.mark.timeout(300 + 2 * MESSAGES)


@pytest.fixture
async def stage(
    tmp_path: Path, authority: CertificateAuthority
) -> AsyncIterator[SoakStage]:
    if not os.environ.get("HEARTH_INTEROP"):
        pytest.skip("HEARTH_INTEROP is not set: `make soak` runs this")
    servers: list[HearthBehindDoors] = []
    async with AsyncExitStack() as stack:
        for n in range(SERVERS):
            server = await HearthBehindDoors.make(tmp_path / f"server{n}", authority)
            stack.push_async_callback(server.end)
            servers.append(server)
        await asyncio.gather(*(server.start() for server in servers))
        users = []
        for n in range(USERS):
            user = await servers[n % SERVERS].registers(f"user{n}")
            await user.logs_out()  # only devices with keys take part
            users.append(user.user_id)
        made = SoakStage(servers, users)
        stack.push_async_callback(made.quits)
        yield made
    keep_logs(servers)


def keep_logs(servers: list[HearthBehindDoors]) -> None:
    folder = Path(".work") / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    for n, server in enumerate(servers):
        shutil.copy(server.child.log, folder / f"server{n}.log")


def say(**words: Any) -> None:
    told = " ".join(f"{name}={value}" for name, value in words.items())
    sys.stderr.write(f"soak {time.strftime('%H:%M:%S')} {told}\n")


async def play(stage: SoakStage, crowd: Crowd, step: Step) -> None:
    match step:
        case LogIn(slot):
            await crowd.begins(slot, lambda: stage.logs_in(slot))
        case LogOut(slot):
            await crowd.begins(slot, lambda: stage.logs_out(slot))
        case Send(slot):
            await crowd.begins(slot, lambda: stage.sends(step))
        case Fail():
            stage.fails(step)
        case Rest():
            await crowd.finishes()
            await stage.calms_down()
            if not stage.rooms:
                await stage.makes_rooms()
            await stage.everybody_knows_everybody()
            await stage.everybody_reads_everything()
            say(**summary(stage))


def test_a_seed_tells_one_story() -> None:
    assert list(Story(5, 300).steps()) == list(Story(5, 300).steps())
    assert list(Story(5, 300).steps()) != list(Story(6, 300).steps())


async def test_every_message_is_read_by_every_device_it_is_for(
    stage: SoakStage,
) -> None:
    say(seed=SEED, messages=MESSAGES)
    crowd = Crowd(_AT_ONCE)
    try:
        for step in Story(SEED, MESSAGES).steps():
            await play(stage, crowd, step)
    except Exception as error:
        error.add_note(f"HEARTH_SOAK_SEED={SEED} HEARTH_SOAK_MESSAGES={MESSAGES}")
        raise
    counts = stage.counts
    assert counts.messages == MESSAGES
    assert counts.deliveries > 3 * MESSAGES
    # First contact with a server that is away is rare.
    assert counts.unreached < counts.deliveries / 10
