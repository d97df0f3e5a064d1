"""The key by which Web Push services know this server. RFC 8292 (VAPID).

It is made once and stays, whatever happens to the signing key: what clients subscribed
with it would be worth nothing with another.
"""

import base64
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

import py_vapid
from cryptography.hazmat.primitives.asymmetric import ec

from federation.canonical_json import JsonObject
from homeserver.config import Config
from homeserver.db.pool import Database, Tx

# "The value of the exp claim MUST NOT be more than 24 hours from the time of the
# request": RFC 8292, 2.
_LIFETIME_S: Final = 12 * 3600
_RENEW_S: Final = 3600
_MOST_TOKENS: Final = 1000
_BYTES: Final = 32


class VapidKey:
    """The key, and the tokens that it has signed lately.

    "The homeserver should reuse the authorization tokens to permit the push server to
    cache the results of signature validation": MSC4174.
    """

    def __init__(
        self,
        private_key: bytes,
        public_key: bytes,
        contact: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._private_key = private_key
        # In URL-safe Base64 without padding.
        self.public: Final = base64.urlsafe_b64encode(public_key).decode().rstrip("=")
        self._contact = contact
        self._now = now
        self._tokens: dict[str, tuple[float, str]] = {}  # by origin: expiry and header

    @cached_property
    def _vapid(self) -> Any:  # noqa: ANN401 - py_vapid has no types
        encoded = base64.urlsafe_b64encode(self._private_key)
        vapid = py_vapid.Vapid02.from_raw(encoded)
        # A server's name may be an address or have a port, which `strict` refuses.
        vapid.conf = {"no-strict": True}
        return vapid

    def capability(self) -> JsonObject:
        """What clients are told of it. MSC4174."""
        return {"enabled": True, "vapid": self.public}

    def authorization(self, url: str) -> str:
        """The header for a push resource. Raises: ValueError, when it has no origin."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        now = self._now()
        expires, header = self._tokens.get(origin, (0.0, ""))
        if expires - now > _RENEW_S:
            return header
        claims = {"aud": origin, "exp": int(now + _LIFETIME_S), "sub": self._contact}
        try:
            header = str(self._vapid.sign(claims)["Authorization"])
        except py_vapid.VapidException as error:
            raise ValueError(str(error)) from error
        if len(self._tokens) >= _MOST_TOKENS:
            self._tokens.clear()
        self._tokens[origin] = (now + _LIFETIME_S, header)
        return header


async def vapid_key(db: Database, config: Config) -> VapidKey:
    """The key of this server, made when it is first asked for."""
    async with db.transaction() as tx:
        private_key, public_key = await _read_or_make(tx)
    email = config.support.admin_email
    contact = f"mailto:{email}" if email else f"https://{config.server_name}"
    return VapidKey(private_key, public_key, contact)


async def _read_or_make(tx: Tx) -> tuple[bytes, bytes]:
    found = await tx.fetchrow("SELECT private_key, public_key FROM vapid_key")
    if found is not None:
        return found["private_key"], found["public_key"]
    made = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = made.public_numbers
    public = b"\x04" + point.x.to_bytes(_BYTES) + point.y.to_bytes(_BYTES)
    # Another process may have made one meanwhile: its key counts.
    private_key, public_key = await tx.fetchrow(  # type: ignore[misc]
        """
        INSERT INTO vapid_key (private_key, public_key) VALUES ($1, $2)
        ON CONFLICT (is_only) DO UPDATE SET private_key = vapid_key.private_key
        RETURNING private_key, public_key
        """,
        made.private_value.to_bytes(_BYTES),
        public,
    )
    return private_key, public_key
