"""The parts of an mxc URI.

Spec: client-server-api#matrix-content-mxc-uris
"""

import re
import secrets
from typing import Final

from federation.ids import ServerName
from homeserver import errors
from homeserver.http.requests import Request
from homeserver.media.store import Mxc

MAX_ID: Final = 255
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


def new_id() -> str:
    """A media ID that nobody guesses."""
    return secrets.token_urlsafe(18)


def is_media_id(value: str) -> bool:
    """Whether it is one: "alphanumeric (`A-Za-z0-9`), `_` and `-` characters"."""
    return _ID.fullmatch(value) is not None


def mxc_of(request: Request) -> Mxc:
    """The file that a path names. Raises: M_NOT_FOUND, when nobody has such a file."""
    origin = request.path(ServerName, "serverName")
    return Mxc(origin, media_id_of(request))


def media_id_of(request: Request) -> str:
    """The media ID of a path. Raises: M_NOT_FOUND."""
    media_id = request.path(str, "mediaId")
    if not is_media_id(media_id):
        raise errors.not_found("There is no such file.")
    return media_id
