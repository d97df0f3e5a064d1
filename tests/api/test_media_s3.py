"""Files in a bucket: all that files on the disk can do, and no copy on the disk."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import structs

from homeserver.media import tasks
from homeserver.media.files import files_of
from homeserver.media.media import Media
from homeserver.media.moving import move
from homeserver.media.places import Draft
from tests.support.app import Running
from tests.support.bucket import Between, Bucket, between, bucket_at, s3_server
from tests.support.media import (
    V1,
    V3,
    downloads,
    fetch,
    noise,
    picture,
    thumbnails,
    uploads,
)

MIB = 1024 * 1024
PART = 8 * MIB

NewServer = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
async def bucket(store: str, request: Any) -> AsyncIterator[Bucket]:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    async with bucket_at(store, name) as made:
        yield made


@pytest.fixture
async def way(store: str) -> AsyncIterator[Between]:
    async with between(store) as who:
        yield who


def on_disk(server: Running) -> list[Path]:
    root = server.ctx.config.data_path / "media"
    return [path for path in root.rglob("*") if path.is_file()]


def ages(server: Running) -> None:
    """Let two hours pass for all files."""
    media = server.ctx.parts.get(Media)
    media.settle_s = 0.0
    for each in media.files.stores.values():
        each.abandoned_s = -1.0


async def sweeps_all(server: Running) -> None:
    for _ in range(17):  # a sixteenth each time
        await tasks.sweep(server.ctx)


async def test_what_comes_goes_into_the_bucket_and_comes_from_there(
    another: NewServer, person: Callable, bucket: Bucket
):
    server = await another(media={"store": "s3"}, s3=bucket.section())
    alice = await person(server)
    small, empty, large = noise(1000), b"", noise(2 * PART + 12_345)
    exact = noise(PART)
    for data in (small, empty, large, exact):
        where = await uploads(alice, data, "text/plain", "Name ä.txt")
        got = await downloads(alice, where)
        assert (got.status, got.body) == (200, data)
        assert got.headers["Content-Length"] == str(len(data))
        assert "%C3%A4" in got.disposition
        if data:
            part = await downloads(alice, where, Range="bytes=5-700")
            assert (part.status, part.body) == (206, data[5:701])
            end = await downloads(alice, where, Range="bytes=-300000")
            assert (end.status, end.body) == (206, data[-300_000:])
    assert sorted(await bucket.files()) == sorted([small, empty, large, exact])
    # Once for each content; who sends it again is told another URI.
    again = await uploads(alice, large)
    assert (await downloads(alice, again)).body == large
    assert len(await bucket.keys()) == 4
    shown = await uploads(alice, picture(), "image/png")
    for _ in range(2):
        thumbnail = await thumbnails(alice, shown)
        assert thumbnail.image.size == (64, 48) or thumbnail.image.width <= 320
    assert len(await bucket.keys()) == 6
    assert on_disk(server) == []
    assert await bucket.uploads() == set()


async def test_who_leaves_and_what_is_gone_leave_nothing(
    another: NewServer, person: Callable, bucket: Bucket
):
    server = await another(media={"store": "s3"}, s3=bucket.section())
    alice = await person(server)

    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield noise(MIB)
        while not await bucket.uploads():
            await asyncio.sleep(0.01)
        begun.set()
        await asyncio.Event().wait()

    sending = asyncio.create_task(
        fetch(alice, f"{V3}/upload", method="POST", data=half())
    )
    async with asyncio.timeout(20):
        await begun.wait()
        sending.cancel()
        while await bucket.uploads():
            await asyncio.sleep(0.01)
    assert await bucket.keys() == set()

    kept, gone = noise(1000), noise(1000)
    stays = await uploads(alice, kept)
    goes = await uploads(alice, gone)
    await bucket.put("media/ab/0123", b"never named")
    await bucket.put("other/ab/0123", b"somebody else's")
    draft: Draft = await server.ctx.parts.get(Media).files.begin(None)
    await draft.add([noise(2 * PART)])
    while not await bucket.uploads():
        await asyncio.sleep(0.01)
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            "DELETE FROM media WHERE media_id = $1", goes.partition("/")[2]
        )
    # What is new is left alone.
    await sweeps_all(server)
    assert len(await bucket.keys()) == 3
    assert await bucket.uploads()
    ages(server)
    await sweeps_all(server)
    assert sorted(await bucket.files()) == sorted([kept, b"somebody else's"])
    assert await bucket.uploads() == set()
    await draft.discard()
    assert (await downloads(alice, stays)).body == kept


async def test_a_store_that_stumbles(
    another: NewServer, person: Callable, bucket: Bucket, way: Between
):
    server = await another(
        media={"store": "s3"}, s3=bucket.section(endpoint=way.address)
    )
    alice = await person(server)
    data = noise(2 * PART + 5)
    way.spoil = {
        "PUT": [("status", 503), ("cut", 0), ("status", 500)],
        "POST": [("status", 500), ("cut", 0)],
        "GET": [("status", 429), ("cut", 3_000_000), ("cut", 10)],
    }
    where = await uploads(alice, data)
    assert (await downloads(alice, where)).body == data
    assert way.spoil == {"PUT": [], "POST": [], "GET": []}
    # One that is down for long is no fault of ours, and nothing is left of the file.
    way.spoil["PUT"] = [("status", 503)] * 4
    got = await fetch(alice, f"{V3}/upload", method="POST", data=b"small")
    assert got.refusal == (503, "M_UNKNOWN")
    way.spoil["GET"] = [("status", 403)]
    assert (await downloads(alice, where)).refusal == (503, "M_UNKNOWN")
    assert await bucket.files() == [data]
    # An answer that ends too early breaks off, whoever reads it.
    way.spoil["GET"] = [("cut", 100)] * 4
    with pytest.raises(aiohttp.ClientPayloadError):
        await downloads(alice, where)


async def test_clients_that_can_are_sent_to_the_bucket(
    another: NewServer, person: Callable, bucket: Bucket
):
    server = await another(
        media={"store": "s3"}, s3=bucket.section(redirect_minutes=10)
    )
    alice = await person(server)
    data = noise(200_000)
    where = await uploads(alice, data, "image/png", "a b.png")
    assert (await downloads(alice, where)).body == data
    for path in (f"{V1}/download/{where}", f"{V1}/download/{where}/c%20d.png"):
        sent = await fetch(alice, f"{path}?allow_redirect=true")
        assert sent.status == 307
        async with bucket.session.get(
            sent.headers["Location"], headers={"Authorization": ""}
        ) as reply:
            assert await reply.read() == data
            assert reply.headers["Content-Type"] == "image/png"
            assert 'inline; filename="' in reply.headers["Content-Disposition"]
    shown = await uploads(alice, picture((900, 900)), "image/png")
    sent = await thumbnails(alice, shown, allow_redirect="true")
    assert sent.status == 307
    refused = await fetch(alice, f"{V1}/download/{where}?allow_redirect=yes")
    assert refused.refusal == (400, "M_INVALID_PARAM")


async def test_files_move_between_the_stores_while_they_are_read(
    another: NewServer, person: Callable, bucket: Bucket
):
    server = await another(s3=bucket.section())
    alice = await person(server)
    contents = [noise(size) for size in (1, 5000, 300_000, PART + 1)]
    places = {await uploads(alice, data): data for data in contents}
    shown = await uploads(alice, picture((900, 900)), "image/png")
    await thumbnails(alice, shown)
    assert len(on_disk(server)) == 6

    async def reads_on(done: asyncio.Event) -> int:
        count = 0
        while not done.is_set():
            for where, data in places.items():
                got = await downloads(alice, where)
                assert (got.status, got.body) == (200, data)
                count += 1
        return count

    async def moves(target: str) -> tuple[int, int, int]:
        done = asyncio.Event()
        reading = asyncio.create_task(reads_on(done))
        files = files_of(server.ctx.config, server.ctx.db)
        try:
            tallies = [each async for each in move(server.ctx.db, files, target)]
        finally:
            await files.stop()
            done.set()
        assert await reading
        return tallies[-1].files, tallies[-1].bytes, tallies[-1].failed

    size = sum(path.stat().st_size for path in on_disk(server))
    assert await moves("s3") == (6, size, 0)
    assert on_disk(server) == []
    assert set(await bucket.files()) >= set(contents)
    assert await moves("s3") == (0, 0, 0)
    # What is damaged stays where it is, and is told.
    damaged = min(await bucket.keys())
    before = await bucket.files()
    await bucket.put(damaged, b"x" * len(before[0]))
    count, _, failed = await moves_without_reading(server)
    assert (count, failed) == (5, 1)
    assert await bucket.keys() == {damaged}
    await bucket.put(damaged, before[0])
    assert await moves("disk") == (1, len(before[0]), 0)
    assert await bucket.keys() == set()
    assert len(on_disk(server)) == 6
    assert (await thumbnails(alice, shown)).status == 200


async def moves_without_reading(server: Running) -> tuple[int, int, int]:
    files = files_of(server.ctx.config, server.ctx.db)
    tallies = [each async for each in move(server.ctx.db, files, "disk")]
    await files.stop()
    return tallies[-1].files, tallies[-1].bytes, tallies[-1].failed


async def test_a_store_that_is_not_configured_any_more(
    another: NewServer, person: Callable, bucket: Bucket
):
    server = await another(media={"store": "s3"}, s3=bucket.section())
    alice = await person(server)
    where = await uploads(alice, noise(1000))
    shown = await uploads(alice, picture((900, 900)), "image/png")
    media = server.ctx.parts.get(Media)
    config = replace_bucket(server)
    media.files = files_of(config, server.ctx.db)
    assert (await downloads(alice, where)).refusal == (503, "M_UNKNOWN")
    assert (await thumbnails(alice, shown)).refusal == (503, "M_UNKNOWN")


def replace_bucket(server: Running) -> Any:
    config = server.ctx.config
    return structs.replace(
        config,
        s3=structs.replace(config.s3, bucket=""),
        media=structs.replace(config.media, store="disk"),
    )
