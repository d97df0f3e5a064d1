"""Answers that carry a file: whole, in part, or not at all since the client has it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from homeserver.http.replies import Answer, FileBody, Reply, Stream
from homeserver.media import headers
from homeserver.media.find import not_there
from homeserver.media.media import Media
from homeserver.media.places import Missing, Part, Unavailable
from homeserver.media.receiving import unavailable
from homeserver.media.remote import Fetch
from homeserver.media.store import Content

# Up to this size a file is read at once and sent together with the head.
_SMALL: Final = 128 * 1024
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a file is asked for, and by whom for the count of transfers."""

    headers: Mapping[str, str]
    key: str
    # Instead of the file's own name.
    filename: str | None = None
    # None: as its type allows.
    inline: bool | None = None
    is_public: bool = False
    # Whether the client can be sent to where the file is (MSC3860).
    redirects: bool = False


class CannotSatisfy(Exception):  # noqa: N818 - reads as a sentence at the raise
    """The file has no such part."""


def etag_of(content: Content) -> str:
    """What stands for the content in conditional requests."""
    return f'"{content.sha256.hex()[:32]}"'


def head_of(asked: Asked, kind: str, filename: str | None) -> dict[str, str]:
    """The headers that every answer with this file has."""
    shown = asked.filename or filename
    return {
        **headers.SAFETY,
        "Content-Disposition": headers.disposition(kind, shown, inline=asked.inline),
        # What a URI stands for never changes; it may be taken away, though.
        "Cache-Control": (
            "public, max-age=86400, immutable"
            if asked.is_public
            else "private, max-age=86400, immutable"
        ),
    }


async def serve(media: Media, content: Content, asked: Asked) -> Answer:
    """Answer with a stored file. Raises: M_NOT_FOUND, when the file is gone; 503."""
    kind = content.content_type or headers.OCTETS
    head = head_of(asked, kind, content.filename)
    etag = etag_of(content)
    head |= {"ETag": etag, "Accept-Ranges": "bytes"}
    if _has_it(asked.headers.get("If-None-Match"), etag):
        return Reply(304, b"", head, kind)
    link = (
        link_of(media, content, head["Content-Disposition"])
        if asked.redirects
        else None
    )
    if link is not None:
        # The link ends before anything else would.
        return Reply(307, {}, {"Location": link, "Cache-Control": "no-store"})
    try:
        span = _part(asked.headers, content.size, etag)
    except CannotSatisfy:
        head["Content-Range"] = f"bytes */{content.size}"
        return Reply(416, b"", head, kind)
    status = 200
    start, size = 0, content.size
    if span is not None:
        start, end = span
        status, size = 206, end - start + 1
        head["Content-Range"] = f"bytes {start}-{end}/{content.size}"
    if size <= _SMALL:
        with reading():
            body = await media.files.read(content, start, size)
        return Reply(status, body, head, kind)
    part, after = await opened(media, content, start, size, asked.key)
    if part.file is not None:
        return FileBody(part.file, size, start, after, status, head, kind)
    head["Content-Length"] = str(size)
    return Stream(part.chunks(), status, head, kind, after)


@contextmanager
def reading() -> Iterator[None]:
    """What a store says, as it is told. Raises: M_NOT_FOUND, 503."""
    try:
        yield
    except Missing:
        raise not_there() from None
    except Unavailable as error:
        raise unavailable(error) from error


async def opened(
    media: Media, content: Content, start: int, size: int, key: str
) -> tuple[Part, Callable[[], None]]:
    """A part of a file, counted for `key`, and what to call at its end.

    Raises: M_NOT_FOUND, M_LIMIT_EXCEEDED, 503.
    """
    media.downloads.enter(key)
    try:
        with reading():
            part = await media.files.open(content, start, size)
    except BaseException:
        media.downloads.leave(key)
        raise

    def after() -> None:
        media.downloads.leave(key)
        part.close()

    return part, after


def link_of(media: Media, content: Content, disposition: str) -> str | None:
    """A link to where the file itself is, for who can follow; None: there is none."""
    s3 = media.files.s3
    if s3 is None or not s3.link_seconds or content.place.store != s3.name:
        return None
    return s3.link(
        content.place.key, content.content_type or headers.OCTETS, disposition
    )


async def pass_on(media: Media, fetch: Fetch, asked: Asked) -> Answer:
    """Answer with a file of another server while it arrives.

    Who asks for a later part waits until the file is whole. Raises: MatrixError.
    """
    await fetch.begun()
    start = _RANGE.fullmatch(asked.headers.get("Range", ""))
    if fetch.content is not None or (start is not None and start[1] != "0"):
        return await serve(media, await fetch.stored(), asked)
    head = head_of(asked, fetch.content_type, fetch.filename)
    media.downloads.enter(asked.key)
    return Stream(
        media.fetches.read(fetch),
        200,
        head,
        fetch.content_type,
        lambda: media.downloads.leave(asked.key),
    )


def _has_it(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in known or "*" in known


def _part(asked: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """The first and the last byte that are asked for; None: all.

    Several parts at once, units other than bytes and nonsense count as all (RFC 9110).

    Raises: CannotSatisfy.
    """
    text = asked.get("Range")
    condition = asked.get("If-Range")
    if text is None or (condition is not None and condition.strip() != etag):
        return None
    found = _RANGE.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
        if not int(last):
            raise CannotSatisfy
    else:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size:
        raise CannotSatisfy
    return start, end
