"""Answers that carry a file: whole, in part, or not at all since the client has it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

import structlog

from homeserver.http.files import in_thread
from homeserver.http.replies import Answer, FileBody, Reply, Stream
from homeserver.media import headers
from homeserver.media.find import not_there
from homeserver.media.media import Media
from homeserver.media.remote import Fetch
from homeserver.media.store import Content

# Up to this size a file is read at once and sent together with the head.
_SMALL: Final = 128 * 1024
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

log = structlog.get_logger(__name__)


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
    """Answer with a stored file. Raises: M_NOT_FOUND, when it is not on the disk."""
    kind = content.content_type or headers.OCTETS
    head = head_of(asked, kind, content.filename)
    etag = etag_of(content)
    head |= {"ETag": etag, "Accept-Ranges": "bytes"}
    if _has_it(asked.headers.get("If-None-Match"), etag):
        return Reply(304, b"", head, kind)
    try:
        part = _part(asked.headers, content.size, etag)
    except CannotSatisfy:
        head["Content-Range"] = f"bytes */{content.size}"
        return Reply(416, b"", head, kind)
    status = 200
    start, size = 0, content.size
    if part is not None:
        start, end = part
        status, size = 206, end - start + 1
        head["Content-Range"] = f"bytes {start}-{end}/{content.size}"
    try:
        if size <= _SMALL:
            body = await in_thread(_read, media, content.sha256, start, size)
            return Reply(status, body, head, kind)
        media.downloads.enter(asked.key)
        try:
            file = await in_thread(media.disk.open, content.sha256)
        except BaseException:
            media.downloads.leave(asked.key)
            raise
    except FileNotFoundError:
        log.error("a stored file is gone", sha256=content.sha256.hex())  # noqa: TRY400 - the trace says nothing
        raise not_there() from None
    return FileBody(
        file, size, start, lambda: media.downloads.leave(asked.key), status, head, kind
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


def _read(media: Media, sha256: bytes, start: int, size: int) -> bytes:
    with media.disk.open(sha256) as file:
        return read_exactly(file, start, size)


def read_exactly(file: BinaryIO, start: int, size: int) -> bytes:
    """A part of a file. Raises: EOFError."""
    file.seek(start)
    body = file.read(size)
    if len(body) != size:
        raise EOFError("a stored file is shorter than it should be")
    return body


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
