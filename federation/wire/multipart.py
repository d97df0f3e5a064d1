"""`multipart/mixed` as servers send media to each other, read piece by piece.

Two parts: a JSON object about the file, and the file, or where it is. Whoever reads
feeds the reader with what comes; nothing but the part under way is kept.

Spec: server-server-api#get_matrixfederationv1mediadownloadmediaid
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from federation.errors import Malformed

MAX_HEAD: Final = 16 * 1024
MAX_JSON: Final = 64 * 1024
# RFC 2046 allows 70 characters; more is forgiven.
_MAX_BOUNDARY: Final = 200
_PARAMETER: Final = re.compile(
    r""";\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)"""
)
_QUOTED: Final = re.compile(r"\\(.)")


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """A header's value and its parameters, names in lower case.

    A parameter in its extended form (RFC 8187) stands under its plain name.
    """
    kind = value.partition(";")[0].strip()
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    for name, raw in _PARAMETER.findall(value):
        is_quoted = raw.startswith('"')
        text = _QUOTED.sub(r"\1", raw[1:-1]) if is_quoted else raw.strip()
        if not name.endswith("*"):
            plain.setdefault(name.lower(), text)
        elif (decoded := _decode(text)) is not None:
            extended.setdefault(name[:-1].lower(), decoded)
    return kind, plain | extended


def _decode(text: str) -> str | None:
    """The text of `charset'language'percent-encoded`, None when it is none."""
    parts = text.split("'", 2)
    if len(parts) != 3 or parts[0].lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(parts[2]).decode(parts[0])
    except (UnicodeDecodeError, LookupError):
        return None


@dataclass(frozen=True, slots=True)
class Part:
    """The head of the part that holds the file; names of headers in lower case."""

    headers: Mapping[str, str]

    @property
    def location(self) -> str | None:
        """Where the file is, when it is not here."""
        return self.headers.get("location")


@dataclass(slots=True)
class Reader:
    """Finds the file in what `feed` is given.

    `part` is known once its head has come; `is_complete` once its end has.
    """

    content_type: str
    part: Part | None = None
    is_complete: bool = False
    # "\r\n--boundary"; the first one may lack the line break, so one is put before all.
    _delimiter: bytes = field(init=False)
    _buffer: bytes = field(init=False, default=b"\r\n")
    _skipped: int = field(init=False, default=0)
    _parts: int = field(init=False, default=0)
    _step: Callable[[list[bytes]], bool] = field(init=False)

    def __post_init__(self) -> None:
        """Find the boundary. Raises: Malformed."""
        kind, parameters = parse_header(self.content_type)
        boundary = parameters.get("boundary", "")
        if kind.lower() != "multipart/mixed":
            raise Malformed(f"the answer is {kind[:80]!r} and not multipart/mixed")
        if not boundary or len(boundary) > _MAX_BOUNDARY or not boundary.isascii():
            raise Malformed("the answer's parts have no usable boundary")
        self._delimiter = b"\r\n--" + boundary.encode()
        self._step = self._skip

    def feed(self, data: bytes) -> bytes:
        """Take what came; the bytes of the file in it. Raises: Malformed."""
        self._buffer += data
        found: list[bytes] = []
        while not self.is_complete and self._step(found):
            pass
        return b"".join(found)

    def _until_delimiter(self) -> tuple[bytes, bool]:
        """What surely stands before the next delimiter, and whether that has come."""
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            before = self._buffer[:at]
            self._buffer = self._buffer[at + len(self._delimiter) :]
            return before, True
        # The rest may be the beginning of a delimiter.
        sure = max(0, len(self._buffer) - len(self._delimiter) + 1)
        before, self._buffer = self._buffer[:sure], self._buffer[sure:]
        return before, False

    def _skip(self, _: list[bytes]) -> bool:
        """Pass over the preamble, and over the JSON part, which says nothing yet."""
        before, ended = self._until_delimiter()
        self._skipped += len(before)
        if self._skipped > MAX_JSON:
            raise Malformed("what comes before the file is too long")
        if ended:
            self._step = self._read_head
        return ended

    def _read_head(self, _: list[bytes]) -> bool:
        """Read the rest of a delimiter's line and the head of a part, once all came."""
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
            raise Malformed("the head of a part is too long")
        if end < 0:
            return False
        padding, _line, lines = self._buffer[:end].partition(b"\r\n")
        if padding.strip(b" \t"):
            raise Malformed("the answer has too few parts")
        self._buffer = self._buffer[end + 4 :]
        self._parts += 1
        if self._parts == 2:
            self.part = Part(_headers(lines))
        self._step = self._begin
        return True

    def _begin(self, _: list[bytes]) -> bool:
        """An empty part ends at once: the break before the delimiter was the head's."""
        bare = self._delimiter[2:]
        if len(self._buffer) < len(bare):
            return False
        self._step = self._skip if self._parts < 2 else self._read_file
        if self._buffer.startswith(bare):
            self._buffer = b"\r\n" + self._buffer
        return True

    def _read_file(self, found: list[bytes]) -> bool:
        body, self.is_complete = self._until_delimiter()
        found.append(body)
        return self.is_complete


def _headers(lines: bytes) -> dict[str, str]:
    """The headers of a part. Raises: Malformed."""
    headers: dict[str, str] = {}
    for line in lines.split(b"\r\n") if lines else ():
        name, colon, value = line.partition(b":")
        if not colon:
            raise Malformed("a part has a header without a colon")
        headers.setdefault(
            name.strip().decode("ascii", "replace").lower(),
            value.strip().decode("utf-8", "replace"),
        )
    return headers


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a file that is sent: a boundary, a beginning and an end."""

    content_type: str
    beginning: bytes
    end: bytes


def frame(headers: Mapping[str, str]) -> Frame:
    """The frame for a file with these headers; with a Location, nothing is in it."""
    boundary = secrets.token_hex(16)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Frame(
        f"multipart/mixed; boundary={boundary}",
        (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n"
            f"--{boundary}\r\n{head}\r\n"
        ).encode(),
        f"\r\n--{boundary}--\r\n".encode(),
    )
