"""The signed document in which a server publishes its keys, and what notaries add.

A ServerKeys that exists was signed by each current key that it lists. Which of its
keys may check a request or an event, and until when, is answered here as well.

Spec: server-server-api#retrieving-server-keys
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation import fields, signatures
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature, Malformed, ProtocolError
from federation.ids import KeyId, ServerName, parse_server_name
from federation.room_versions import RoomVersion
from federation.signatures import ED25519, SigningKey

# "Servers MUST use the lesser of this field and 7 days into the future when
# determining if a key is valid."
MAX_VALIDITY_MS: Final = 7 * 24 * 3600 * 1000
# "Originating servers should avoid returning responses that expire in less than an
# hour".
MIN_VALIDITY_MS: Final = 3600 * 1000
_PUBLIC_KEY_BYTES: Final = 32
# Real servers have one key and a handful of old ones.
MAX_KEYS: Final = 200


@dataclass(frozen=True, slots=True)
class OldVerifyKey:
    """A key that signs nothing any more, but whose old events still count."""

    public: bytes
    expired_ts: int


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """A server's keys, checked. `json` is the document as it came, for notaries.

    `valid_until_ts` is the document's own or seven days after we received it,
    whichever comes first.
    """

    server_name: ServerName
    valid_until_ts: int
    verify_keys: Mapping[KeyId, bytes]
    old_verify_keys: Mapping[KeyId, OldVerifyKey]
    json: JsonObject

    def request_key(self, key_id: KeyId, now: int) -> bytes | None:
        """The public key that may sign requests at this time, or None.

        "`old_verify_keys` … are only valid for signing events."
        """
        return self.verify_keys.get(key_id) if now <= self.valid_until_ts else None

    def event_key(
        self, key_id: KeyId, origin_server_ts: int, version: RoomVersion
    ) -> bytes | None:
        """The public key that may have signed an event of this time, or None.

        Until room version 4 `valid_until_ts` "MUST be ignored"; keys that "are known
        to have expired prior to the event's `origin_server_ts` are ignored" always.

        Spec: rooms/v5#signing-key-validity-period
        """
        current = self.verify_keys.get(key_id)
        if current is not None:
            if version.enforce_key_validity and origin_server_ts > self.valid_until_ts:
                return None
            return current
        old = self.old_verify_keys.get(key_id)
        if old is None or origin_server_ts > old.expired_ts:
            return None
        return old.public


def build(
    server_name: ServerName,
    keys: Sequence[SigningKey],
    old_verify_keys: Mapping[KeyId, OldVerifyKey],
    valid_until_ts: int,
) -> JsonObject:
    """Our own document, signed with each of our current keys.

    Spec: server-server-api#get_matrixkeyv2server
    """
    document: JsonObject = {
        "server_name": server_name,
        "valid_until_ts": valid_until_ts,
        "verify_keys": {
            key.key_id: {"key": signatures.encode_base64(key.public)} for key in keys
        },
        "old_verify_keys": {
            key_id: {
                "key": signatures.encode_base64(old.public),
                "expired_ts": old.expired_ts,
            }
            for key_id, old in old_verify_keys.items()
        },
    }
    for key in keys:
        document = signatures.sign_json(document, server_name, key)
    return document


def parse(document: JsonObject, expected: ServerName, received_at: int) -> ServerKeys:
    """Read and check a server's key document.

    A current key that did not sign the document is not believed, since nothing shows
    that the server holds it; a signature that is wrong condemns the whole.

    Raises: Malformed when it is no such document, BadSignature when a signature is
    wrong or no current key signed it.
    """
    server_name = parse_server_name(fields.text(document, "server_name"))
    if server_name != expected:
        raise Malformed(f"the keys are those of {server_name}, not of {expected}")
    valid_until_ts = fields.integer(document, "valid_until_ts")
    verify_keys: dict[KeyId, bytes] = {}
    for key_id, entry in _ed25519_entries(document, "verify_keys"):
        public = _public_key(key_id, entry)
        if signatures.signature_of(document, server_name, key_id) is not None:
            signatures.check_json(document, server_name, key_id, public)
            verify_keys[key_id] = public
    if not verify_keys:
        raise BadSignature(f"no current key of {server_name} signed its keys")
    return ServerKeys(
        server_name=server_name,
        valid_until_ts=min(valid_until_ts, received_at + MAX_VALIDITY_MS),
        verify_keys=verify_keys,
        old_verify_keys={
            key_id: OldVerifyKey(
                public=_public_key(key_id, entry),
                expired_ts=fields.integer(entry, "expired_ts"),
            )
            for key_id, entry in _ed25519_entries(document, "old_verify_keys")
            if key_id not in verify_keys
        },
        json=document,
    )


def _ed25519_entries(
    document: JsonObject, name: str
) -> Iterable[tuple[KeyId, JsonObject]]:
    """The entries whose algorithm we know; others are for others."""
    if name == "old_verify_keys" and document.get(name) is None:
        return
    entries = fields.obj(document, name)
    if len(entries) > MAX_KEYS:
        raise Malformed(f"{name} has more than {MAX_KEYS} keys")
    for key_id, entry in entries.items():
        if key_id.startswith(ED25519):
            yield KeyId(fields.as_text(key_id, name)), fields.as_object(entry, key_id)


def _public_key(key_id: KeyId, entry: JsonObject) -> bytes:
    public = signatures.decode_base64(fields.text(entry, "key"))
    if len(public) != _PUBLIC_KEY_BYTES:
        raise Malformed(f"{key_id} is not an Ed25519 public key")
    return public


def countersign(
    document: JsonObject, notary: ServerName, key: SigningKey
) -> JsonObject:
    """What a notary hands on: the document with its own signature added."""
    return signatures.sign_json(document, notary, key)


def build_notary_response(documents: Iterable[JsonObject]) -> JsonObject:
    """The body of a notary's answer; documents are already countersigned."""
    return {"server_keys": list[JsonValue](documents)}


