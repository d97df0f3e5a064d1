"""Web Push: messages that only the client can read, without a gateway in between.

MSC4174; RFC 8030 (how it is sent), RFC 8291 (how it is encrypted).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import http_ece
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.push.gateway import GatewayFailed, Gateways
from homeserver.push.pushers import TOKEN_LIFETIME, Pusher
from homeserver.push.vapid import VapidKey

# "Set to `172800`, to expire the push notification after 2 days": MSC4174.
_TTL_S: Final = 172_800
# A push service takes 4096 bytes (RFC 8030, 7.2); 86 are the header of RFC 8188 with
# our key, 17 the end of the one record.
MOST_BYTES: Final = 4096 - 86 - 17
_GONE: Final = (403, 404, 410)
_KEY_BYTES: Final = 65
_AUTH_BYTES: Final = 16
# What may be left out when all is too long, the longest first; `event_id` stays.
_SPARED: Final = (
    "content",
    "room_name",
    "room_alias",
    "sender_display_name",
    "devices",
)


def _decoded(text: str, size: int, name: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise errors.invalid_param(f"{name}: {size} bytes in URL-safe Base64 needed.")
    return raw


def checked_keys(pushkey: str, auth: str) -> tuple[bytes, bytes]:
    """The client's public key, and what it shares with us. Raises: M_INVALID_PARAM."""
    public = _decoded(pushkey, _KEY_BYTES, "pushkey")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    except ValueError:
        raise errors.invalid_param("pushkey: this is no P-256 key.") from None
    return public, _decoded(auth, _AUTH_BYTES, "data.auth")


def encrypted(pushkey: str, auth: str, message: bytes) -> bytes:
    """The message as only the client can read it. RFC 8291."""
    public, secret = checked_keys(pushkey, auth)
    body: bytes = http_ece.encrypt(
        message,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=public,
        auth_secret=secret,
        version="aes128gcm",
    )
    return body


def fitting(told: JsonObject) -> bytes:
    """What is told as JSON, without what makes it too long."""
    shorter = dict(told)
    for name in ("", *_SPARED):
        shorter.pop(name, None)
        encoded = orjson.dumps(shorter)
        if len(encoded) <= MOST_BYTES:
            return encoded
    kept = {name: told[name] for name in ("event_id", "room_id") if name in told}
    return orjson.dumps(kept)


class WebPush:
    """Sends to push services."""

    def __init__(self, gateways: Gateways, key: VapidKey) -> None:
        self._gateways = gateways
        self._key = key

    async def send(self, pusher: Pusher, told: JsonObject, *, is_urgent: bool) -> bool:
        """Pass on a notification; False: the subscription is gone.

        Raises: GatewayFailed.
        """
        headers = {
            "TTL": str(_TTL_S),
            "Urgency": "high" if is_urgent else "normal",
        }
        return await self._post(pusher, fitting(told), headers)

    async def send_token(self, pusher: Pusher, token: str) -> bool:
        """Pass on what the client is to acknowledge with; False as for `send`.

        Raises: GatewayFailed.
        """
        message = orjson.dumps({"app_id": pusher.app_id, "ack_token": token})
        ttl = int(TOKEN_LIFETIME.total_seconds())
        return await self._post(pusher, message, {"TTL": str(ttl), "Urgency": "high"})

    async def _post(
        self, pusher: Pusher, message: bytes, headers: Mapping[str, str]
    ) -> bool:
        data: Mapping[str, Any] = pusher.data
        url = str(data["url"])
        try:
            authorization = self._key.authorization(url)
        except ValueError as error:
            raise GatewayFailed(str(error)) from error
        status, _ = await self._gateways.post(
            url,
            encrypted(pusher.pushkey, str(data["auth"]), message),
            {
                **headers,
                "Authorization": authorization,
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
            },
        )
        if status in _GONE:
            return False
        if not 200 <= status < 300:
            raise GatewayFailed(f"it answered {status}")
        return True
