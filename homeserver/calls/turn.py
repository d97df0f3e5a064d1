"""Names and passwords for TURN servers, which carry calls of two.

With a shared secret the name is the time of its end and the user, and the password a
MAC of it, so that the TURN server can check both without asking us.

Spec: client-server-api#get_matrixclientv3voipturnserver
"""

import base64
import hashlib
import hmac

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.config import Calls


def credentials(calls: Calls, user_id: UserId, now_s: int) -> JsonObject:
    """What the user gets in with; nothing, when there are no TURN servers."""
    if not calls.turn_uris:
        return {}
    username, password = calls.turn_username, calls.turn_password
    if calls.turn_shared_secret:
        username = f"{now_s + calls.turn_lifetime_s}:{user_id}"
        # TURN servers know this MAC with SHA-1 only.
        mac = hmac.new(
            calls.turn_shared_secret.encode(), username.encode(), hashlib.sha1
        )
        password = base64.b64encode(mac.digest()).decode()
    return {
        "username": username,
        "password": password,
        "ttl": calls.turn_lifetime_s,
        "uris": list(calls.turn_uris),
    }
