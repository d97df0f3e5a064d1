"""What clients may upload: the shapes of keys.

Spec: client-server-api#key-algorithms
"""

from dataclasses import dataclass
from typing import Final

from federation import canonical_json
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import DeviceId, UserId
from federation.signatures import decode_base64
from homeserver import errors

MAX_NAME_BYTES: Final = 255
MAX_KEY_BYTES: Final = 64 * 1024
MAX_KEYS_AT_ONCE: Final = 1000
PUBLIC_KEY_BYTES: Final = 32  # of Ed25519
CROSS_SIGNING_USAGES: Final = frozenset({"master", "self_signing", "user_signing"})


@dataclass(frozen=True, slots=True)
class NewKey:
    """A one-time or fallback key: its name in two parts, and its JSON."""

    algorithm: str
    key_id: str
    key: str

    @property
    def name(self) -> str:
        """As `algorithm:key_id`."""
        return f"{self.algorithm}:{self.key_id}"


def stored(value: JsonValue, what: str) -> str:
    """The JSON to store, which other servers can be told. Raises: M_BAD_JSON."""
    try:
        text = canonical_json.encode_checked(value, strict=True)
    except Malformed as error:
        raise errors.of_caller(error) from None
    if len(text) > MAX_KEY_BYTES:
        raise errors.too_large(f"{what}: at most {MAX_KEY_BYTES} bytes are stored.")
    return text.decode()


def device_keys(value: JsonValue, user_id: UserId, device_id: DeviceId) -> JsonObject:
    """Identity keys of the device that uploads them. Raises: M_BAD_JSON.

    Spec: client-server-api#device-keys
    """
    keys = _object(value, "device_keys")
    if keys.get("user_id") != user_id or keys.get("device_id") != device_id:
        raise errors.invalid_param("device_keys: these are keys of another device.")
    algorithms = keys.get("algorithms")
    if not isinstance(algorithms, list) or not _are_texts(algorithms):
        raise errors.bad_json("device_keys.algorithms: a list of strings is needed.")
    _texts(keys.get("keys"), "device_keys.keys")
    check_signatures(keys.get("signatures"), "device_keys.signatures")
    return {name: each for name, each in keys.items() if name != "unsigned"}


def one_time_keys(value: JsonValue, what: str) -> list[NewKey]:
    """Keys by `algorithm:key_id`. Raises: M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#one-time-and-fallback-keys
    """
    if value is None:
        return []
    keys = _object(value, what)
    if len(keys) > MAX_KEYS_AT_ONCE:
        raise errors.too_large(f"{what}: at most {MAX_KEYS_AT_ONCE} keys at once.")
    return [_one_time_key(name, key, what) for name, key in keys.items()]


def _one_time_key(name: str, key: JsonValue, what: str) -> NewKey:
    algorithm, _, key_id = name.partition(":")
    if not algorithm or not key_id or len(name.encode()) > MAX_NAME_BYTES:
        raise errors.bad_json(f"{what}: keys are named `algorithm:key_id`.")
    check_name(name, what)
    if not isinstance(key, str):
        given = _object(key, f"{what}: a key")
        if not isinstance(given.get("key"), str):
            raise errors.bad_json(f"{what}: `key` is missing.")
        check_signatures(given.get("signatures"), f"{what}: signatures")
    return NewKey(algorithm, key_id, stored(key, what))


def check_name(name: str, what: str) -> None:
    """Refuse a name that cannot be kept. Raises: M_BAD_JSON."""
    if "\0" in name or "\x10" in name or len(name.encode()) > MAX_NAME_BYTES:
        raise errors.bad_json(
            f"{what}: names have at most {MAX_NAME_BYTES} bytes, no U+0000 or U+0010."
        )


def check_signatures(value: JsonValue, what: str) -> None:
    """Refuse what is no {user: {key: signature}}. Raises: M_BAD_JSON."""
    for user_id, by_key in _object(value, what).items():
        _texts(by_key, f"{what}.{user_id[:64]}")


def _object(value: JsonValue, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise errors.bad_json(f"{what}: a JSON object is needed.")
    return value


def _are_texts(values: list[JsonValue]) -> bool:
    return all(isinstance(each, str) for each in values)


def _texts(value: JsonValue, what: str) -> None:
    if not _are_texts(list(_object(value, what).values())):
        raise errors.bad_json(f"{what}: strings are needed.")


# ── From other servers ───────────────────────────────────────────────────────────────


def is_device(keys: JsonValue, user_id: str, device_id: str) -> bool:
    """Whether these can be passed on as identity keys of that device."""
    try:
        checked = device_keys(keys, UserId(user_id), DeviceId(device_id))
        check_name(device_id, "device_id")
        stored(checked, "device_keys")
    except errors.MatrixError:
        return False
    return True


def is_cross_signing_key(key: JsonValue, user_id: str, usage: str) -> bool:
    """Whether this can be passed on as that user's key for that use."""
    try:
        cross_signing_key(key, UserId(user_id), usage)
    except errors.MatrixError:
        return False
    return True


def cross_signing_key(value: JsonValue, user_id: UserId, usage: str) -> JsonObject:
    """A key for cross-signing. Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#cross-signing
    """
    what = f"{usage}_key"
    key = _object(value, what)
    if key.get("user_id") != user_id:
        raise errors.invalid_param(f"{what}: this is a key of another user.")
    usages = key.get("usage")
    if not isinstance(usages, list) or usage not in usages:
        raise errors.invalid_param(f"{what}: `usage` must contain {usage!r}.")
    if not set(map(str, usages)) <= CROSS_SIGNING_USAGES or not _are_texts(usages):
        raise errors.invalid_param(f"{what}: unknown `usage`.")
    _texts(key.get("keys"), f"{what}.keys")
    public_key_of(key, what)
    if "signatures" in key:
        check_signatures(key["signatures"], f"{what}.signatures")
    stored(key, what)
    return key


def public_key_of(key: JsonObject, what: str) -> str:
    """The public part of a cross-signing key, as base64. Raises: M_INVALID_PARAM."""
    keys = key.get("keys")
    items = list(keys.items()) if isinstance(keys, dict) else []
    if len(items) != 1:
        raise errors.invalid_param(f"{what}: exactly one key is needed.")
    name, public = items[0]
    if name != f"ed25519:{public}" or not _is_public_key(str(public)):
        raise errors.invalid_param(f"{what}: `ed25519:<public key>` is needed.")
    return str(public)


def _is_public_key(text: str) -> bool:
    try:
        return len(decode_base64(text)) == PUBLIC_KEY_BYTES
    except Malformed:
        return False
