"""What is said about a file in HTTP headers: its type, its name, what it may do.

Spec: client-server-api#serving-inline-content
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

OCTETS: Final = "application/octet-stream"
MAX_TYPE: Final = 255
MAX_NAME: Final = 1000

# "Servers SHOULD restrict `Content-Type` headers to one of the following values when
# serving content with `Content-Disposition: inline`".
INLINE: Final = frozenset(
    {
        "text/css",
        "text/plain",
        "text/csv",
        "application/json",
        "application/ld+json",
        "image/jpeg",
        "image/gif",
        "image/png",
        "image/apng",
        "image/webp",
        "image/avif",
        "video/mp4",
        "video/webm",
        "video/ogg",
        "video/quicktime",
        "audio/mp4",
        "audio/webm",
        "audio/aac",
        "audio/mpeg",
        "audio/ogg",
        "audio/wave",
        "audio/wav",
        "audio/x-wav",
        "audio/x-pn-wav",
        "audio/flac",
        "audio/x-flac",
    }
)

# What the specification recommends in client-server-api#content-repository.
SAFETY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf;"
        " style-src 'unsafe-inline'; object-src 'self';"
    ),
    "Cross-Origin-Resource-Policy": "cross-origin",
    # What is declared an image is never taken for a page.
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+"
    r"(\s*;\s*[A-Za-z0-9!#$&^_.+\-]+=([A-Za-z0-9!#$&^_.+\-]+|\"[ !#-\[\]-~]*\"))*"
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$&+\-.^_`|~]+")
_QUOTABLE: Final = re.compile(r"[ -~]+")
# What RFC 8187 lets stand as it is.
_ATTR_CHARS: Final = "!#$&+-.^_`|~"


def content_type(value: str | None) -> str:
    """The type that a file is said to have, as far as it is one."""
    text = (value or "").strip()
    if len(text) <= MAX_TYPE and _TYPE.fullmatch(text):
        return text
    return OCTETS


def essence(kind: str) -> str:
    """A type without its parameters."""
    return kind.partition(";")[0].strip().lower()


def disposition(kind: str, filename: str | None, *, inline: bool | None = None) -> str:
    """The Content-Disposition of a file, by its type.

    A name beyond ASCII is given in its extended form too (RFC 6266, 8187).
    """
    if inline is None:
        inline = essence(kind) in INLINE
    value = "inline" if inline else "attachment"
    if not filename:
        return value
    if _PLAIN.fullmatch(filename):
        return f"{value}; filename={filename}"
    if _QUOTABLE.fullmatch(filename):
        escaped = filename.replace("\\", "\\\\").replace('"', '\\"')
        return f'{value}; filename="{escaped}"'
    extended = quote(filename.encode("utf-8", "replace"), safe=_ATTR_CHARS)
    # For who knows no extended form; it stands first, since some take the first one.
    plain = re.sub(r'[^ -~]|["\\%]', "_", filename)
    return f"{value}; filename=\"{plain}\"; filename*=utf-8''{extended}"
