"""The keys that a provider signs with, which it may replace at any time.

A key that is not known is asked for, but not again at once, so that nobody can have us
ask for ever. After an hour all are asked for again: what the provider has taken back
counts no longer then.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from joserfc import errors as jose_errors
from joserfc import jwk, jwt

from homeserver.clock import Clock
from homeserver.sign_on.identity import NotIdentified

# Keys that both sides know are not among them, and "none" is not.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_LIFETIME_S: Final = 3600.0
_PAUSE_S: Final = 10.0
_MAX_TOKEN: Final = 64 * 1024
_MAX_KEYS: Final = 100
_MIN_RSA_BITS: Final = 2048


class Keys:
    """The keys of one provider; `fetch` asks for them."""

    def __init__(
        self, clock: Clock, fetch: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._asked_at = float("-inf")
        self._keys: jwk.KeySet | None = None

    async def verify(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token that is signed by one of them.

        Raises: NotIdentified.
        """
        if len(token) > _MAX_TOKEN:
            raise NotIdentified("the token is too long")
        age = self._clock.monotonic() - self._asked_at
        if self._keys is None or age > _LIFETIME_S:
            await self._renew()
            age = 0
        try:
            return self._decode(token)
        except (jose_errors.InvalidKeyIdError, jose_errors.BadSignatureError) as error:
            if age < _PAUSE_S:
                raise NotIdentified(f"the token is not good: {error}") from None
        except (jose_errors.JoseError, ValueError, TypeError) as error:
            raise NotIdentified(f"the token is not good: {error}") from None
        await self._renew()
        try:
            return self._decode(token)
        except (jose_errors.JoseError, ValueError, TypeError) as error:
            raise NotIdentified(f"the token is not good: {error}") from None

    def _decode(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        keys = self._keys
        if keys is None or not keys.keys:
            raise NotIdentified("there are no keys")
        decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
        return dict(decoded.header), dict(decoded.claims)

    async def _renew(self) -> None:
        self._asked_at = self._clock.monotonic()
        self._keys = key_set(await self._fetch())


def key_set(document: Mapping[str, Any]) -> "jwk.KeySet":
    """The keys of a JWK set that can be used; others are passed over."""
    stored = document.get("keys")
    found = []
    for each in stored[:_MAX_KEYS] if isinstance(stored, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            key = jwk.import_key(each)
        except (jose_errors.JoseError, ValueError, TypeError, KeyError):
            continue
        if not is_weak(key):
            found.append(key)
    return jwk.KeySet(found)


def is_weak(key: object) -> bool:
    """Whether it is an RSA key that is too short, or no public key at all."""
    if isinstance(key, jwk.OctKey):
        return True
    if not isinstance(key, jwk.RSAKey):
        return False
    return bool(key.public_key.key_size < _MIN_RSA_BITS)


def private_key(path: Path) -> "jwk.RSAKey | jwk.ECKey":
    """The key in a PEM file. Raises: NotIdentified."""
    data = path.read_bytes()
    for kind in (jwk.RSAKey, jwk.ECKey):
        try:
            return kind.import_key(data)
        except (jose_errors.JoseError, ValueError, TypeError):
            continue
    raise NotIdentified(f"{path} is no RSA or EC key")
