"""Files between servers: passed on as they arrive, stored once; and bad servers."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from homeserver.media import tasks
from homeserver.media.media import Media
from tests.support.bucket import between, bucket_at, s3_server
from tests.support.client import Client
from tests.support.media import (
    V1,
    downloads,
    fetch,
    noise,
    path_of,
    picture,
    thumbnails,
    uploads,
)
from tests.support.peer import Peer, answering
from tests.support.sites import Site, World

MIB = 1024 * 1024
DOWNLOAD = "v1/media/download/"
THUMBNAIL = "v1/media/thumbnail/"


def files_of(site: Site) -> list[bytes]:
    root = site.ctx.config.data_path / "media" / "files"
    return [path.read_bytes() for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 10, 100_000, 7 * MIB])
async def test_a_file_of_another_server(
    alice: Client, bob: Client, b: Site, size: int
) -> None:
    data = noise(size)
    where = await uploads(alice, data, "application/x-thing", "Übersicht.bin")
    for asked in range(2):
        got = await downloads(bob, where)
        assert (got.status, got.body) == (200, data)
        assert got.headers["Content-Type"] == "application/x-thing"
        assert "%C3%9Cbersicht.bin" in got.disposition
        assert ("ETag" in got.headers) == (asked > 0) or size == 0
    part = await downloads(bob, where, "other.bin", Range="bytes=2-4")
    assert part.body == data[2:5]
    assert files_of(b) == [data]
    assert (await fetch(b.processes[0].nobody, f"{V1}/download/{where}")).status == 401
    gone = where[:-2] + "xx"
    assert (await downloads(bob, gone)).refusal == (404, "M_NOT_FOUND")


async def test_a_later_part_waits_for_the_whole(alice: Client, bob: Client) -> None:
    data = noise(3 * MIB)
    where = await uploads(alice, data)
    got = await downloads(bob, where, Range="bytes=2000000-")
    assert (got.status, got.body) == (206, data[2_000_000:])


async def test_many_ask_and_it_is_fetched_once(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    people = [await site.person(f"person{n}") for n in range(3)]
    data = noise(2 * MIB)
    seen: list[int] = []
    go_on = asyncio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": "multipart/mixed; boundary=gc0p4Jq0M2Yt08j34c0p"}
        )
        await answer.prepare(request)
        await answer.write(
            b"--gc0p4Jq0M2Yt08j34c0p\r\nContent-Type: application/json\r\n\r\n{}\r\n"
            b"--gc0p4Jq0M2Yt08j34c0p\r\nContent-Type: text/plain\r\n"
            b'Content-Disposition: inline; filename="cat.txt"\r\n\r\n'
        )
        await answer.write(data[:MIB])
        seen.append(1)
        await go_on.wait()
        await answer.write(data[MIB:])
        await answer.write(b"\r\n--gc0p4Jq0M2Yt08j34c0p--\r\n")
        return answer

    with answering(peer, DOWNLOAD, slowly):
        async with (
            people[0]
            .http()
            .get(
                f"{people[0].base_url}{V1}/download/{peer.name}/slow",
                headers={"Authorization": f"Bearer {people[0].access_token}"},
            ) as first
        ):
            # Half of it is here while the other half has not even been sent. (What may
            # be the beginning of the end is held back.)
            nearly = MIB - 100
            assert await first.content.readexactly(nearly) == data[:nearly]
            assert first.headers["Content-Disposition"] == "inline; filename=cat.txt"
            others = [
                asyncio.create_task(downloads(who, f"{peer.name}/slow"))
                for who in people * 5
            ]
            await asyncio.sleep(0)
            go_on.set()
            assert await first.content.read() == data[nearly:]
            for got in await asyncio.gather(*others):
                assert (got.status, got.body) == (200, data)
    assert seen == [1]
    assert files_of(site) == [data]


async def test_who_leaves_early_does_not_spoil_it(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    data = noise(2 * MIB)
    go_on = asyncio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": 'multipart/mixed; boundary="b o"'}
        )
        await answer.prepare(request)
        await answer.write(b"--b o\r\n\r\n{}\r\n--b o\r\n\r\n" + data[:MIB])
        await go_on.wait()
        await answer.write(data[MIB:] + b"\r\n--b o--")
        return answer

    with answering(peer, DOWNLOAD, slowly):
        async with person.http().get(
            f"{person.base_url}{V1}/download/{peer.name}/left",
            headers={"Authorization": f"Bearer {person.access_token}"},
        ) as first:
            await first.content.readexactly(1000)
        go_on.set()
        got = await downloads(person, f"{peer.name}/left")
        assert (got.status, got.body) == (200, data)
    assert [path for path in peer.asked if DOWNLOAD in path] == [f"{DOWNLOAD}left"]


def parts(*bodies: bytes, head: str = "") -> web.Response:
    """An answer of these parts."""
    joined = b"".join(b"\r\n--x\r\n" + body for body in bodies)
    return web.Response(
        body=joined + b"\r\n--x--\r\n",
        headers={"Content-Type": head or "multipart/mixed; boundary=x"},
    )


BAD: dict[str, Any] = {
    "json": lambda _: {"hello": "world"},
    "one part": lambda _: parts(b"Content-Type: application/json\r\n\r\n{}"),
    "no boundary": lambda _: parts(b"\r\n{}", b"\r\nx", head="multipart/mixed"),
    "another kind": lambda _: parts(b"\r\n{}", b"\r\nx", head="text/plain"),
    "no parts": lambda _: parts(),
    "a head without end": lambda _: parts(b"\r\n{}", b"A: b\r\n" * 5000),
    "a long first part": lambda _: parts(b"\r\n" + bytes(100_000), b"\r\nx"),
    "no colon": lambda _: parts(b"\r\n{}", b"nonsense\r\n\r\nx"),
    "a local file": lambda _: parts(b"\r\n{}", b"Location: file:///etc/passwd\r\n\r\n"),
    "plain http": lambda _: parts(b"\r\n{}", b"Location: http://127.0.0.1/\r\n\r\n"),
    "a private host": lambda _: parts(
        b"\r\n{}", b"Location: https://10.1.2.3/\r\n\r\n"
    ),
    "an error": lambda _: (500, {"errcode": "M_UNKNOWN", "error": "no"}),
    "no error": lambda _: web.Response(status=500, text="<html>"),
    "forbidden elsewhere": lambda _: (302, {}),
}


@pytest.mark.parametrize("how", BAD)
async def test_servers_that_answer_nonsense(world: World, peer: Peer, how: str) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    with answering(peer, DOWNLOAD, BAD[how]):
        got = await downloads(person, f"{peer.name}/bad")
    assert got.refusal == (502, "M_UNKNOWN")
    assert files_of(site) == []
    incoming = site.ctx.config.data_path / "media" / "incoming"
    assert not incoming.exists() or not list(incoming.iterdir())


@pytest.mark.parametrize(
    ("status", "errcode", "said"),
    [
        (404, "M_NOT_FOUND", (404, "M_NOT_FOUND")),
        (403, "M_FORBIDDEN", (404, "M_NOT_FOUND")),
        (504, "M_NOT_YET_UPLOADED", (504, "M_NOT_YET_UPLOADED")),
        (502, "M_TOO_LARGE", (502, "M_TOO_LARGE")),
        (413, "M_TOO_LARGE", (502, "M_TOO_LARGE")),
        (429, "M_LIMIT_EXCEEDED", (429, "M_LIMIT_EXCEEDED")),
    ],
)
async def test_what_other_servers_refuse(
    world: World, peer: Peer, status: int, errcode: str, said: tuple[int, str]
) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    refusal = {"errcode": errcode, "error": "no"}
    with answering(peer, DOWNLOAD, lambda _: (status, refusal)):
        assert (await downloads(person, f"{peer.name}/bad")).refusal == said


async def test_a_file_that_breaks_off_is_cut_off(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")

    def half(_: web.Request) -> web.Response:
        body = b"--x\r\n\r\n{}\r\n--x\r\n\r\n" + noise(300_000)
        head = {"Content-Type": "multipart/mixed; boundary=x"}
        return web.Response(body=body, headers=head)

    with answering(peer, DOWNLOAD, half), pytest.raises(Exception, match="payload"):
        await downloads(person, f"{peer.name}/half")
    assert files_of(site) == []


async def test_a_file_without_end_is_cut_off(world: World, peer: Peer) -> None:
    site = await world.site(processes=1, media={"max_remote_size": "1M"})
    person = await site.person("person")

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": "multipart/mixed; boundary=x"}
        )
        await answer.prepare(request)
        await answer.write(b"--x\r\n\r\n{}\r\n--x\r\n\r\n")
        while True:
            await answer.write(bytes(100_000))

    with answering(peer, DOWNLOAD, endless), pytest.raises(Exception, match="payload"):
        await downloads(person, f"{peer.name}/endless")
    assert (await downloads(person, f"{peer.name}/endless")).refusal == (
        502,
        "M_TOO_LARGE",
    )
    assert files_of(site) == []


async def test_old_servers_are_asked_as_clients_did(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    asked = []

    def old(request: web.Request) -> web.Response:
        asked.append((dict(request.query), "Authorization" in request.headers))
        head = {"Content-Disposition": "inline; filename*=utf-8''%E7%8C%AB.txt"}
        return web.Response(body=b"old", content_type="text/plain", headers=head)

    refusal = {"errcode": "M_UNRECOGNIZED", "error": "no"}
    legacy = f"/_matrix/media/v3/download/{peer.name}/old"
    with (
        answering(peer, DOWNLOAD, lambda _: (404, refusal)),
        answering(peer, legacy, old),
    ):
        got = await downloads(person, f"{peer.name}/old")
    assert (got.status, got.body) == (200, b"old")
    assert "filename*=utf-8''%E7%8C%AB.txt" in got.disposition
    ((query, signed),) = asked
    assert query["allow_remote"] == "false"
    assert not signed


async def test_redirects_are_followed(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    there = f"https://{peer.name}/_matrix/federation/elsewhere"

    def to_there(_: web.Request) -> web.Response:
        return parts(b"\r\n{}", f"Location: {there}\r\n\r\n".encode())

    def once_more(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/_matrix/federation/it"})

    with (
        answering(peer, DOWNLOAD, to_there),
        answering(peer, "elsewhere", once_more),
        answering(
            peer, "it", lambda _: web.Response(body=b"it", content_type="image/png")
        ),
    ):
        got = await downloads(person, f"{peer.name}/redirected")
    assert (got.status, got.body) == (200, b"it")
    assert got.headers["Content-Type"] == "image/png"


async def test_servers_are_sent_to_the_bucket(world: World, tmp_path: Path) -> None:
    certificate, key = world.authority.issue(tmp_path, "localhost", "127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with s3_server() as store:
        async with bucket_at(store) as bucket, between(store, tls) as way:
            ca_file = world.authority.write_ca(tmp_path / "ca.pem")
            section = bucket.section(
                endpoint=way.address, redirect_minutes=5, ca_file=str(ca_file)
            )
            here = await world.site(1, media={"store": "s3"}, s3=section)
            there = await world.site(1)
            alice, bob = await here.person("alice"), await there.person("bob")
            data = noise(300_000)
            where = await uploads(alice, data, "text/plain", "Übersicht.txt")
            got = await downloads(bob, where)
            assert (got.status, got.body) == (200, data)
            assert got.headers["Content-Type"] == "text/plain"
            assert "%C3%9Cbersicht.txt" in got.disposition
            (asked,) = [target for how, target in way.seen if how == "GET"]
            assert "X-Amz-Signature=" in asked
            assert await bucket.files() == files_of(there) == [data]


async def test_thumbnails_of_other_servers_files(alice: Client, bob: Client) -> None:
    where = await uploads(alice, picture((900, 600)), "image/png")
    theirs, ours = await thumbnails(bob, where), await thumbnails(alice, where)
    assert theirs.image.size == (96, 64)
    assert theirs.body == ours.body


async def test_what_only_its_server_can_show(world: World, peer: Peer) -> None:
    site = await world.site(processes=1)
    person = await site.person("person")
    still = picture((90, 60), "JPEG")
    video = parts(b"\r\n{}", b"Content-Type: video/mp4\r\n\r\n" + noise(1000))
    image = parts(b"\r\n{}", b"Content-Type: image/jpeg\r\n\r\n" + still)
    with answering(peer, DOWNLOAD, lambda _: video):
        with answering(peer, THUMBNAIL, lambda _: image):
            got = await thumbnails(person, f"{peer.name}/video")
        assert (got.status, got.body) == (200, still)
        again = await thumbnails(person, f"{peer.name}/video")
        assert again.body == still
        refused = await thumbnails(person, f"{peer.name}/video", method="crop")
        assert refused.refusal == (400, "M_UNKNOWN")


async def test_servers_ask_us(a: Site, alice: Client, peer: Peer) -> None:
    data = noise(300_000)
    where = (await uploads(alice, data, "text/html", "a b.html")).partition("/")[2]
    async with peer.wire.stream(
        a.name, f"/_matrix/federation/v1/media/download/{where}"
    ) as got:
        body = await got.content.read()
        boundary = got.headers["Content-Type"].partition("boundary=")[2].encode()
    _, metadata, file, end = body.split(b"--" + boundary)
    assert metadata == b"\r\nContent-Type: application/json\r\n\r\n{}\r\n"
    head, _, content = file.partition(b"\r\n\r\n")
    assert b'Content-Disposition: attachment; filename="a b.html"' in head
    assert b"Content-Type: text/html" in head
    assert content == data + b"\r\n"
    assert end == b"--\r\n"
    created = path_of((await alice.post("/_matrix/media/v1/create"))["content_uri"])
    for media_id, status in (("unknown", 404), (created.partition("/")[2], 504)):
        path = f"/_matrix/federation/v1/media/download/{media_id}"
        async with peer.wire.stream(a.name, path, query=[("timeout_ms", "1")]) as got:
            assert got.status == status


async def test_the_cache_is_bounded(world: World, alice: Client) -> None:
    site = await world.site(processes=1, media={"remote_cache_size": "1M"})
    person = await site.person("person")
    files = [noise(400_000) for _ in range(3)]
    places = [await uploads(alice, data) for data in files]
    media = site.ctx.parts.get(Media)
    for number, where in enumerate(places):
        await downloads(person, where)
        await media.write_uses(site.ctx)
        await site.query(
            "UPDATE media SET used_at = now() - $1 * interval '1 hour'"
            " WHERE media_id = $2 RETURNING 1",
            3 - number,
            where.partition("/")[2],
        )
    await downloads(person, places[0])  # used just now, though it came first
    own = await uploads(person, noise(900_000))
    await tasks.tidy(site.ctx)
    kept = files_of(site)
    assert files[0] in kept
    assert files[1] not in kept
    assert files[2] in kept
    assert (await downloads(person, places[1])).body == files[1]
    assert len((await downloads(person, own)).body) == 900_000


async def test_who_is_down(world: World, a: Site, b: Site, alice: Client, bob: Client):
    where = await uploads(alice, b"x")
    await a.stop()
    assert (await downloads(bob, where)).refusal == (502, "M_UNKNOWN")
    ours = await downloads(bob, f"{b.name}/nothing")
    assert ours.refusal == (404, "M_NOT_FOUND")


async def test_what_is_scanned_is_not_passed_on_before(
    world: World, peer: Peer, tmp_path: Path
) -> None:
    program = tmp_path / "scanner"
    program.write_text('#!/bin/sh\n! grep -q EVIL "$1"\n')
    program.chmod(0o755)
    site = await world.site(processes=1, media={"scan_command": [str(program)]})
    person = await site.person("person")
    for text, status in ((b"good", 200), (b"EVIL", 404)):
        file = parts(b"\r\n{}", b"\r\n" + text)
        with answering(peer, DOWNLOAD, lambda _, file=file: file):
            got = await downloads(person, f"{peer.name}/{text.decode()}")
        assert got.status == status
    assert files_of(site) == [b"good"]
