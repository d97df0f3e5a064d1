"""What a profile field may be.

Spec: client-server-api#put_matrixclientv3profileuseridkeyname
"""

import re
from typing import Final

from federation import canonical_json
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from homeserver import errors

DISPLAY_NAME: Final = "displayname"
AVATAR_URL: Final = "avatar_url"
TIME_ZONE: Final = "m.tz"
# What member events carry.
IN_MEMBER_EVENTS: Final = frozenset({DISPLAY_NAME, AVATAR_URL})

MAX_NAME_BYTES: Final = 255
MAX_PROFILE_BYTES: Final = 64 * 1024
# They stand in each member event, so they stay far below its 64 KiB.
MAX_DISPLAY_NAME: Final = 256
MAX_AVATAR_URL: Final = 1000

# The common namespaced identifier grammar, with a namespace.
_NAMESPACED: Final = re.compile(r"[a-z][a-z0-9_\-]*(\.[a-z0-9_\-]+)+")


def check_name(name: str) -> None:
    """Refuse a field name that cannot be one.

    Raises: M_KEY_TOO_LARGE, M_INVALID_PARAM.
    Spec: appendices#common-namespaced-identifier-grammar
    """
    if len(name.encode()) > MAX_NAME_BYTES:
        raise errors.key_too_large()
    if name not in IN_MEMBER_EVENTS and not _NAMESPACED.fullmatch(name):
        raise errors.invalid_param(
            "A profile field is displayname, avatar_url, or has a name like "
            "org.example.field."
        )


def check_value(name: str, value: JsonValue) -> None:
    """Refuse a value that the field cannot have.

    Null is refused, since other servers take it for a field that is not set.

    Raises: M_INVALID_PARAM, M_BAD_JSON.
    """
    if value is None:
        raise errors.bad_json(f"{name}: to remove the field, use DELETE.")
    if name in (DISPLAY_NAME, AVATAR_URL, TIME_ZONE) and not isinstance(value, str):
        raise errors.bad_json(f"{name}: a string is needed.")
    if name == DISPLAY_NAME and len(str(value)) > MAX_DISPLAY_NAME:
        raise errors.invalid_param(
            f"{name}: at most {MAX_DISPLAY_NAME} characters are taken."
        )
    if name == AVATAR_URL and value != "":
        text = str(value)
        if not text.startswith("mxc://") or len(text) > MAX_AVATAR_URL:
            raise errors.invalid_param(f"{name}: an mxc:// URI is needed.")
    try:
        # It may be told in events of ours and of others.
        canonical_json.check(value, strict=True)
    except Malformed as error:
        raise errors.of_caller(error) from None


def check_size(profile: JsonObject) -> None:
    """Refuse a profile over 64 KiB. Raises: M_PROFILE_TOO_LARGE."""
    if len(canonical_json.encode(profile)) > MAX_PROFILE_BYTES:
        raise errors.profile_too_large()


def is_removal(name: str, value: JsonValue) -> bool:
    """Whether the value only says that there is none.

    COMPAT(clients older than v1.16): they cannot delete, so they set "".
    """
    return name in IN_MEMBER_EVENTS and value == ""
