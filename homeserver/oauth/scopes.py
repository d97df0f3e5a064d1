"""What a client asks for. Spec: client-server-api#scope."""

import re
from dataclasses import dataclass
from typing import Final

from federation.ids import DeviceId
from homeserver.oauth.errors import OAuthError

API: Final = "urn:matrix:client:api:*"
DEVICE: Final = "urn:matrix:client:device:"
# COMPAT(clients of MSC2967)
UNSTABLE_API: Final = "urn:matrix:org.matrix.msc2967.client:api:*"
UNSTABLE_DEVICE: Final = "urn:matrix:org.matrix.msc2967.client:device:"

MAX_DEVICE_ID: Final = 255
MAX_SCOPE: Final = 2048
# RFC 6749, 3.3
_TOKEN: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """The device that a client asks for, and all that it is granted."""

    device_id: DeviceId
    granted: str


def parse_scope(text: str) -> Scope:
    """What of a scope is granted: access to the client API, for one device.

    Other tokens, such as `openid`, are left out, as RFC 6749 (3.3) allows.

    Raises: invalid_scope.
    """
    granted, devices = [], set()
    has_api = False
    for token in text.split(" ") if len(text) <= MAX_SCOPE else ():
        if token and not _TOKEN.fullmatch(token):
            raise OAuthError(
                "invalid_scope", "The scope has a sign that none may have."
            )
        if token in (API, UNSTABLE_API):
            has_api = True
        elif token.startswith((DEVICE, UNSTABLE_DEVICE)):
            prefix = DEVICE if token.startswith(DEVICE) else UNSTABLE_DEVICE
            devices.add(token.removeprefix(prefix))
        else:
            continue
        if token not in granted:
            granted.append(token)
    if not has_api:
        raise OAuthError("invalid_scope", f"The scope lacks {API}.")
    if len(devices) != 1:
        raise OAuthError("invalid_scope", "The scope must name exactly one device.")
    device_id = devices.pop()
    if not 0 < len(device_id) <= MAX_DEVICE_ID:
        raise OAuthError("invalid_scope", "The device ID is empty or too long.")
    return Scope(DeviceId(device_id), " ".join(granted))
