"""From a page to what it says of itself: OpenGraph, Twitter cards, then plain HTML."""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

MOST_BYTES: Final = 384 * 1024
MOST_VALUE: Final = 1_000
MOST_TEXT: Final = 500
MOST_TAGS: Final = 100
SMALLEST_SIDE: Final = 64
_META_CHARSET: Final = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""",
    re.IGNORECASE,
)
_XML_CHARSET: Final = re.compile(
    rb"""^\s*<\?xml[^>]{0,100}?encoding=["']([A-Za-z0-9_.:-]{1,40})["']"""
)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPACE: Final = re.compile(r"\s+")
_SILENT: Final = frozenset({"script", "style", "noscript", "template", "svg", "nav"})
# Twitter's names for what OpenGraph has too.
_TWITTER: Final[Mapping[str, str]] = {
    "twitter:title": "og:title",
    "twitter:description": "og:description",
    "twitter:image": "og:image",
    "twitter:image:src": "og:image",
    "twitter:image:alt": "og:image:alt",
    "twitter:site": "og:site_name",
}
OEMBED: Final = "application/json+oembed"


def decoded(body: bytes, declared: str | None) -> str:
    """The text of a page, whatever its charset is said, or seems, to be."""
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(charset, "replace")
    said = [declared]
    for pattern in (_META_CHARSET, _XML_CHARSET):
        found = pattern.search(body[:4096])
        said.append(found[1].decode("ascii") if found else None)
    for each in said:
        text = _decode(body, each)
        if text is not None:
            return text
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # A page that was cut off may end within a character.
        if error.reason == "unexpected end of data":
            return body[: error.start].decode("utf-8")
    return body.decode("cp1252", "replace")


def _decode(body: bytes, charset: str | None) -> str | None:
    if charset is None:
        return None
    try:
        # What pages call latin-1 is taken for cp1252, as browsers do.
        name = codecs.lookup(charset).name
        if name in ("iso8859-1", "ascii"):
            name = "cp1252"
        return body.decode(name, "replace")
    except (LookupError, ValueError):
        return None


@dataclass
class Page:
    """What was found in a page."""

    og: dict[str, str] = field(default_factory=dict)
    twitter: dict[str, str] = field(default_factory=dict)
    title: str = ""
    description: str = ""
    text: str = ""
    heading: str = ""
    images: list[tuple[int, str]] = field(default_factory=list)
    oembed: str | None = None

    def summary(self) -> dict[str, str]:
        """What to tell of it; the image is still where the page says."""
        found = {**self.twitter, **self.og}
        title = self.title or self.heading
        if title:
            found.setdefault("og:title", _short(title, MOST_VALUE))
        description = self.description or self.text
        if description:
            found.setdefault("og:description", _short(description, MOST_TEXT))
        if self.images:
            found.setdefault("og:image", max(self.images)[1])
        return found


def read_page(text: str) -> Page:
    """Read a page."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    page = parser.page
    page.text = _clean("".join(parser.words))
    page.title = _clean(page.title)
    page.heading = _clean(page.heading)
    return page


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.words: list[str] = []
        self._length = 0
        self._inside: str | None = None
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs[:50]}
        if tag in _SILENT:
            self._silent += 1
        elif tag == "meta":
            self._meta(values)
        elif tag == "link":
            self._link(values)
        elif tag == "img":
            self._image(values)
        elif tag in ("title", "h1", "p"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == self._inside:
            self._inside = None
            if tag == "p" and self.words:
                self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if self._silent or self._inside is None:
            return
        if self._inside == "title" and len(self.page.title) < MOST_VALUE:
            self.page.title += data[:MOST_VALUE]
        elif self._inside == "h1" and len(self.page.heading) < MOST_VALUE:
            self.page.heading += data[:MOST_VALUE]
        elif self._inside == "p" and self._length < MOST_TEXT * 4:
            self.words.append(data[: MOST_TEXT * 4])
            self._length += len(data)

    def _meta(self, values: Mapping[str, str]) -> None:
        name = (values.get("property") or values.get("name") or "").lower()
        content = _short(_clean(values.get("content", "")), MOST_VALUE)
        page = self.page
        if not content:
            return
        if name.startswith("og:") and len(page.og) < MOST_TAGS and len(name) < 100:
            page.og.setdefault(name, content)
        elif name in _TWITTER:
            page.twitter.setdefault(_TWITTER[name], content)
        elif name == "description":
            page.description = page.description or content
        elif values.get("itemprop") == "image":
            self._candidate(content, 1 << 20)

    def _link(self, values: Mapping[str, str]) -> None:
        href = values.get("href", "")
        if values.get("type", "").lower() == OEMBED and href:
            self.page.oembed = self.page.oembed or href
        elif values.get("rel", "").lower() == "image_src":
            self._candidate(href, 1 << 21)

    def _image(self, values: Mapping[str, str]) -> None:
        width, height = _side(values.get("width")), _side(values.get("height"))
        if min(width, height) >= SMALLEST_SIDE:
            self._candidate(values.get("src", ""), width * height)

    def _candidate(self, url: str, weight: int) -> None:
        if url and len(url) <= 2 * MOST_VALUE and len(self.page.images) < MOST_TAGS:
            self.page.images.append((weight, url))


def _side(value: str | None) -> int:
    digits = (value or "").strip().removesuffix("px")
    return (
        int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
    )


def _clean(text: str) -> str:
    # A lone surrogate, as of "&#xd800;", could not be sent.
    return _SPACE.sub(" ", text).strip().encode("utf-8", "replace").decode()


def _short(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return text[: most - 1].rsplit(" ", 1)[0] + "…"
