"""Hashes and signatures, checked against `signedjson` in both directions."""

import copy
import hashlib

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from federation import signatures
from federation.errors import BadSignature, Malformed
from federation.ids import KeyId, ServerName
from federation.room_versions import V1, V3, V4, V6, V11, V12
from federation.signatures import SigningKey
from tests.pure.json_values import HOSTILE_OBJECTS, LOOSE_JSON, TEXT
from tests.pure.rooms import ALICE, VERSIONS, Room

SERVER = ServerName("a.test")
KEY = SigningKey.from_seed(KeyId("ed25519:a_1"), bytes(range(32)))
THEIR_KEY = signedjson.key.decode_signing_key_base64(
    "ed25519", "a_1", signatures.encode_base64(bytes(range(32)))
)
THEIR_PUBLIC = signedjson.key.get_verify_key(THEIR_KEY)
OBJECTS = st.dictionaries(TEXT, LOOSE_JSON, max_size=6)


# ── base64 ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"fooba", "Zm9vYmE"),
        (b"foobar", "Zm9vYmFy"),
        (b"\xfb\xff", "+/8"),
    ],
)
def test_unpadded_base64(raw: bytes, text: str) -> None:
    assert signatures.encode_base64(raw) == text
    padding = "=" * (-len(text) % 4)
    url_safe = text.replace("+", "-").replace("/", "_")
    for spelling in (text, text + padding, url_safe, url_safe + padding):
        assert signatures.decode_base64(spelling) == raw


