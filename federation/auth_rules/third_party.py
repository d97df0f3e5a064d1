"""Whether the holder of a third-party identifier signed for a Matrix user.

Spec: client-server-api#mroomthird_party_invite, server-server-api#third-party-invites
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from federation import signatures
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.pdu import Pdu

# A verification costs 39 µs and an event holds hundreds of signatures and keys, so a
# hostile pair of events could cost half a minute. Identity servers use one or two.
MAX_SIGNATURES: Final = 10
MAX_PUBLIC_KEYS: Final = 10
_PUBLIC_KEY_BYTES: Final = 32


def is_signed_for(signed: JsonObject, invite: Pdu) -> bool:
    """Whether any signature in `signed` matches any public key of the invite.

    Only the first ten of each are tried, in sorted order, so that all of our servers
    decide alike.
    """
    return next(signing_keys(signed, invite.content), None) is not None


def signing_keys(signed: JsonObject, content: JsonObject) -> Iterator[bytes]:
    """The public keys of an invite's content that have signed, of those tried."""
    try:
        message = signatures.signable_bytes(signed)
    except Malformed:
        return
    given = list(islice(_signatures(signed), MAX_SIGNATURES))
    for key in islice(_public_keys(content), MAX_PUBLIC_KEYS):
        if any(signatures.is_valid_signature(message, each, key) for each in given):
            yield key


def _public_keys(content: JsonObject) -> Iterator[bytes]:
    listed = content.get("public_keys")
    given: list[JsonValue] = [content.get("public_key")]
    given += [
        entry.get("public_key")
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
    ]
    for text in dict.fromkeys(key for key in given if isinstance(key, str)):
        try:
            key = signatures.decode_base64(text)
        except Malformed:
            continue
        if len(key) == _PUBLIC_KEY_BYTES:
            yield key


def _signatures(signed: JsonObject) -> Iterator[bytes]:
    servers = signed.get("signatures")
    for server in sorted(servers) if isinstance(servers, dict) else ():
        for key_id in sorted(signatures.key_ids_of(signed, server)):
            signature = signatures.signature_of(signed, server, key_id)
            if signature is not None:
                yield signature
