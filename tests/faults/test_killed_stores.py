"""Files in two stores, while whoever writes, moves or deletes them is killed.

The store of new files changes with every start, and all files are moved after it. What
an event refers to is there in the end; and nothing else is, after a sweep.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from homeserver.media import tasks
from homeserver.media.media import Media
from tests.support.app import configuration, running
from tests.support.bucket import Bucket, bucket_at, s3_server
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.media import V3, downloads, fetch, noise, path_of

ROUNDS = int(os.environ.get("HEARTH_KILL_ROUNDS", "2"))
SENDERS = 2
STORES = ("disk", "s3")
SIZES = (1_000, 300_000, 9_000_000)

pytestmark = pytest.mark.timeout(90 + 20 * ROUNDS)


@pytest.fixture
async def bucket() -> AsyncIterator[Bucket]:
    with s3_server() as address:
        async with bucket_at(address) as made:
            yield made


def keys_of(bucket: Bucket, store: str) -> dict[str, str]:
    section = ", ".join(f'{key} = "{value}"' for key, value in bucket.section().items())
    return {"media": f'{{store = "{store}"}}', "s3": f"{{{section}}}"}


async def sends_until(
    done: asyncio.Event, who: Client, room: str, kept: dict[str, bytes]
) -> None:
    """Send files one after the other; what an event of the room refers to is kept."""
    while not done.is_set():
        data = noise(random.choices(SIZES, (6, 3, 1))[0])
        with contextlib.suppress(aiohttp.ClientError, OSError):
            got = await fetch(who, f"{V3}/upload", method="POST", data=data)
            if got.status != 200:
                continue
            uri = got.json["content_uri"]
            kept[path_of(uri)] = hashlib.sha256(data).digest()
            await who.sends(room, {"msgtype": "m.file", "body": "f", "url": uri})
        await asyncio.sleep(0.05)


async def moves(server: Hearth) -> asyncio.subprocess.Process:
    config, *_ = [arg for arg in server.argv() if arg.endswith("hearth.toml")]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "homeserver", "media", "move", "--config", config),
        cwd=server.working_directory(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def some_have_moved(
    dsn: str, target: str, mover: asyncio.subprocess.Process
) -> None:
    """Wait until the command is at work, or had nothing to do."""
    connection = await asyncpg.connect(dsn)
    try:
        count = "SELECT count(*) FROM media_files WHERE store <> $1"
        before = await connection.fetchval(count, target)
        while mover.returncode is None:
            if await connection.fetchval(count, target) < before:
                return
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def test_no_file_is_lost_and_none_is_left_over(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]], bucket: Bucket
) -> None:
    dsn = await new_dsn()
    server = Hearth(tmp_path / "hearth", CertificateAuthority.create(), database=dsn)
    server.keys = keys_of(bucket, "disk")
    kept: dict[str, bytes] = {}
    async with server:
        who = await server.registers("alice")
        room = await who.creates_room()
        for number in range(ROUNDS):
            done = asyncio.Event()
            senders = [
                asyncio.create_task(sends_until(done, who, room, kept))
                for _ in range(SENDERS)
            ]
            mover = await moves(server)
            await some_have_moved(dsn, STORES[number % 2], mover)
            await asyncio.sleep(random.uniform(0.0, 0.5))
            with contextlib.suppress(ProcessLookupError):
                mover.send_signal(signal.SIGKILL)
            await server.kill()
            done.set()
            await asyncio.gather(*senders, mover.wait())
            server.keys = keys_of(bucket, STORES[(number + 1) % 2])
            await server.start()
        mover = await moves(server)
        _, told = await mover.communicate()
        assert mover.returncode == 0, told
        assert len(kept) > ROUNDS
        for where, digest in kept.items():
            got = await downloads(who, where)
            assert hashlib.sha256(got.body).digest() == digest
        config = configuration(
            tmp_path / "after",
            server_name=server.name,
            data_dir=str(server.data),
            signing_key_file=str(server.data / "signing.key"),
            s3=bucket.section(),
        )
    (tmp_path / "after").mkdir()
    async with running(config, dsn) as after:
        media = after.ctx.parts.get(Media)
        media.settle_s = 0.0
        for store in media.files.stores.values():
            store.abandoned_s = -1.0
        for _ in range(20):  # a sixteenth each time
            await tasks.sweep(after.ctx)
        async with after.ctx.db.read() as tx:
            rows = await tx.fetch("SELECT sha256 FROM media_files")
    files = (server.data / "media").rglob("*")
    contents = [file.read_bytes() for file in files if file.is_file()]
    contents += await bucket.files()
    assert await bucket.uploads() == set()
    digests = [hashlib.sha256(content).digest() for content in contents]
    assert sorted(digests) == sorted(row["sha256"] for row in rows)
    assert set(digests) >= set(kept.values())
