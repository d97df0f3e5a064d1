"""Hashes and Ed25519 signatures of JSON objects and of events.

Spec: appendices#signing-json, server-server-api#signing-events
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as NaclSigningKey
from nacl.signing import VerifyKey

from federation import canonical_json
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature, Malformed
from federation.ids import EventId, KeyId, ServerName
from federation.redaction import redact
from federation.room_versions import EventIdFormat, RoomVersion

ED25519: Final = "ed25519:"
_URLSAFE: Final = str.maketrans("+/", "-_")


def encode_base64(raw: bytes) -> str:
    """Unpadded base64 in the standard alphabet. Spec: appendices#unpadded-base64."""
    return base64.b64encode(raw).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Decode base64, padded or not, either alphabet. Raises: Malformed."""
    try:
        raw = text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Malformed("not base64") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key and its name, such as `ed25519:a_1`."""

    key_id: KeyId
    key: NaclSigningKey

    @classmethod
    def generate(cls, version: str) -> "SigningKey":
        """A new key named `ed25519:{version}`."""
        return cls(KeyId(ED25519 + version), NaclSigningKey.generate())

    @classmethod
    def from_seed(cls, key_id: KeyId, seed: bytes) -> "SigningKey":
        """A key from the 32 bytes it was made of."""
        return cls(key_id, NaclSigningKey(seed))

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return bytes(self.key.verify_key)


def signable_bytes(value: JsonObject, *, strict: bool = False) -> bytes:
    """What a signature covers: canonical JSON without `signatures` and `unsigned`.

    `strict` says that the value holds no floats (a checked event since version 6),
    which saves looking for them.
    """
    bare = {k: v for k, v in value.items() if k not in ("signatures", "unsigned")}
    return canonical_json.encode_strict(bare) if strict else canonical_json.encode(bare)


def sign_json(value: JsonObject, name: str, key: SigningKey) -> JsonObject:
    """A copy of the object with our signature added to those it has.

    Spec: appendices#signing-details
    """
    signature = encode_base64(key.key.sign(signable_bytes(value)).signature)
    return {**value, "signatures": _with_signature(value, name, key.key_id, signature)}


def _with_signature(
    value: JsonObject, name: str, key_id: str, signature: str
) -> JsonObject:
    given = value.get("signatures")
    signatures: JsonObject = dict(given) if isinstance(given, dict) else {}
    mine = signatures.get(name)
    signatures[name] = {**(mine if isinstance(mine, dict) else {}), key_id: signature}
    return signatures


def signature_of(value: JsonObject, name: str, key_id: str) -> bytes | None:
    """The raw signature that an object carries, or None when there is none."""
    signatures = value.get("signatures")
    if not isinstance(signatures, dict):
        return None
    by_key = signatures.get(name)
    if not isinstance(by_key, dict):
        return None
    signature = by_key.get(key_id)
    if not isinstance(signature, str):
        return None
    try:
        return decode_base64(signature)
    except Malformed:
        return None


def key_ids_of(value: JsonObject, name: str) -> list[KeyId]:
    """The Ed25519 key IDs with which `name` signed the object."""
    signatures = value.get("signatures")
    by_key = signatures.get(name) if isinstance(signatures, dict) else None
    if not isinstance(by_key, dict):
        return []
    return [KeyId(key_id) for key_id in by_key if key_id.startswith(ED25519)]


def is_valid_signature(message: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the Ed25519 signature verifies; 39 µs, releases the GIL."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def check_json(value: JsonObject, name: str, key_id: str, public: bytes) -> None:
    """Raise BadSignature unless `name` signed the object with that key."""
    signature = signature_of(value, name, key_id)
    if signature is None:
        raise BadSignature(f"no signature of {name} with {key_id}")
    if not is_valid_signature(signable_bytes(value), signature, public):
        raise BadSignature(f"the signature of {name} with {key_id} does not verify")


def content_hash(event: JsonObject, *, strict: bool = False) -> str:
    """The hash in `hashes.sha256`: over all but unsigned, signatures and hashes.

    `strict`: the event has no floats, as since room version 6; a third of the time.

    Spec: server-server-api#calculating-the-content-hash-for-an-event
    """
    bare = {
        k: v for k, v in event.items() if k not in ("unsigned", "signatures", "hashes")
    }
    encode = canonical_json.encode_strict if strict else canonical_json.encode
    return encode_base64(hashlib.sha256(encode(bare)).digest())


def reference_hash(event: JsonObject, version: RoomVersion) -> bytes:
    """The 32 bytes that name an event: the hash of its redacted form.

    Spec: server-server-api#calculating-the-reference-hash-for-an-event
    """
    return hashlib.sha256(event_signable_bytes(event, version)).digest()


def event_signable_bytes(event: JsonObject, version: RoomVersion) -> bytes:
    """What signatures of an event and its reference hash cover."""
    return signable_bytes(redact(event, version), strict=version.strict_canonical_json)


def event_id_of(event: JsonObject, version: RoomVersion) -> EventId:
    """The event ID: given in versions 1 and 2, from version 3 the reference hash.

    Spec: rooms/v3#event-ids, rooms/v4#event-ids
    """
    if version.event_id_format is not EventIdFormat.FROM_SERVER:
        return event_id_from(event_signable_bytes(event, version), version)
    event_id = event.get("event_id")
    if not isinstance(event_id, str):
        raise Malformed("event_id must be a string")
    return EventId(event_id)


def event_id_from(signable: bytes, version: RoomVersion) -> EventId:
    """The event ID that is the hash of what signatures cover, from version 3."""
    text = encode_base64(hashlib.sha256(signable).digest())
    if version.event_id_format is EventIdFormat.URLSAFE_HASH:
        text = text.translate(_URLSAFE)
    return EventId("$" + text)


def has_valid_content_hash(event: JsonObject, *, strict: bool = False) -> bool:
    """Whether `hashes.sha256` is right; when not, use the redacted event."""
    hashes = event.get("hashes")
    given = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(given, str):
        return False
    try:
        return decode_base64(given) == decode_base64(content_hash(event, strict=strict))
    except Malformed:
        return False


def sign_event(
    event: JsonObject, version: RoomVersion, name: ServerName, key: SigningKey
) -> JsonObject:
    """A copy of the event with our signature over its redacted form added.

    Spec: server-server-api#signing-events
    """
    message = event_signable_bytes(event, version)
    signature = encode_base64(key.key.sign(message).signature)
    return {**event, "signatures": _with_signature(event, name, key.key_id, signature)}


def hash_and_sign_event(
    event: JsonObject, version: RoomVersion, name: ServerName, key: SigningKey
) -> JsonObject:
    """A copy of the event with its content hash and our signature; event complete."""
    sha256 = content_hash(event, strict=version.strict_canonical_json)
    hashed: dict[str, JsonValue] = {**event, "hashes": {"sha256": sha256}}
    return sign_event(hashed, version, name, key)


def check_event(
    event: JsonObject, version: RoomVersion, name: str, key_id: str, public: bytes
) -> None:
    """Raise BadSignature unless `name` signed the event with that key."""
    signature = signature_of(event, name, key_id)
    if signature is None:
        raise BadSignature(f"no signature of {name} with {key_id}")
    if not is_valid_signature(event_signable_bytes(event, version), signature, public):
        raise BadSignature(f"the signature of {name} with {key_id} does not verify")