@dataclass(frozen=True, slots=True)
class NotaryAnswer:
    """What of a notary's answer can be believed, and why the rest cannot."""

    keys: tuple[ServerKeys, ...]
    refused: tuple[ProtocolError, ...]


def parse_notary_response(
    body: JsonObject, notary: ServerKeys, received_at: int
) -> NotaryAnswer:
    """Read a notary's answer. One bad document does not spoil the others.

    Each document must bear its own server's signature and one of the notary, with a
    key that is current now. A server may stand there more than once.

    Raises: Malformed, when it is no such answer at all.
    Spec: server-server-api#querying-keys-through-another-server
    """
    believed: list[ServerKeys] = []
    refused: list[ProtocolError] = []
    for document in fields.objects(body, "server_keys"):
        try:
            _check_countersignature(document, notary, received_at)
            named = parse_server_name(fields.text(document, "server_name"))
            believed.append(parse(document, named, received_at))
        except ProtocolError as error:
            refused.append(error)
    return NotaryAnswer(tuple(believed), tuple(refused))


def _check_countersignature(
    document: JsonObject, notary: ServerKeys, received_at: int
) -> None:
    for key_id in signatures.key_ids_of(document, notary.server_name):
        public = notary.request_key(key_id, received_at)
        if public is not None:
            signatures.check_json(document, notary.server_name, key_id, public)
            return
    raise BadSignature(f"no current key of the notary {notary.server_name} signed")


# server name -> key ID -> until when the key should be valid; None: from now on
KeyCriteria = Mapping[ServerName, Mapping[KeyId, int | None]]


def build_notary_query(criteria: KeyCriteria) -> JsonObject:
    """The body of `POST /_matrix/key/v2/query`."""
    return {
        "server_keys": {
            server: {
                key_id: {} if until is None else {"minimum_valid_until_ts": until}
                for key_id, until in keys.items()
            }
            for server, keys in criteria.items()
        }
    }


def parse_notary_query(body: JsonObject) -> KeyCriteria:
    """Read the body of `POST /_matrix/key/v2/query`. Raises: Malformed.

    A server without key IDs means all of its keys.
    """
    criteria: dict[ServerName, Mapping[KeyId, int | None]] = {}
    for server, keys in fields.obj(body, "server_keys").items():
        criteria[parse_server_name(server)] = {
            KeyId(fields.as_text(key_id, "key ID")): fields.optional_integer(
                fields.as_object(wanted, key_id), "minimum_valid_until_ts"
            )
            for key_id, wanted in fields.as_object(keys, server).items()
        }
    return criteria
