"""Thumbnails: sizes, shapes, formats, what is left out of them, and hostile images."""

import asyncio
import io
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable

import pillow_heif
import pytest
from PIL import Image, PngImagePlugin

from homeserver.media import workers
from homeserver.media.media import Media
from tests.support.app import Running
from tests.support.client import Client
from tests.support.media import V1, animation, fetch, picture, thumbnails, uploads

pillow_heif.register_heif_opener()


def is_red(pixel: tuple[int, ...]) -> bool:
    return pixel[0] > 150 and pixel[2] < 100


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ((32, 32, "crop"), (32, 32)),
        ((64, 64, "crop"), (96, 96)),
        ((96, 96, "crop"), (96, 96)),
        ((100, 50, "crop"), (320, 160)),
        ((1, 1, "crop"), (32, 32)),
        ((64, 64, "scale"), (96, 64)),
        ((320, 240, "scale"), (320, 213)),
        ((640, 480, "scale"), (640, 427)),
        ((700, 500, "scale"), (800, 533)),
        ((801, 10, "scale"), (1200, 800)),
        ((5000, 5000, "scale"), (1200, 800)),
        ((3000, 3000, "crop"), (1200, 800)),
    ],
)
async def test_sizes(alice: Client, asked: tuple[int, int, str], size: tuple[int, int]):
    where = await uploads(alice, picture((1200, 800)), "image/png")
    width, height, method = asked
    got = await thumbnails(alice, where, width=width, height=height, method=method)
    assert got.status == 200
    assert got.image.size == size
    assert got.headers["Content-Type"] in ("image/jpeg", "image/png")
    assert got.disposition.startswith("inline; filename=thumbnail.")
    if method == "crop" and width < 1200:
        shown = got.image.convert("RGB")
        assert is_red(shown.getpixel((1, shown.height // 2)))
        assert not is_red(shown.getpixel((shown.width - 2, shown.height // 2)))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "HEIF", "BMP"])
async def test_formats(alice: Client, form: str):
    data = picture((500, 300), form)
    where = await uploads(alice, data, f"image/{form.lower()}")
    got = await thumbnails(alice, where, width=320, height=240)
    assert got.status == 200
    assert got.image.size == (320, 192)
    assert got.image.format in ("JPEG", "PNG")


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "I;16", "CMYK"])
async def test_modes(alice: Client, mode: str):
    form = "JPEG" if mode == "CMYK" else "PNG"
    where = await uploads(alice, picture((500, 300), form, mode), "image/png")
    got = await thumbnails(alice, where, width=320, height=240)
    assert (got.status, got.image.size) == (200, (320, 192))
    assert got.image.format == ("PNG" if mode in ("LA", "RGBA") else "JPEG")


async def test_a_small_image_is_its_own_thumbnail(alice: Client):
    for form in ("PNG", "JPEG", "GIF", "WEBP"):
        data = picture((20, 10), form)
        where = await uploads(alice, data, "application/octet-stream")
        got = await thumbnails(alice, where)
        assert (got.status, got.body) == (200, data)
        assert got.headers["Content-Type"] == f"image/{form.lower()}"
    avif = await uploads(alice, picture((20, 10), "AVIF"), "image/avif")
    got = await thumbnails(alice, avif)
    assert got.image.size == (20, 10)
    assert got.image.format == "JPEG"


@pytest.mark.parametrize(
    ("size", "form"), [((300, 200), "JPEG"), ((40, 20), "JPEG"), ((300, 200), "HEIF")]
)
async def test_it_stands_upright_and_says_nothing_about_itself(
    alice: Client, size: tuple[int, int], form: str
):
    image = Image.open(io.BytesIO(picture(size)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "taken at home"
    out = io.BytesIO()
    image.save(out, form, exif=exif.tobytes(), quality=95)
    where = await uploads(alice, out.getvalue(), "image/jpeg")
    got = await thumbnails(alice, where, width=96, height=96)
    shown = got.image
    assert shown.width < shown.height
    assert not dict(shown.getexif())
    assert b"taken at home" not in got.body
    assert is_red(shown.convert("RGB").getpixel((shown.width // 2, 2)))


async def test_text_in_a_png_is_left_out(alice: Client):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "a secret")
    where = await uploads(alice, picture((20, 20), pnginfo=notes), "image/png")
    got = await thumbnails(alice, where)
    assert got.image.size == (20, 20)
    assert b"a secret" not in got.body


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
async def test_animations_move_for_who_wants_them_to(alice: Client, form: str):
    where = await uploads(alice, animation(form), f"image/{form.lower()}")
    for query in ({}, {"animated": "false"}):
        still = (await thumbnails(alice, where, **query)).image
        assert not getattr(still, "is_animated", False)
    moving = await thumbnails(alice, where, animated="true")
    assert moving.headers["Content-Type"] == "image/webp"
    assert moving.image.n_frames == 5
    assert moving.image.size == (96, 64)
    old = await thumbnails(alice, where, **{"org.matrix.msc2705.animated": "true"})
    assert old.body == moving.body
    jpeg = await uploads(alice, picture((300, 200), "JPEG"), "image/jpeg")
    plain = await thumbnails(alice, jpeg, animated="true")
    assert plain.image.format == "JPEG"


async def test_a_small_animation_stands_still_unless_asked(alice: Client):
    data = animation(size=(30, 20))
    where = await uploads(alice, data, "image/gif")
    still = await thumbnails(alice, where)
    assert not getattr(still.image, "is_animated", False)
    assert (await thumbnails(alice, where, animated="true")).body == data


async def test_it_is_made_once_and_by_others(alice: Client, hearth: Running):
    where = await uploads(alice, picture((900, 700)), "image/png")
    media = hearth.ctx.parts.get(Media)
    made = []
    make = media.workers.make

    async def counted(job: workers.Job) -> workers.Made:
        made.append(job)
        return await make(job)

    media.workers.make = counted
    try:
        all_of_them = await asyncio.gather(
            *(thumbnails(alice, where) for _ in range(9))
        )
        again = await thumbnails(alice, where, width=90, height=50)
    finally:
        media.workers.make = make
    assert len({got.body for got in (*all_of_them, again)}) == 1
    assert len(made) == 1
    assert "PIL" not in {
        name for name, module in sys.modules.items() if "homeserver" in name
    }


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({"width": "x"}, "M_INVALID_PARAM"),
        ({"height": -1}, "M_INVALID_PARAM"),
        ({"width": 0}, "M_INVALID_PARAM"),
        ({"method": "stretch"}, "M_INVALID_PARAM"),
        ({"animated": "maybe"}, "M_INVALID_PARAM"),
    ],
)
async def test_sizes_that_are_none(alice: Client, query: dict, errcode: str):
    where = await uploads(alice, picture(), "image/png")
    assert (await thumbnails(alice, where, **query)).refusal == (400, errcode)
    got = await fetch(alice, f"{V1}/thumbnail/{where}?width=10")
    assert got.refusal == (400, "M_MISSING_PARAM")


# ── hostile images ───────────────────────────────────────────────────────────────────


def png_of(width: int, height: int, rows: int | None = None) -> bytes:
    """A PNG that claims to be so large; of zeros, so that it is a small file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = height if rows is None else rows
    data = zlib.compress(bytes((width * 3 + 1) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data)


async def test_a_bomb_is_refused(alice: Client):
    where = await uploads(alice, png_of(50_000, 50_000, rows=10), "image/png")
    assert (await thumbnails(alice, where)).refusal == (413, "M_TOO_LARGE")


HOSTILE = {
    "text": b"no image at all",
    "nothing": b"",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/>',
    "html": b"<html><script>alert(1)</script></html>",
    "half a png": picture((900, 900))[:300],
    "half a jpeg": picture((900, 900), "JPEG")[:200],
    "half a gif": b"GIF89a\xff\xff\xff\xff",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    "a tiff": picture((90, 90), "TIFF"),
    "an icon": picture((90, 90), "ICO"),
    "a polyglot": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_no_image_gets_no_thumbnail(alice: Client, what: str):
    where = await uploads(alice, HOSTILE[what], "image/png")
    got = await thumbnails(alice, where)
    assert got.refusal == (400, "M_UNKNOWN")
    # The next one is none the worse for it.
    where = await uploads(alice, picture(), "image/png")
    assert (await thumbnails(alice, where)).status == 200


async def test_a_worker_that_hangs_or_dies_is_replaced(
    another: Callable[..., Awaitable[Running]],
    person: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    server = await another(media={"thumbnail_workers": 1})
    alice = await person(server)
    media = server.ctx.parts.get(Media)
    first = await uploads(alice, picture(), "image/png")
    assert (await thumbnails(alice, first)).status == 200
    (worker,) = media.workers._all
    worker.process.kill()
    await worker.process.wait()
    second = await uploads(alice, picture(), "image/png")
    # It was dead before it was asked: that is noticed, and costs at most this one.
    await thumbnails(alice, second)
    assert (await thumbnails(alice, second)).status == 200
    monkeypatch.setattr(workers, "JOB_SECONDS", 0.0)
    third = await uploads(alice, picture(), "image/png")
    assert (await thumbnails(alice, third)).refusal == (400, "M_UNKNOWN")
    assert not media.workers._all
    monkeypatch.undo()
    assert (await thumbnails(alice, third)).status == 200


async def test_workers_end_when_idle(
    another: Callable[..., Awaitable[Running]],
    person: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.05)
    server = await another()
    alice = await person(server)
    where = await uploads(alice, picture(), "image/png")
    await thumbnails(alice, where)
    media = server.ctx.parts.get(Media)
    async with asyncio.timeout(20):
        while media.workers._all:
            await asyncio.sleep(0.02)
