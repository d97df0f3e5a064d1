"""A file whose URI was told is there after SIGKILL, and in its place is no half."""

import asyncio
import contextlib
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.media import V3, downloads, fetch, noise, path_of

ROUNDS = int(os.environ.get("HEARTH_KILL_ROUNDS", "2"))
SENDERS = 4

pytestmark = pytest.mark.timeout(60 + 15 * ROUNDS)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Hearth]:
    async with Hearth(tmp_path / "hearth", CertificateAuthority.create()) as hearth:
        yield hearth


async def uploads_until(done: asyncio.Event, who: Client, kept: dict[str, bytes]):
    """Upload one file after the other; what was told, and the digest of each."""
    while not done.is_set():
        data = noise(random.choice((1_000, 100_000, 2_000_000)))
        with contextlib.suppress(aiohttp.ClientError, OSError):
            got = await fetch(who, f"{V3}/upload", method="POST", data=data)
            if got.status == 200:
                kept[path_of(got.json["content_uri"])] = hashlib.sha256(data).digest()
        await asyncio.sleep(0.01)


async def test_no_file_that_was_taken_is_lost(server: Hearth, tmp_path: Path) -> None:
    who = await server.registers("alice")
    kept: dict[str, bytes] = {}
    for number in range(ROUNDS):
        done = asyncio.Event()
        running = [
            asyncio.create_task(uploads_until(done, who, kept)) for _ in range(SENDERS)
        ]
        await asyncio.sleep(random.uniform(0.3, 0.8))
        await (server.kill_with_database() if number % 2 else server.kill())
        done.set()
        await asyncio.gather(*running)
        await server.start()
    assert len(kept) > ROUNDS
    for where, digest in kept.items():
        got = await downloads(who, where)
        assert hashlib.sha256(got.body).digest() == digest
    # What stands in its place is whole: only there under the digest of its content.
    files = [
        p for p in (tmp_path / "hearth/data/media/files").rglob("*") if p.is_file()
    ]
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert (file.parent.name + file.name).partition("-")[0] == digest
    assert {digest.hex() for digest in kept.values()} <= {
        (file.parent.name + file.name).partition("-")[0] for file in files
    }
