"""What a store answers, as far as we want to know it: XML, of any namespace."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from homeserver.media.places import Unavailable


@dataclass(frozen=True, slots=True)
class Listed:
    """An object, and when it was stored."""

    key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload in parts that has not been completed, and when it last went on."""

    key: str
    upload_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A page of what there is; `more` asks for the next one."""

    listed: list[Listed]
    more: str | None


@dataclass(frozen=True, slots=True)
class BegunPage:
    """A page of uploads; the two markers ask for the next one."""

    begun: list[Begun]
    more: tuple[str, str] | None


def parsed(body: bytes) -> ET.Element:
    """The document. Raises: Unavailable, when it is none."""
    try:
        # The operator's own store; expat bounds what entities grow to.
        return ET.fromstring(body)  # noqa: S314
    except ET.ParseError as error:
        raise Unavailable(f"the store's answer is no XML: {error}") from None


def name_of(element: ET.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def text_of(element: ET.Element, name: str) -> str | None:
    """The text of a child."""
    for child in element:
        if name_of(child) == name:
            return child.text
    return None


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element if name_of(child) == name)


def page_of(body: bytes) -> Page:
    """An answer to ListObjectsV2."""
    document = parsed(body)
    listed = [
        Listed(text_of(each, "Key") or "", _time(text_of(each, "LastModified")))
        for each in _children(document, "Contents")
    ]
    is_cut = text_of(document, "IsTruncated") == "true"
    return Page(listed, text_of(document, "NextContinuationToken") if is_cut else None)


def begun_page_of(body: bytes) -> BegunPage:
    """An answer to ListMultipartUploads."""
    document = parsed(body)
    begun = [
        Begun(
            text_of(each, "Key") or "",
            text_of(each, "UploadId") or "",
            _time(text_of(each, "Initiated")),
        )
        for each in _children(document, "Upload")
    ]
    if text_of(document, "IsTruncated") != "true":
        return BegunPage(begun, None)
    return BegunPage(
        begun,
        (
            text_of(document, "NextKeyMarker") or "",
            text_of(document, "NextUploadIdMarker") or "",
        ),
    )


def last_part_of(body: bytes) -> datetime | None:
    """When the newest part came, by an answer to ListParts."""
    times = [
        _time(text_of(each, "LastModified")) for each in _children(parsed(body), "Part")
    ]
    return max(times, default=None)


def completion(etags: list[str]) -> bytes:
    """What CompleteMultipartUpload says: all parts, in order."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return (
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{parts}</CompleteMultipartUpload>"
    ).encode()


def _time(text: str | None) -> datetime:
    """A time; one that cannot be read is now, so that nothing seems old."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.now(UTC)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
