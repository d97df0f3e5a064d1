"""The secrets that clients hold: access, refresh, log-in and OpenID tokens.

`hth_` + 43 characters that nobody can guess + `_` + a check of six, so that a scanner
can find lost tokens and a mistyped one costs no look into the database. Only SHA-256 of
a token is stored: it holds 256 random bits, so no slow hash is needed.
"""

import base64
import hashlib
import secrets
import string
import zlib
from typing import Final

from federation.ids import DeviceId

ACCESS: Final = "hth_"
REFRESH: Final = "htr_"
LOGIN: Final = "htl_"
OPENID: Final = "hto_"

_PREFIXES: Final = (ACCESS, REFRESH, LOGIN, OPENID)
_RANDOM_BYTES: Final = 32
_CHECK_LENGTH: Final = 7  # with its "_"
_MAX_LENGTH: Final = 1024
_DEVICE_ID_LENGTH: Final = 10
_SESSION_BYTES: Final = 18


def new_token(prefix: str) -> str:
    """A token of a kind."""
    body = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """False only for what was never a token of ours.

    Tokens that were imported from another server have any form.
    """
    if not 0 < len(token) <= _MAX_LENGTH:
        return False
    if not token.startswith(_PREFIXES):
        return True
    body, checksum = token[:-_CHECK_LENGTH], token[-_CHECK_LENGTH:]
    return checksum == _checksum(body)


def hash_of(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_device_id() -> DeviceId:
    """An ID for a device whose client gave none."""
    return DeviceId(
        "".join(
            secrets.choice(string.ascii_uppercase) for _ in range(_DEVICE_ID_LENGTH)
        )
    )


def new_session_id() -> str:
    """An ID that nobody can guess."""
    return secrets.token_urlsafe(_SESSION_BYTES)


def _checksum(body: str) -> str:
    crc = zlib.crc32(body.encode("utf-8", "surrogatepass"))
    return "_" + base64.urlsafe_b64encode(crc.to_bytes(4)).decode().rstrip("=")
