"""Thumbnails: which sizes there are, and how one comes into being, once.

Spec: client-server-api#thumbnails
"""

from dataclasses import dataclass, replace
from typing import Final

import structlog

from federation.wire import calls_media
from federation.wire.calls_media import Wanted
from federation.wire.errors import WireError
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as
from homeserver.errors import MatrixError
from homeserver.http.requests import Request
from homeserver.media import headers, store
from homeserver.media.find import Sought, find_stored, not_there
from homeserver.media.media import Media
from homeserver.media.places import Draft, Missing, Place, Unavailable
from homeserver.media.receiving import TooBig, drafting, receive, unavailable
from homeserver.media.remote import as_matrix_error, too_large_elsewhere
from homeserver.media.store import Content
from homeserver.media.upload import settle
from homeserver.media.workers import Job, Made, NoThumbnail, TooManyPixels

CROP: Final = "crop"
SCALE: Final = "scale"
# "Servers SHOULD produce thumbnails with the following dimensions", and larger ones for
# those who ask for more. A thumbnail is as large as asked for, or larger.
BOXES: Final = (
    (32, 32),
    (96, 96),
    (320, 240),
    (640, 480),
    (800, 600),
    (1600, 1200),
    (3200, 2400),
)
# The longer side of a crop; the other one is as the shape that is asked for has it.
SIDES: Final = (32, 96, 320, 640, 800, 1600, 3200)
# Shapes of one file beyond this are made and not kept.
MOST_KEPT: Final = 60
MAX_SOURCE: Final = 200 * 2**20
# What another server's thumbnail may be.
MAX_FOREIGN: Final = 16 * 2**20
TYPES: Final = frozenset(
    {"image/png", "image/apng", "image/jpeg", "image/gif", "image/webp"}
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    """A thumbnail as it is made and kept."""

    width: int
    height: int
    method: str
    animated: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A thumbnail that is stored."""

    sha256: bytes
    size: int
    content_type: str
    store: str
    key: str

    @property
    def content(self) -> Content:
        """It as a file, with a name that tells what it is."""
        extension = headers.essence(self.content_type).partition("/")[2]
        return Content(
            self.sha256,
            self.size,
            self.content_type,
            f"thumbnail.{extension}",
            Place(self.store, self.key),
        )


def size_of(request: Request) -> Size:
    """The size to make for a request. Raises: M_INVALID_PARAM, M_MISSING_PARAM."""
    request.query_required("width")
    request.query_required("height")
    width = request.query_int("width", 0, minimum=1, at_most=SIDES[-1])
    height = request.query_int("height", 0, minimum=1, at_most=SIDES[-1])
    method = request.query_choice("method", CROP, SCALE) or SCALE
    # COMPAT(clients of before v1.11): the name in MSC2705.
    animated = request.query_bool(
        "animated", default=request.query_bool("org.matrix.msc2705.animated")
    )
    return fitting(Size(width, height, method, animated))


def fitting(asked: Size) -> Size:
    """The size that is made for one that is asked for: at least as large."""
    if asked.method == CROP:
        longer = max(asked.width, asked.height)
        side = next((each for each in SIDES if each >= longer), SIDES[-1])
        return replace(
            asked,
            width=max(1, -(-asked.width * side // longer)),
            height=max(1, -(-asked.height * side // longer)),
        )
    box = next(
        (box for box in BOXES if box[0] >= asked.width and box[1] >= asked.height),
        BOXES[-1],
    )
    return replace(asked, width=box[0], height=box[1])


async def thumbnail(ctx: Context, media: Media, sought: Sought, size: Size) -> Content:
    """A thumbnail of a file, which is made if it is not there yet.

    Raises: M_UNKNOWN, when there can be none; M_TOO_LARGE; as `find`.
    """
    source = await find_stored(ctx, media, sought)
    async with ctx.db.read() as tx:
        kept = await find(tx, source.sha256, size)
    if kept is None:
        # At most one process of ours works on it, and each only once.
        async with ctx.turns.take(("thumbnail", source.sha256, size)):
            async with ctx.db.read() as tx:
                kept = await find(tx, source.sha256, size)
            if kept is None:
                kept = await _make(ctx, media, sought, source, size)
    return kept.content


async def _make(
    ctx: Context, media: Media, sought: Sought, source: Content, size: Size
) -> Kept:
    is_local = sought.mxc.origin == ctx.server_name
    try:
        if source.size > MAX_SOURCE:
            raise TooManyPixels
        async with media.files.local(source) as path:
            made = await media.workers.make(
                Job(path, size.width, size.height, size.method, size.animated)
            )
    except Missing:
        raise not_there() from None
    except Unavailable as error:
        raise unavailable(error) from error
    except NoThumbnail as error:
        if is_local or not ctx.config.federation.enabled:
            raise _refusal(error, is_local=is_local) from None
        try:
            return await _ask_its_server(ctx, media, sought, source, size)
        except (WireError, TooBig, MatrixError) as problem:
            log.info("no thumbnail elsewhere either", reason=str(problem))
            raise _refusal(error, is_local=is_local) from None
    return await _keep(ctx, media, source, size, made)


def _refusal(error: NoThumbnail, *, is_local: bool) -> MatrixError:
    if not isinstance(error, TooManyPixels):
        return errors.unknown("There can be no thumbnail of this file.")
    if is_local:
        return errors.too_large("The file is too large for a thumbnail.")
    return too_large_elsewhere()


async def _keep(
    ctx: Context, media: Media, source: Content, size: Size, made: Made
) -> Kept:
    """Store what was made, and note it."""
    if made.data is None:
        shown = replace(source, content_type=made.content_type)
        async with ctx.db.transaction() as tx:
            await note(tx, source.sha256, size, shown)
        return _kept(shown)
    async with drafting(media.files.begin(len(made.data))) as draft:
        await draft.add((made.data,))
        return await _note(ctx, media, source, size, draft, made.content_type)


async def _note(
    ctx: Context, media: Media, source: Content, size: Size, draft: Draft, kind: str
) -> Kept:
    content = Content(draft.sha256, draft.size, kind, None, await draft.keep())
    async with ctx.db.transaction() as tx:
        place = await store.add_file(tx, content.sha256, content.size, content.place)
        if place is not None:
            await note(tx, source.sha256, size, content)
    try:
        return _kept(await settle(media, content, place))
    except MatrixError:
        raise not_there() from None


def _kept(content: Content) -> Kept:
    return Kept(
        content.sha256,
        content.size,
        content.content_type,
        content.place.store,
        content.place.key,
    )


async def _ask_its_server(
    ctx: Context, media: Media, sought: Sought, source: Content, size: Size
) -> Kept:
    """What its own server makes of a file that we can make nothing of, such as a video.

    Raises: WireError, TooBig, MatrixError.
    """
    wanted = Wanted(sought.mxc.origin, sought.mxc.media_id, 0)
    query = [
        ("width", str(size.width)),
        ("height", str(size.height)),
        ("method", size.method),
        ("animated", "true" if size.animated else "false"),
    ]
    async with (
        calls_media.get_content_thumbnail(ctx.wire, wanted, query) as file,
        drafting(media.files.begin(None)) as draft,
    ):
        kind = headers.content_type(file.content_type)
        if headers.essence(kind) not in TYPES:
            raise as_matrix_error(TooBig())
        await receive(draft, file.chunks, MAX_FOREIGN)
        return await _note(ctx, media, source, size, draft, kind)


async def find(tx: Tx, source: bytes, size: Size) -> Kept | None:
    """The thumbnail, if it is stored."""
    return await fetch_one_as(
        tx,
        Kept,
        """
        SELECT t.sha256, t.size, t.content_type,
               f.store, coalesce(f.key, encode(f.sha256, 'hex')) AS key
          FROM media_thumbnails t
          JOIN media_files f ON f.sha256 = t.sha256
         WHERE t.source = $1 AND t.width = $2 AND t.height = $3 AND t.method = $4
           AND t.animated = $5
        """,
        source,
        size.width,
        size.height,
        size.method,
        size.animated,
    )


async def note(tx: Tx, source: bytes, size: Size, made: Content) -> None:
    """Note that there is a thumbnail, unless its file has very many of them."""
    await tx.execute(
        """
        INSERT INTO media_thumbnails (source, width, height, method, animated, sha256,
                                      size, content_type)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8
         WHERE $9 > (SELECT count(*) FROM media_thumbnails WHERE source = $1)
        ON CONFLICT (source, width, height, method, animated) DO NOTHING
        """,
        source,
        size.width,
        size.height,
        size.method,
        size.animated,
        made.sha256,
        made.size,
        made.content_type,
        MOST_KEPT,
    )
