"""Going where a link leads, and coming back with a preview, within limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson
import structlog

from federation.canonical_json import JsonObject
from federation.wire.multipart import parse_header
from federation.wire.web import WebError, WebLimits
from homeserver import errors
from homeserver.context import Context
from homeserver.media import headers
from homeserver.media.ids import new_id
from homeserver.media.media import Media
from homeserver.media.previews.page import MOST_BYTES, Page, decoded, read_page
from homeserver.media.receiving import TooBig, drafting, receive
from homeserver.media.remote import keep_copy
from homeserver.media.store import Content, Mxc
from homeserver.media.thumbnails import TYPES

# All of it: the page, what it points to, its image.
SECONDS: Final = 20.0
MOST_IMAGE: Final = 10 * 2**20
_LIMITS: Final = WebLimits(seconds=10.0, redirects=5, schemes=("http", "https"))
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_HEADERS: Final = {
    "User-Agent": "Mozilla/5.0 (compatible; hearth link preview)",
    "Accept": "text/html,application/xhtml+xml,image/*;q=0.8,*/*;q=0.5",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Arrived:
    url: str
    kind: str
    charset: str | None
    response: aiohttp.ClientResponse


async def look(ctx: Context, url: str) -> JsonObject:
    """The preview of a link. Raises: 502, when it leads nowhere."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _look(ctx, url)
    except (WebError, TimeoutError, TooBig, aiohttp.ClientError, OSError) as error:
        log.info("no preview", reason=str(error) or type(error).__name__)
        raise errors.bad_gateway("The page could not be read.") from None


@asynccontextmanager
async def _get(ctx: Context, url: str) -> AsyncIterator[_Arrived]:
    async with ctx.wire.web.get(url, headers=_HEADERS, limits=_LIMITS) as response:
        if response.status != 200:
            raise WebError(f"it answers {response.status}")
        kind, parameters = parse_header(response.headers.get("Content-Type", ""))
        yield _Arrived(
            str(response.url), kind.lower(), parameters.get("charset"), response
        )


async def _look(ctx: Context, url: str) -> JsonObject:
    async with _get(ctx, url) as arrived:
        if arrived.kind in TYPES or arrived.kind == "image/avif":
            return await _image(ctx, arrived)
        if arrived.kind not in _PAGES:
            return {}
        body = await _beginning(arrived.response)
    text = decoded(body, arrived.charset)
    page = await asyncio.to_thread(read_page, text)
    found: JsonObject = {}
    found.update(page.summary())
    if page.oembed is not None and not {"og:title", "og:image"} <= page.og.keys():
        found = {**await _oembed(ctx, urljoin(arrived.url, page.oembed)), **found}
    return await _with_image(ctx, arrived.url, page, found)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """As much of a page as is read; what it says of itself stands at its top."""
    body = b""
    while len(body) < MOST_BYTES and (piece := await response.content.readany()):
        body += piece
    return body[:MOST_BYTES]


async def _oembed(ctx: Context, url: str) -> JsonObject:
    """What an oEmbed provider says (oembed.com); nothing when it says nothing good."""
    try:
        async with _get(ctx, url) as arrived:
            said = orjson.loads(await _beginning(arrived.response))
    except (WebError, aiohttp.ClientError, OSError, ValueError):
        return {}
    if not isinstance(said, dict):
        return {}
    photo = said.get("url") if said.get("type") == "photo" else None
    names = {
        "og:title": said.get("title"),
        "og:site_name": said.get("provider_name"),
        "og:description": said.get("author_name"),
        "og:image": photo or said.get("thumbnail_url"),
    }
    return {
        name: value[:1000]
        for name, value in names.items()
        if isinstance(value, str) and value
    }


async def _with_image(
    ctx: Context, base: str, page: Page, found: JsonObject
) -> JsonObject:
    """The preview with its image as a file of ours; one that fails is left out."""
    secure = page.og.get("og:image:secure_url") or page.og.get("og:image:url")
    where = found.pop("og:image", None) or secure
    for name in ("og:image:url", "og:image:secure_url"):
        found.pop(name, None)
    if not isinstance(where, str):
        return found
    try:
        async with _get(ctx, urljoin(base, where)) as arrived:
            found.update(await _image(ctx, arrived))
    except (WebError, TooBig, aiohttp.ClientError, OSError, ValueError) as error:
        log.info("no image for a preview", reason=str(error))
    return found


async def _image(ctx: Context, arrived: _Arrived) -> JsonObject:
    """Keep an image. It counts as a copy, and goes with the oldest of them."""
    if arrived.kind not in TYPES and arrived.kind != "image/avif":
        return {}
    media = ctx.parts.get(Media)
    name = urlsplit(arrived.url).path.rpartition("/")[2][:200] or None
    async with drafting(media.files.begin(None)) as draft:
        chunks = arrived.response.content.iter_any()
        await receive(draft, chunks.__aiter__(), MOST_IMAGE)
        kind = headers.content_type(arrived.kind)
        content = Content(draft.sha256, draft.size, kind, name, await draft.keep())
        mxc = Mxc(ctx.server_name, new_id())
        if await keep_copy(ctx.db, media.files, mxc, content) is None:
            return {}
    return {
        "og:image": str(mxc),
        "og:image:type": content.content_type,
        "matrix:image:size": content.size,
    }
