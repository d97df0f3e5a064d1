"""Previews of links: what pages say, in every charset, and where links may not lead."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.media.previews.page import decoded, read_page
from tests.support.app import Running
from tests.support.client import Client
from tests.support.media import V1, Got, downloads, fetch, path_of, picture

LOCAL = {"allow_addresses": ["127.0.0.0/8"]}


@asynccontextmanager
async def site(answers: dict[str, Any]) -> AsyncIterator[tuple[str, list[str]]]:
    """A web site; where it is, and what it was asked for."""
    asked: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        answer = answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        return await answer(request) if callable(answer) else answer_of(answer)

    runner = web.AppRunner(web.Application())
    runner.app.router.add_route("*", "/{path:.*}", serve)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def answer_of(answer: str | tuple[bytes, str] | int) -> web.Response:
    if isinstance(answer, str):
        return web.Response(text=answer, content_type="text/html")
    body, kind = answer
    return web.Response(body=body, headers={"Content-Type": kind})


async def previews(who: Client, url: str) -> Got:
    return await fetch(who, f"{V1}/preview_url?url={quote(url, safe='')}")


@pytest.fixture
async def alice(another: Callable[..., Awaitable[Running]], person: Callable) -> Client:
    return await person(await another(media={"url_previews": True}, federation=LOCAL))


async def test_a_page_with_opengraph(alice: Client):
    page = """<html><head><title>plain</title>
    <meta property="og:title" content="Cats &amp; dogs">
    <meta property="og:description" content="All
      about them"><meta property="og:image" content="/cat.png">
    <meta property="og:site_name" content="Pets"></head><body>…</body></html>"""
    image = picture()
    async with site({"/": page, "/cat.png": (image, "image/png")}) as (where, asked):
        got = (await previews(alice, f"{where}/#part")).json
        assert got["og:title"] == "Cats & dogs"
        assert got["og:description"] == "All about them"
        assert got["og:site_name"] == "Pets"
        assert got["matrix:image:size"] == len(image)
        assert got["og:image:type"] == "image/png"
        kept = await downloads(alice, path_of(got["og:image"]))
        assert kept.body == image
        many = await asyncio.gather(*(previews(alice, f"{where}/") for _ in range(5)))
        assert all(each.json == got for each in many)
        assert asked == ["/", "/cat.png"]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            "<meta name=twitter:title content=T><meta name=twitter:site content=@s>",
            {"og:title": "T", "og:site_name": "@s"},
        ),
        (
            "<title>A  title</title><script>no()</script><p>Some text</p><p>more</p>",
            {"og:title": "A title", "og:description": "Some text more"},
        ),
        (
            '<h1>Heading</h1><meta name="description" content="D">',
            {"og:title": "Heading", "og:description": "D"},
        ),
        ("", {}),
        ("<<<>>><meta><meta property=og:title><p", {}),
        ('<meta property="og:title" content="&#xd800;x">', {"og:title": "\ufffdx"}),
    ],
)
async def test_other_pages(alice: Client, head: str, expected: dict):
    async with site({"/": head}) as (where, _):
        got = await previews(alice, where + "/")
    assert (got.status, got.json) == (200, expected)


async def test_oembed(alice: Client):
    page = (
        '<link rel=alternate type="application/json+oembed" href="/o"><title>t</title>'
    )
    said = b'{"type": "video", "title": "A film", "thumbnail_url": "i", "html": 1}'
    image = picture(form="JPEG")
    async with site(
        {
            "/v/1": page,
            "/o": (said, "application/json"),
            "/v/i": (image, "image/jpeg"),
        }
    ) as (where, _):
        got = (await previews(alice, f"{where}/v/1")).json
    assert got["og:title"] == "t"
    assert got["matrix:image:size"] == len(image)


async def test_an_image_is_its_own_preview(alice: Client):
    image = picture(form="GIF")
    async with site({"/a.gif": (image, "image/gif"), "/f": (b"x", "a/b")}) as (
        where,
        _,
    ):
        got = (await previews(alice, f"{where}/a.gif")).json
        assert got["matrix:image:size"] == len(image)
        assert (await previews(alice, f"{where}/f")).json == {}
        assert (await previews(alice, f"{where}/none")).refusal == (502, "M_UNKNOWN")


@pytest.mark.parametrize(
    ("body", "declared", "text"),
    [
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        ("“é”".encode("cp1252"), None, "“é”"),
        ("é€".encode(), None, "é€"),
        ("é€".encode()[:-1], None, "é"),
        ('<meta charset="shift_jis">猫'.encode("shift_jis"), None, "猫"),
        ("привет".encode("koi8-r"), "KOI8-R", "привет"),
        ("\ufeffé".encode("utf-16-le"), "utf-8", "é"),
        ("é".encode(), "no-such-charset", "é"),
        (b"abc", "base64", "abc"),
    ],
)
def test_charsets(body: bytes, declared: str | None, text: str):
    assert decoded(body, declared).endswith(text)


def test_the_largest_image_is_taken():
    page = read_page(
        "<img src=a width=100 height=100><img src=b width=300px height=200>"
        "<img src=c width=9 height=9><img src=d><img src=e width=x height=-1>"
    )
    assert page.summary() == {"og:image": "b"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://localhost:{port}/",
        "http://0.0.0.0:{port}/",
        "http://2130706433:{port}/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_private_addresses_are_not_reached(
    another: Callable[..., Awaitable[Running]], person: Callable, url: str
):
    alice = await person(await another(media={"url_previews": True}))
    async with site({"/": "<title>secret</title>"}) as (where, asked):
        port = where.rpartition(":")[2]
        got = await previews(alice, url.format(port=port))
        assert got.refusal == (502, "M_UNKNOWN")
        assert asked == []


async def test_redirects_do_not_lead_there_either(
    another: Callable[..., Awaitable[Running]], person: Callable
):
    only = {"allow_addresses": ["127.0.0.1/32"]}
    alice = await person(await another(media={"url_previews": True}, federation=only))

    def to(location: str) -> Callable:
        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": location})

        return redirect

    pages = {"/a": to("/b"), "/b": "<title>b</title>", "/loop": to("/loop")}
    async with site(pages) as (where, asked):
        assert (await previews(alice, f"{where}/a")).json == {"og:title": "b"}
        assert (await previews(alice, f"{where}/loop")).refusal[0] == 502
        for location in ("http://127.0.0.2:{port}/b", "file:///etc/passwd", "//x:y@a/"):
            pages["/c"] = to(location.format(port=where.rpartition(":")[2]))
            assert (await previews(alice, f"{where}/c")).refusal[0] == 502
        assert asked.count("/b") == 1
        assert asked.count("/loop") == 6


async def test_a_page_without_end_is_read_no_further(alice: Client):
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/html"})
        await answer.prepare(request)
        await answer.write(b"<title>long</title>")
        while True:
            await answer.write(b"<p>" + b"x " * 50_000)

    async with site({"/": endless}) as (where, _):
        got = await previews(alice, where + "/")
    assert got.json["og:title"] == "long"


@pytest.mark.parametrize("url", ["", "ftp://a/", "/etc/passwd", "http://", "http://[/"])
async def test_what_is_no_link(alice: Client, url: str):
    assert (await previews(alice, url)).refusal == (400, "M_INVALID_PARAM")
    got = await fetch(alice, f"{V1}/preview_url")
    assert got.refusal == (400, "M_MISSING_PARAM")


@pytest.mark.parametrize("enabled", [True, False])
async def test_they_are_off_unless_asked_for(
    another: Callable[..., Awaitable[Running]], person: Callable, *, enabled: bool
):
    alice = await person(await another(media={"url_previews": enabled}))
    capabilities = (await alice.get("/_matrix/client/v3/capabilities"))["capabilities"]
    assert capabilities["io.element.msc4452.preview_url"] == {"enabled": enabled}
    if not enabled:
        got = await previews(alice, "https://example.org/")
        assert got.refusal == (403, "M_FORBIDDEN")
