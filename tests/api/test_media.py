"""Files go up and come down: whole, in parts, under their names, stored once."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from homeserver.demo.certificates import CertificateAuthority
from homeserver.media import tasks
from homeserver.media.media import Media
from tests.support.api import Api
from tests.support.app import Running
from tests.support.client import Client
from tests.support.media import V1, V3, downloads, fetch, noise, path_of, uploads

MIB = 1024 * 1024


def files_of(server: Running, folder: str = "files") -> set[Path]:
    root = server.ctx.config.data_path / "media" / folder
    return {path for path in root.rglob("*") if path.is_file()}


def name_in(disposition: str) -> str | None:
    _, parameters = parse_content_disposition(disposition)
    return content_disposition_filename(parameters)


@pytest.mark.parametrize("size", [0, 1, 1000, 128 * 1024, 128 * 1024 + 1, 5 * MIB])
async def test_a_file_comes_back_as_it_went(alice: Client, bob: Client, size: int):
    data = noise(size)
    where = await uploads(alice, data, "application/x-thing")
    got = await downloads(bob, where)
    assert (got.status, got.body) == (200, data)
    assert got.headers["Content-Type"] == "application/x-thing"
    assert got.disposition == "attachment"
    assert got.headers["Content-Length"] == str(size)
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in got.headers["Content-Security-Policy"]
    assert got.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert got.headers["Access-Control-Allow-Origin"] == "*"


async def test_an_upload_without_a_length_is_taken(alice: Client):
    parts = [noise(70_000) for _ in range(40)]

    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    where = await uploads(alice, chunks())
    assert (await downloads(alice, where)).body == b"".join(parts)


async def test_who_asks_needs_a_token(alice: Client, hearth: Running):
    where = await uploads(alice, b"secret")
    got = await fetch(hearth.nobody, f"{V1}/download/{where}")
    assert got.refusal == (401, "M_MISSING_TOKEN")
    upload = await fetch(hearth.nobody, f"{V3}/upload", method="POST", data=b"x")
    assert upload.refusal == (401, "M_MISSING_TOKEN")


@pytest.mark.parametrize(
    ("kind", "inline"),
    [
        ("image/png", True),
        ("Text/Plain; charset=utf-8", True),
        ("text/html", False),
        ("image/svg+xml", False),
        ("application/javascript", False),
        ("application/pdf", False),
        ("application/octet-stream", False),
    ],
)
async def test_only_harmless_types_are_shown_inline(
    alice: Client, kind: str, *, inline: bool
):
    where = await uploads(alice, b"<script>alert(1)</script>", kind)
    got = await downloads(alice, where)
    assert got.headers["Content-Type"] == kind
    assert got.disposition == ("inline" if inline else "attachment")


@pytest.mark.parametrize(
    "kind",
    [None, "nonsense", "text/", "a/b\tc", "text/html; x=é", "x" * 300 + "/y"],
)
async def test_what_is_no_type_becomes_octets(alice: Client, kind: str | None):
    where = await uploads(alice, b"x", kind)
    got = await downloads(alice, where)
    assert got.headers["Content-Type"] == "application/octet-stream"


NAMES = [
    "cat.png",
    "my cat.png",
    'quo"te\\.png',
    "Übergröße.png",
    "猫の写真.jpg",
    "🐈.gif",
    "../../etc/passwd",
    "a\r\nSet-Cookie: x=1.txt",
    "nul\0.txt",
    "semi;colon=equals.txt",
    "100%.txt",
    "x" * 1000,
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_every_language_survive(alice: Client, name: str):
    where = await uploads(alice, b"x", "image/png", name)
    got = await downloads(alice, where)
    assert got.disposition.startswith("inline; filename")
    assert "Set-Cookie" not in got.headers
    assert name_in(got.disposition) == name
    other = await downloads(alice, where, "other ✓.png")
    assert name_in(other.disposition) == "other ✓.png"


async def test_a_name_without_end_is_refused(alice: Client):
    got = await fetch(
        alice, f"{V3}/upload?filename={'x' * 1001}", method="POST", data=b"x"
    )
    assert got.refusal == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-", 0, None),
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=-5", -5, None),
        ("bytes=990-", 990, None),
        ("bytes=5-99999999999", 5, None),
        ("bytes=-99999999999", 0, None),
    ],
)
async def test_parts(alice: Client, size: int, asked: str, start: int, end: int | None):
    data = noise(size)
    where = await uploads(alice, data)
    got = await downloads(alice, where, Range=asked)
    assert (got.status, got.body) == (206, data[start:end])
    begin = start if start >= 0 else size + start
    last = (size if end is None else end) - 1
    assert got.headers["Content-Range"] == f"bytes {begin}-{last}/{size}"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=1000-", 416),
        ("bytes=-0", 416),
        ("bytes=5-4", 200),
        ("bytes=1-2,4-5", 200),
        ("bytes=-", 200),
        ("bytes=x-", 200),
        ("lines=1-2", 200),
        ("bytes=" + "9" * 400 + "-", 200),
    ],
)
async def test_parts_that_are_none(alice: Client, asked: str, status: int):
    data = noise(1000)
    where = await uploads(alice, data)
    got = await downloads(alice, where, Range=asked)
    assert got.status == status
    if status == 200:
        assert got.body == data
    else:
        assert got.headers["Content-Range"] == "bytes */1000"


async def test_who_has_it_gets_no_second_copy(alice: Client):
    where = await uploads(alice, b"hello")
    etag = (await downloads(alice, where)).headers["ETag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        got = await downloads(alice, where, If_None_Match=known)
        assert (got.status, got.body) == (304, b"")
    assert (await downloads(alice, where, If_None_Match='"other"')).status == 200
    same = await downloads(alice, where, Range="bytes=1-2", If_Range=etag)
    assert (same.status, same.body) == (206, b"el")
    changed = await downloads(alice, where, Range="bytes=1-2", If_Range='"other"')
    assert (changed.status, changed.body) == (200, b"hello")


async def test_the_same_file_is_stored_once(
    alice: Client, bob: Client, hearth: Running
):
    before = files_of(hearth)
    data = noise(300_000)
    places = await asyncio.gather(
        *(uploads(who, data) for who in (alice, bob, alice, bob))
    )
    assert len(set(places)) == 4
    (file,) = files_of(hearth) - before
    assert file.read_bytes() == data
    digest = hashlib.sha256(data).hexdigest()
    assert (file.parent.name + file.name).partition("-")[0] == digest
    for where in places:
        assert (await downloads(alice, where)).body == data


async def test_too_much_is_refused(
    another: Callable[..., Awaitable[Running]], person: Callable
):
    server = await another(media={"max_upload_size": "64K"})
    alice = await person(server)
    config = await fetch(alice, f"{V1}/config")
    assert config.json == {"m.upload.size": 65536}
    assert (await fetch(alice, f"{V3}/config")).json == config.json
    await uploads(alice, noise(65536))
    said = await fetch(alice, f"{V3}/upload", method="POST", data=noise(65537))
    assert said.refusal == (413, "M_TOO_LARGE")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield noise(8192)

    unsaid = await fetch(alice, f"{V3}/upload", method="POST", data=chunks())
    assert unsaid.refusal == (413, "M_TOO_LARGE")
    assert files_of(server, "incoming") == set()
    assert len(files_of(server)) == 1


async def test_quotas(another: Callable[..., Awaitable[Running]], person: Callable):
    server = await another(media={"user_quota": "10K", "total_quota": "15K"})
    alice, bob = await person(server), await person(server)
    await uploads(alice, noise(6 * 1024))
    got = await fetch(alice, f"{V3}/upload", method="POST", data=noise(5 * 1024))
    assert got.refusal == (403, "M_FORBIDDEN")
    assert (got.json["used_bytes"], got.json["limit_bytes"]) == (6 * 1024, 10 * 1024)
    await uploads(alice, noise(4 * 1024))
    got = await fetch(bob, f"{V3}/upload", method="POST", data=noise(6 * 1024))
    assert got.refusal == (403, "M_FORBIDDEN")
    await uploads(bob, noise(5 * 1024))
    assert len(files_of(server)) == 3


async def test_an_upload_that_breaks_off_leaves_nothing(alice: Client, hearth: Running):
    before = files_of(hearth)
    host, port = "127.0.0.1", hearth.server.addresses[0].port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST {V3}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
        f"Authorization: Bearer {alice.access_token}\r\n\r\n".encode()
    )
    for _ in range(30):
        writer.write(noise(100_000))
        await writer.drain()
    async with asyncio.timeout(20):
        while not files_of(hearth, "incoming"):
            await asyncio.sleep(0.02)
        writer.transport.abort()
        while files_of(hearth, "incoming"):
            await asyncio.sleep(0.02)
    with contextlib.suppress(OSError):
        await reader.read()
    assert files_of(hearth) == before
    assert not hearth.ctx.parts.get(Media).uploads._all


async def test_a_download_that_breaks_off_is_over(alice: Client, hearth: Running):
    where = await uploads(alice, noise(30 * MIB))
    port = hearth.server.addresses[0].port
    media = hearth.ctx.parts.get(Media)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(
        f"GET {V1}/download/{where} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {alice.access_token}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    assert media.downloads._all == 1
    writer.transport.abort()
    async with asyncio.timeout(20):
        while media.downloads._all:
            await asyncio.sleep(0.02)


async def test_slow_readers_get_all_of_it(alice: Client, hearth: Running):
    data = noise(20 * MIB)
    where = await uploads(alice, data)
    port = hearth.server.addresses[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    request = (
        f"GET {V1}/download/{where} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {alice.access_token}\r\n\r\n".encode()
    )
    for _ in range(2):  # the connection is good for another request afterwards
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        got = hashlib.sha256()
        left = len(data)
        while left:
            piece = await reader.read(min(left, 50_000))
            assert piece
            got.update(piece)
            left -= len(piece)
        assert got.digest() == hashlib.sha256(data).digest()
    writer.close()


@pytest.mark.parametrize("media_id", ["..", "a.b", "%2e%2e%2fetc", "a%00b", "x" * 256])
async def test_ids_that_are_none(alice: Client, hearth: Running, media_id: str):
    name = hearth.ctx.server_name
    got = await downloads(alice, f"{name}/{media_id}")
    assert got.refusal == (404, "M_NOT_FOUND")
    assert (await downloads(alice, f"{name}/unknown")).refusal == (404, "M_NOT_FOUND")
    assert (await downloads(alice, "!!/x")).refusal == (400, "M_INVALID_PARAM")


# ── uploads to a URI that was created ────────────────────────────────────────────────


async def creates(who: Client) -> str:
    reply = await who.post("/_matrix/media/v1/create")
    assert reply["unused_expires_at"] > 1_700_000_000_000
    return path_of(reply["content_uri"])


async def fills(who: Client, where: str, data: bytes):
    return await fetch(
        who, f"{V3}/upload/{where}", method="PUT", data=data, Content_Type="text/css"
    )


async def test_who_asks_early_waits(
    alice: Client, bob: Client, another_process: Running
):
    where = await creates(alice)
    elsewhere = another_process.client(bob.access_token)
    early = [
        asyncio.create_task(fetch(who, f"{V1}/download/{where}?timeout_ms=20000"))
        for who in (alice, bob, elsewhere)
    ]
    got = await fetch(bob, f"{V1}/download/{where}?timeout_ms=50")
    assert got.refusal == (504, "M_NOT_YET_UPLOADED")
    assert (await fills(alice, where, b"at last")).json == {}
    for each in await asyncio.gather(*early):
        assert (each.status, each.body) == (200, b"at last")
        assert each.headers["Content-Type"] == "text/css"


async def test_whose_uri_it_is(alice: Client, bob: Client, hearth: Running):
    where = await creates(alice)
    assert (await fills(bob, where, b"x")).refusal == (403, "M_FORBIDDEN")
    name = hearth.ctx.server_name
    unknown = await fills(alice, f"{name}/unknown", b"x")
    assert unknown.refusal == (404, "M_NOT_FOUND")
    other = await fills(alice, where.replace(name, "other.test"), b"x")
    assert other.refusal == (404, "M_NOT_FOUND")
    both = await asyncio.gather(fills(alice, where, b"1"), fills(alice, where, b"2"))
    assert sorted(each.status for each in both) == [200, 409]
    again = await fills(alice, where, b"3")
    assert again.refusal == (409, "M_CANNOT_OVERWRITE_MEDIA")
    plain = await uploads(alice, b"x")
    assert (await fills(alice, plain, b"3")).status == 409


async def test_created_uris_expire_and_are_few(alice: Client, hearth: Running):
    where = await creates(alice)
    for _ in range(49):
        await creates(alice)
    status, body = await alice.answer("POST", "/_matrix/media/v1/create", {})
    assert (status, body["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE media SET expires_at = now() - interval '1 s' WHERE user_id = $1",
            alice.user_id,
        )
    await creates(alice)
    assert (await fills(alice, where, b"x")).refusal == (404, "M_NOT_FOUND")
    assert (await downloads(alice, where)).refusal == (404, "M_NOT_FOUND")


# ── without a token ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", [V3, "/_matrix/media/r0", "/_matrix/media/v1"])
async def test_new_files_need_a_token(alice: Client, hearth: Running, prefix: str):
    where = await uploads(alice, b"new")
    for more in ("", "/name.txt"):
        got = await fetch(hearth.nobody, f"{prefix}/download/{where}{more}")
        assert got.refusal == (404, "M_NOT_FOUND")
    thumbnail = f"{prefix}/thumbnail/{where}?width=10&height=10"
    assert (await fetch(hearth.nobody, thumbnail)).refusal == (404, "M_NOT_FOUND")


async def test_files_from_before_the_freeze_do_not(
    another: Callable[..., Awaitable[Running]], person: Callable
):
    server = await another(media={"unauthenticated_until": "2024-09-01"})
    alice = await person(server)
    old, new = await uploads(alice, b"old"), await uploads(alice, b"new")
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE media SET stored_at = '2024-08-31 23:59Z' WHERE media_id = $1",
            old.partition("/")[2],
        )
    got = await fetch(server.nobody, f"{V3}/download/{old}")
    assert (got.status, got.body) == (200, b"old")
    got = await fetch(server.nobody, f"{V3}/download/{new}")
    assert got.refusal == (404, "M_NOT_FOUND")


# ── leftovers ────────────────────────────────────────────────────────────────────────


async def ages(server: Running) -> None:
    """Let two hours pass for all files."""
    media = server.ctx.parts.get(Media)
    media.files.disk.abandoned_s = -1.0
    media.settle_s = 0.0


async def test_the_sweep_takes_what_nothing_needs_and_no_more(
    another: Callable[..., Awaitable[Running]], person: Callable
):
    server = await another()
    alice = await person(server)
    kept, gone = noise(1000), noise(1000)
    stays = await uploads(alice, kept)
    goes = await uploads(alice, gone)
    root = server.ctx.config.data_path / "media"
    (root / "incoming" / "cut-off").write_bytes(b"half of")
    orphan = root / "files" / "ab" / ("cd" * 31)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"never named")
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            "DELETE FROM media WHERE media_id = $1", goes.partition("/")[2]
        )
    await tasks.sweep(server.ctx)
    assert {path.read_bytes() for path in files_of(server)} == {kept, b"never named"}
    await ages(server)
    await tasks.sweep(server.ctx)
    assert {path.read_bytes() for path in files_of(server)} == {kept}
    assert files_of(server, "incoming") == set()
    assert (await downloads(alice, stays)).body == kept
    again = await uploads(alice, gone)
    assert (await downloads(alice, again)).body == gone


async def test_over_tls_too(
    another: Callable[..., Awaitable[Running]], person: Callable, tmp_path: Path
):
    authority = CertificateAuthority.create()
    certificate, key = authority.issue(tmp_path, "localhost", "127.0.0.1")
    server = await another(
        listen=[
            {"bind": "127.0.0.1", "port": 0},
            {
                "bind": "127.0.0.1",
                "port": 0,
                "tls_certificate": str(certificate),
                "tls_key": str(key),
            },
        ]
    )
    alice = await person(server)
    port = server.server.addresses[1].port
    trusting = ssl.create_default_context(
        cafile=str(authority.write_ca(tmp_path / "ca.pem"))
    )
    data = noise(5 * MIB)
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with aiohttp.ClientSession(connector=connector) as session:
        over_tls = Api(lambda: session, f"https://localhost:{port}", alice.access_token)
        where = await uploads(over_tls, data)
        assert (await downloads(over_tls, where)).body == data
        part = await downloads(over_tls, where, Range="bytes=3000000-")
        assert (part.status, part.body) == (206, data[3_000_000:])
