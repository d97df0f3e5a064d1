"""Proof that a tool knows the configured secret, as Synapse's admin API defines it.

A nonce needs no memory here: it carries its age and is signed with a key made from the
secret, so that any process can check it. Using one twice does no harm, as the proof
covers the user name, which can be taken once.
"""

import hashlib
import hmac
import secrets
from typing import Final

from homeserver import errors
from homeserver.clock import Clock

LIFETIME_MS: Final = 60_000
_RANDOM_BYTES: Final = 16
_TIME_BYTES: Final = 8


def new_nonce(secret: str, clock: Clock) -> str:
    """A nonce that is good for a minute."""
    body = clock.ms().to_bytes(_TIME_BYTES) + secrets.token_bytes(_RANDOM_BYTES)
    return (body + _seal(secret, body)).hex()


def check_nonce(nonce: str, secret: str, clock: Clock) -> None:
    """Refuse a nonce that is not ours or too old. Raises: M_UNKNOWN."""
    try:
        raw = bytes.fromhex(nonce)
    except ValueError:
        raw = b""
    length = _TIME_BYTES + _RANDOM_BYTES
    body, seal = raw[:length], raw[length:]
    made_at = int.from_bytes(body[:_TIME_BYTES])
    if not hmac.compare_digest(seal, _seal(secret, body)):
        raise errors.unknown("The nonce is not known. Get a new one.")
    if not 0 <= clock.ms() - made_at <= LIFETIME_MS:
        raise errors.unknown("The nonce is too old. Get a new one.")


def check_mac(
    mac: str,
    secret: str,
    nonce: str,
    username: str,
    password: str,
    *,
    is_admin: bool,
    user_type: str | None,
) -> None:
    """Refuse who does not know the secret. Raises: M_FORBIDDEN."""
    parts = [nonce, username, password, "admin" if is_admin else "notadmin"]
    if user_type is not None:
        parts.append(user_type)
    message = b"\0".join(part.encode("utf-8", "surrogatepass") for part in parts)
    # SHA-1 is what the tools compute; HMAC does not need more of it.
    expected = hmac.new(secret.encode(), message, hashlib.sha1).hexdigest()
    if not hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")):
        raise errors.forbidden("The mac is wrong: another secret, or other values.")


def _seal(secret: str, body: bytes) -> bytes:
    key = hashlib.sha256(b"hearth nonce\0" + secret.encode()).digest()
    return hmac.new(key, body, hashlib.sha256).digest()[:16]