@pytest.mark.parametrize("text", ["Z", "Zg Zg", "Zg\n", "Zg=Zg", "Zä", "Zg*", "Z\0g"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(Malformed):
        signatures.decode_base64(text)


@given(st.binary())
def test_base64_there_and_back(raw: bytes) -> None:
    assert signatures.decode_base64(signatures.encode_base64(raw)) == raw


# ── signing JSON ────────────────────────────────────────────────────────────────────


def test_the_specifications_example() -> None:
    key = SigningKey.from_seed(
        KeyId("ed25519:1"),
        signatures.decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"),
    )
    empty = signatures.sign_json({}, "domain", key)
    assert empty == {
        "signatures": {
            "domain": {
                "ed25519:1": "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtT"
                "dGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
            }
        }
    }
    full = signatures.sign_json({"one": 1, "two": "Two"}, "domain", key)
    assert full["signatures"] == {
        "domain": {
            "ed25519:1": "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/f"
            "pNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"
        }
    }


@given(OBJECTS)
def test_they_accept_what_we_sign(value) -> None:
    signed = signatures.sign_json(value, SERVER, KEY)
    signedjson.sign.verify_signed_json(copy.deepcopy(signed), SERVER, THEIR_PUBLIC)


@given(OBJECTS)
def test_we_accept_what_they_sign(value) -> None:
    value.pop("signatures", None)
    signed = signedjson.sign.sign_json(copy.deepcopy(value), SERVER, THEIR_KEY)
    signatures.check_json(signed, SERVER, KEY.key_id, KEY.public)
    assert (
        signatures.sign_json(value, SERVER, KEY)["signatures"] == (signed["signatures"])
    )


def test_signatures_and_unsigned_are_not_covered() -> None:
    signed = signatures.sign_json({"a": 1}, SERVER, KEY)
    signed = signatures.sign_json({**signed, "unsigned": {"b": 2}}, "b.test", KEY)
    other = SigningKey.generate("2")
    signed = signatures.sign_json(signed, SERVER, other)
    assert signatures.key_ids_of(signed, SERVER) == [KEY.key_id, other.key_id]
    for name, key in [(SERVER, KEY), ("b.test", KEY), (SERVER, other)]:
        signatures.check_json(signed, name, key.key_id, key.public)
    changed = {**signed, "a": 2}
    with pytest.raises(BadSignature, match="does not verify"):
        signatures.check_json(changed, SERVER, KEY.key_id, KEY.public)


def test_signing_makes_a_copy() -> None:
    value = {"a": 1, "signatures": {SERVER: {"ed25519:old": "x"}}}
    before = copy.deepcopy(value)
    signatures.sign_json(value, SERVER, KEY)
    assert value == before


@pytest.mark.parametrize(
    "given_signatures",
    [
        None,
        [],
        {},
        {SERVER: None},
        {SERVER: {}},
        {SERVER: {"ed25519:a_1": None}},
        {SERVER: {"ed25519:a_1": "%"}},
        {SERVER: {"ed25519:a_1": ""}},
        {SERVER: {"ed25519:a_1": "Zm9v"}},
        {SERVER: {"ed25519:a_1": "A" * 86}},
        {SERVER: {"rsa:a_1": "A" * 86}},
        {"b.test": {"ed25519:a_1": "A" * 86}},
    ],
)
def test_what_is_no_signature_is_refused(given_signatures) -> None:
    value = {"a": 1, "signatures": given_signatures}
    expected = "does not verify|no signature of a.test with ed25519:a_1"
    with pytest.raises(BadSignature, match=expected):
        signatures.check_json(value, SERVER, KEY.key_id, KEY.public)


def test_a_missing_signature_is_told_from_a_wrong_one() -> None:
    with pytest.raises(BadSignature, match="no signature of a"):
        signatures.check_json({"a": 1}, SERVER, KEY.key_id, KEY.public)


def test_keys_of_the_wrong_size_verify_nothing() -> None:
    signature = KEY.key.sign(b"message").signature
    assert signatures.is_valid_signature(b"message", signature, KEY.public)
    for public in (b"", KEY.public[1:], KEY.public + b"\0", bytes(32), b"\xff" * 32):
        assert not signatures.is_valid_signature(b"message", signature, public)
    for wrong in (b"", signature[1:], signature + b"\0", bytes(64)):
        assert not signatures.is_valid_signature(b"message", wrong, KEY.public)


def test_only_ed25519_keys_are_named() -> None:
    value = {"signatures": {SERVER: {"ed25519:1": "x", "rsa:1": "y", "ed25519": "z"}}}
    assert signatures.key_ids_of(value, SERVER) == ["ed25519:1"]
    assert signatures.key_ids_of({"signatures": {SERVER: []}}, SERVER) == []
    assert signatures.key_ids_of({}, SERVER) == []


def test_generated_keys_differ() -> None:
    one, other = SigningKey.generate("x"), SigningKey.generate("x")
    assert one.key_id == other.key_id == "ed25519:x"
    assert one.public != other.public
    again = SigningKey.from_seed(one.key_id, bytes(one.key))
    assert again.public == one.public


# ── events ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_a_signed_event_checks_even_when_redacted(version) -> None:
    event = Room(version).event("m.room.message", {"body": "hello"}).json
    signed = signatures.hash_and_sign_event(event, version, SERVER, KEY)
    signatures.check_event(signed, version, SERVER, KEY.key_id, KEY.public)
    assert signatures.has_valid_content_hash(signed)

    later = {**signed, "unsigned": {"age": 5}, "content": {"body": "other"}}
    signatures.check_event(later, version, SERVER, KEY.key_id, KEY.public)
    assert not signatures.has_valid_content_hash(later)
    assert signatures.event_id_of(later, version) == signatures.event_id_of(
        signed, version
    )

    forged = {**signed, "depth": 6}
    with pytest.raises(BadSignature, match="does not verify"):
        signatures.check_event(forged, version, SERVER, KEY.key_id, KEY.public)
    with pytest.raises(BadSignature, match="no signature"):
        signatures.check_event(signed, version, "b.test", KEY.key_id, KEY.public)


def test_the_content_hash_is_over_all_but_the_envelope() -> None:
    event = {"type": "X", "content": {"b": 1, "a": 2}, "hashes": {"sha256": "old"}}
    digest = hashlib.sha256(b'{"content":{"a":2,"b":1},"type":"X"}').digest()
    expected = signatures.encode_base64(digest)
    signed = {**event, "signatures": {"a": {}}, "unsigned": {"age": 1}}
    assert signatures.content_hash(event) == expected
    assert signatures.content_hash(signed) == expected
    for spelling in (expected, expected + "=", expected.replace("+", "-")):
        hashes = {"sha256": spelling, "md5": "ignored"}
        assert signatures.has_valid_content_hash({**event, "hashes": hashes})
    for hashes in (None, {}, {"sha256": None}, {"sha256": "%"}, {"sha256": "Zm9v"}):
        assert not signatures.has_valid_content_hash({**event, "hashes": hashes})


def test_event_ids_by_version() -> None:
    event = {"event_id": "$1:a.test", "type": "X", "content": {}, "depth": 3}
    digest = signatures.reference_hash(event, V4)
    standard = signatures.encode_base64(digest)
    url_safe = standard.replace("+", "-").replace("/", "_")
    assert signatures.event_id_of(event, V1) == "$1:a.test"
    assert signatures.event_id_of(event, V3) == "$" + standard
    assert signatures.event_id_of(event, V4) == "$" + url_safe
    assert signatures.event_id_of(event, V12) == "$" + url_safe
    with pytest.raises(Malformed):
        signatures.event_id_of({"type": "X"}, V1)


def test_event_ids_never_change() -> None:
    event = {
        "auth_events": [],
        "content": {"room_version": "11"},
        "depth": 1,
        "hashes": {"sha256": "RTSmBfGiPVqvF5aWaVrHBMjYLmW1m3DGSUyV3iWOGYk"},
        "origin_server_ts": 1000000,
        "prev_events": [],
        "room_id": "!room:a.test",
        "sender": ALICE,
        "signatures": {},
        "state_key": "",
        "type": "m.room.create",
    }
    hash_once = "toho8oVl_vUQrjVu8JpK8BLlXs2Q-lZUx9hRRn-cUhY"
    assert signatures.event_id_of(event, V11) == "$" + hash_once


# The specification's test vectors for signing events.
VECTORS = [
    (
        {
            "room_id": "!x:domain",
            "sender": "@a:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "signatures": {},
            "hashes": {},
            "type": "X",
            "content": {},
            "prev_events": [],
            "auth_events": [],
            "depth": 3,
            "unsigned": {"age_ts": 1000000},
        },
        "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
        (
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPT"
            "Rl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"
        ),
    ),
    (
        {
            "content": {"body": "Here is the message content"},
            "event_id": "$0:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "type": "m.room.message",
            "room_id": "!r:domain",
            "sender": "@u:domain",
            "signatures": {},
            "unsigned": {"age_ts": 1000000},
        },
        "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
        (
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUw"
            "u6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
        ),
    ),
]


@pytest.mark.parametrize(("event", "content_hash", "signature"), VECTORS)
def test_the_specifications_events(event, content_hash, signature) -> None:
    seed = signatures.decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
    key = SigningKey.from_seed(KeyId("ed25519:1"), seed)
    signed = signatures.hash_and_sign_event(event, V1, ServerName("domain"), key)
    assert signed == {
        **event,
        "hashes": {"sha256": content_hash},
        "signatures": {"domain": {"ed25519:1": signature}},
    }


@given(HOSTILE_OBJECTS, st.sampled_from(VERSIONS))
def test_hostile_objects_are_refused_at_most(value, version) -> None:
    with pytest.raises(BadSignature):
        signatures.check_json(value, SERVER, KEY.key_id, KEY.public)
    assert signatures.key_ids_of(value, SERVER) == []
    assert isinstance(signatures.has_valid_content_hash(value), bool)
    try:
        signatures.check_event(value, version, SERVER, KEY.key_id, KEY.public)
    except (BadSignature, Malformed):
        pass
    else:
        pytest.fail("nobody signed this")


def test_strict_and_loose_versions_sign_the_same_bytes() -> None:
    event = Room(V6).event("m.room.message", {"body": "hällo"}).json
    assert signatures.signable_bytes(event, strict=True) == (
        signatures.signable_bytes(event)
    )
