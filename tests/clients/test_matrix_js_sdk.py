"""matrix-js-sdk, on which Element Web runs, under Node: a day of two people.

And Web Push, read by the library `http_ece`.

Without Node or the package it is skipped, unless HEARTH_NODE=1 demands it.
"""

import asyncio
import itertools
import os
import shutil
from pathlib import Path

import pytest

from tests.support.client import PASSWORD
from tests.support.hearth import Hearth

FOLDER = Path(__file__).parent / "node"
IS_DEMANDED = bool(os.environ.get("HEARTH_NODE"))
_INSTALL_SECONDS = 180
_DAY_SECONDS = 120
_numbers = itertools.count(1)

pytestmark = pytest.mark.timeout(_INSTALL_SECONDS + _DAY_SECONDS + 30)


async def run(*command: str, seconds: float) -> tuple[int, str]:
    """Run a program in the folder; its status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=FOLDER,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        written, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, f"it did not end within {seconds} s"
    return process.returncode or 0, written.decode(errors="replace")


def missing(why: str) -> None:
    if IS_DEMANDED:
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
async def node() -> str:
    """The program, with the package installed as package-lock.json has it."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        missing("there is no node, or no npm")
    lock, made = FOLDER / "package-lock.json", FOLDER / "node_modules/.made-from"
    if not made.is_file() or made.read_bytes() != lock.read_bytes():
        install = (str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        status, written = await run(*install, seconds=_INSTALL_SECONDS)
        if status != 0:
            missing(f"matrix-js-sdk cannot be installed: {written[-500:]}")
        made.write_bytes(lock.read_bytes())
    return str(program)


async def test_a_day_of_two_people(server: Hearth, node: str) -> None:
    people = [f"{name}js{next(_numbers)}" for name in ("alice", "bob")]
    words = [node, "day.mjs", server.base_url]
    for localpart in people:
        await server.registers(localpart)
        words += (f"@{localpart}:{server.name}", PASSWORD)
    status, written = await run(*words, seconds=_DAY_SECONDS)
    assert status == 0, written[-6000:]
    assert "# a good day" in written


async def test_web_push_is_read_by_a_client(server: Hearth, node: str) -> None:
    reader, writer = [
        await server.registers(f"{name}push{next(_numbers)}") for name in ("r", "w")
    ]
    words = (node, "push.mjs", server.base_url)
    tokens = (reader.access_token, writer.access_token)
    status, written = await run(*words, *tokens, seconds=_DAY_SECONDS)
    assert status == 0, written[-6000:]
    assert "all was read" in written
