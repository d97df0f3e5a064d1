"""Files, and how clients send and fetch them."""

import io
import json
import os
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from PIL import Image
from yarl import URL

from tests.support.api import Api, Json

V1 = "/_matrix/client/v1/media"
V3 = "/_matrix/media/v3"


@dataclass
class Got:
    """An answer that may be a file."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.json["errcode"]

    @property
    def disposition(self) -> str:
        return self.headers["Content-Disposition"]

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body))


async def fetch(
    who: Api,
    where: str,
    *,
    method: str = "GET",
    data: bytes | AsyncIterable[bytes] | None = None,
    **headers: str,
) -> Got:
    """One request; whatever comes back. Underscores in headers are hyphens."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if who.access_token:
        sent.setdefault("Authorization", f"Bearer {who.access_token}")
    async with who.http().request(
        method,
        URL(who.base_url + where, encoded=True),
        data=data,
        headers=sent,
        skip_auto_headers=("Content-Type",),
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=60),
    ) as reply:
        return Got(reply.status, reply.headers, await reply.read())


async def uploads(
    who: Api,
    data: bytes | AsyncIterable[bytes],
    kind: str | None = "text/plain",
    filename: str | None = None,
) -> str:
    """Upload; `server/media_id` as it stands in paths."""
    query = f"?{urlencode({'filename': filename})}" if filename is not None else ""
    headers = {"Content_Type": kind} if kind is not None else {}
    got = await fetch(who, f"{V3}/upload{query}", method="POST", data=data, **headers)
    assert got.status == 200, got.body
    return path_of(got.json["content_uri"])


def path_of(uri: str) -> str:
    """An mxc URI as it stands in paths."""
    assert uri.startswith("mxc://")
    return uri.removeprefix("mxc://")


async def downloads(who: Api, where: str, name: str = "", **headers: str) -> Got:
    named = f"/{quote(name, safe='')}" if name else ""
    return await fetch(who, f"{V1}/download/{where}{named}", **headers)


async def thumbnails(who: Api, where: str, **query: Any) -> Got:
    asked = {"width": 64, "height": 64} | query
    return await fetch(who, f"{V1}/thumbnail/{where}?{urlencode(asked)}")


def noise(size: int) -> bytes:
    """Bytes that nobody else has uploaded."""
    return os.urandom(size)


def picture(
    size: tuple[int, int] = (400, 300),
    form: str = "PNG",
    mode: str = "RGB",
    **options: Any,
) -> bytes:
    """An image whose halves have different colours: red on the left, blue right.

    One pixel of chance makes it another file each time.
    """
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, size[0], size[1]))
    image.putpixel((0, 0), tuple(os.urandom(3)))
    out = io.BytesIO()
    image.convert(mode).save(out, form, **options)
    return out.getvalue()


def animation(form: str = "GIF", frames: int = 5, size: tuple[int, int] = (300, 200)):
    shades = [Image.new("RGB", size, (40 * n % 256, 30, 60)) for n in range(frames)]
    shades[0].putpixel((0, 0), tuple(os.urandom(3)))
    out = io.BytesIO()
    shades[0].save(
        out, form, save_all=True, append_images=shades[1:], duration=70, loop=0
    )
    return out.getvalue()
