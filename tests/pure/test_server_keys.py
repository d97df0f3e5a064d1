"""Key documents: ours, theirs, and what notaries add."""

import base64

import pytest
import signedjson.key
import signedjson.sign

from federation import server_keys, signatures
from federation.errors import BadSignature, Malformed
from federation.ids import KeyId, ServerName
from federation.room_versions import V4, V5, V12
from federation.server_keys import MAX_VALIDITY_MS, OldVerifyKey
from federation.signatures import SigningKey

US = ServerName("us.example.org")
NOTARY = ServerName("notary.example.org")
KEY = SigningKey.from_seed(KeyId("ed25519:new"), bytes(range(32)))
OLD = SigningKey.from_seed(KeyId("ed25519:old"), bytes(32))
NOTARY_KEY = SigningKey.from_seed(KeyId("ed25519:n"), bytes([7] * 32))
NOW = 1_800_000_000_000
HOUR = 3_600_000
OLD_KEYS = {OLD.key_id: OldVerifyKey(OLD.public, NOW - HOUR)}


def document(valid_until_ts=NOW + HOUR, keys=(KEY,), name=US):
    return server_keys.build(name, keys, OLD_KEYS, valid_until_ts)


def parsed(valid_until_ts=NOW + HOUR, keys=(KEY,)):
    return server_keys.parse(document(valid_until_ts, keys), US, NOW)


NOTARYS_KEYS = server_keys.parse(
    server_keys.build(NOTARY, [NOTARY_KEY], {}, NOW + HOUR), NOTARY, NOW
)


def test_our_document_has_the_specifications_form() -> None:
    ours = document()
    signature = ours.pop("signatures")
    assert ours == {
        "server_name": US,
        "valid_until_ts": NOW + HOUR,
        "verify_keys": {
            "ed25519:new": {"key": base64.b64encode(KEY.public).decode().rstrip("=")}
        },
        "old_verify_keys": {
            "ed25519:old": {
                "key": base64.b64encode(OLD.public).decode().rstrip("="),
                "expired_ts": NOW - HOUR,
            }
        },
    }
    assert list(signature) == [US]
    assert list(signature[US]) == ["ed25519:new"]


def test_signedjson_verifies_our_document() -> None:
    verify_key = signedjson.key.decode_verify_key_bytes("ed25519:new", KEY.public)
    signedjson.sign.verify_signed_json(document(), US, verify_key)


def test_what_we_build_we_believe() -> None:
    second = SigningKey.generate("second")
    keys = server_keys.parse(document(keys=(KEY, second)), US, NOW)
    assert keys.verify_keys == {KEY.key_id: KEY.public, second.key_id: second.public}
    assert keys.old_verify_keys == OLD_KEYS
    assert keys.valid_until_ts == NOW + HOUR
    assert keys.json == document(keys=(KEY, second))


def test_no_document_is_valid_for_more_than_seven_days() -> None:
    assert parsed(NOW + 10 * MAX_VALIDITY_MS).valid_until_ts == NOW + MAX_VALIDITY_MS
    assert parsed(NOW - HOUR).valid_until_ts == NOW - HOUR


def test_keys_of_another_server_are_refused() -> None:
    with pytest.raises(Malformed):
        server_keys.parse(document(), ServerName("other.example.org"), NOW)


@pytest.mark.parametrize("field", ["valid_until_ts", "verify_keys", "old_verify_keys"])
def test_a_changed_document_is_refused(field) -> None:
    changed = document() | {
        field: {"valid_until_ts": NOW}.get(field, {"ed25519:new": {"key": "x"}})
    }
    with pytest.raises((BadSignature, Malformed)):
        server_keys.parse(changed, US, NOW)


def test_a_key_that_did_not_sign_is_not_believed() -> None:
    unsigned = document(keys=(KEY,))
    stranger = SigningKey.generate("stranger")
    del unsigned["signatures"]
    unsigned["verify_keys"][stranger.key_id] = {
        "key": signatures.encode_base64(stranger.public)
    }
    signed = signatures.sign_json(unsigned, US, KEY)
    assert list(server_keys.parse(signed, US, NOW).verify_keys) == [KEY.key_id]
    with pytest.raises(BadSignature):
        server_keys.parse(unsigned, US, NOW)


def test_one_wrong_signature_condemns_the_document() -> None:
    second = SigningKey.generate("second")
    forged = document(keys=(KEY, second))
    forged["signatures"][US][second.key_id] = signatures.encode_base64(bytes(64))
    with pytest.raises(BadSignature):
        server_keys.parse(forged, US, NOW)


def test_unknown_algorithms_are_ignored() -> None:
    unsigned = document()
    del unsigned["signatures"]
    unsigned["verify_keys"]["curve448:a"] = {"key": 5}
    signed = signatures.sign_json(unsigned, US, KEY)
    assert list(server_keys.parse(signed, US, NOW).verify_keys) == [KEY.key_id]


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": 5},
        {"server_name": "not a name"},
        {"valid_until_ts": "1"},
        {"valid_until_ts": True},
        {"valid_until_ts": 1.5},
        {"valid_until_ts": 2**60},
        {"valid_until_ts": None},
        {"verify_keys": []},
        {"verify_keys": None},
        {"verify_keys": {"ed25519:new": "key"}},
        {"verify_keys": {"ed25519:new": {"key": None}}},
        {"verify_keys": {"ed25519:new": {"key": "!"}}},
        {"verify_keys": {"ed25519:new": {"key": "AAAA"}}},
        {"verify_keys": {f"ed25519:{n}": {"key": "AAAA"} for n in range(201)}},
        {"old_verify_keys": []},
        {"old_verify_keys": {"ed25519:x": {"key": "A" * 43}}},
        {"old_verify_keys": {"ed25519:x": {"key": "A" * 43, "expired_ts": "1"}}},
    ],
)
def test_malformed_documents_are_refused(changes) -> None:
    unsigned = document() | changes
    del unsigned["signatures"]
    with pytest.raises(Malformed):
        server_keys.parse(signatures.sign_json(unsigned, US, KEY), US, NOW)


def test_a_document_needs_no_old_keys() -> None:
    unsigned = document()
    del unsigned["signatures"]
    del unsigned["old_verify_keys"]
    signed = signatures.sign_json(unsigned, US, KEY)
    assert server_keys.parse(signed, US, NOW).old_verify_keys == {}


def test_requests_need_a_current_key_that_is_still_valid() -> None:
    keys = parsed()
    assert keys.request_key(KEY.key_id, NOW) == KEY.public
    assert keys.request_key(KEY.key_id, NOW + HOUR) == KEY.public
    assert keys.request_key(KEY.key_id, NOW + HOUR + 1) is None
    assert keys.request_key(OLD.key_id, NOW) is None
    assert keys.request_key(KeyId("ed25519:none"), NOW) is None


def test_validity_counts_for_events_from_room_version_5_on() -> None:
    keys = parsed()
    later = NOW + HOUR + 1
    assert keys.event_key(KEY.key_id, NOW + HOUR, V5) == KEY.public
    assert keys.event_key(KEY.key_id, later, V5) is None
    assert keys.event_key(KEY.key_id, later, V12) is None
    assert keys.event_key(KEY.key_id, later, V4) == KEY.public


def test_old_keys_count_for_events_until_they_expired() -> None:
    keys = parsed()
    for version in (V4, V5):
        assert keys.event_key(OLD.key_id, NOW - HOUR, version) == OLD.public
        assert keys.event_key(OLD.key_id, NOW - HOUR + 1, version) is None
    assert keys.event_key(KeyId("ed25519:none"), NOW, V5) is None


def notary_answer(*documents):
    return server_keys.build_notary_response(
        server_keys.countersign(each, NOTARY, NOTARY_KEY) for each in documents
    )


def test_a_notary_adds_its_signature_and_keeps_the_others() -> None:
    (countersigned,) = notary_answer(document())["server_keys"]
    assert set(countersigned["signatures"]) == {US, NOTARY}
    signatures.check_json(countersigned, US, KEY.key_id, KEY.public)


def test_what_a_notary_vouches_for_is_believed() -> None:
    answer = server_keys.parse_notary_response(
        notary_answer(document()), NOTARYS_KEYS, NOW
    )
    assert answer.refused == ()
    assert [keys.server_name for keys in answer.keys] == [US]
    assert answer.keys[0].verify_keys == {KEY.key_id: KEY.public}


def test_one_bad_document_does_not_spoil_a_notarys_answer() -> None:
    not_countersigned = document()
    forged = document() | {"valid_until_ts": NOW + 1}
    body = notary_answer(forged, document())
    body["server_keys"][:0] = [not_countersigned, {"server_name": "?"}]
    answer = server_keys.parse_notary_response(body, NOTARYS_KEYS, NOW)
    assert len(answer.keys) == 1
    assert len(answer.refused) == 3


def test_a_notarys_key_must_be_current() -> None:
    later = NOTARYS_KEYS.valid_until_ts + 1
    answer = server_keys.parse_notary_response(
        notary_answer(document()), NOTARYS_KEYS, later
    )
    assert answer.keys == ()
    assert isinstance(answer.refused[0], BadSignature)


@pytest.mark.parametrize("body", [{}, {"server_keys": {}}, {"server_keys": [1]}])
def test_an_answer_of_another_shape_is_malformed(body) -> None:
    with pytest.raises(Malformed):
        server_keys.parse_notary_response(body, NOTARYS_KEYS, NOW)


def test_a_query_to_a_notary_survives_the_way() -> None:
    criteria = {US: {KEY.key_id: NOW, OLD.key_id: None}, NOTARY: {}}
    body = server_keys.build_notary_query(criteria)
    assert body == {
        "server_keys": {
            US: {"ed25519:new": {"minimum_valid_until_ts": NOW}, "ed25519:old": {}},
            NOTARY: {},
        }
    }
    assert server_keys.parse_notary_query(body) == criteria


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"server_keys": []},
        {"server_keys": {"not a name": {}}},
        {"server_keys": {"a.b": []}},
        {"server_keys": {"a.b": {"ed25519:1": 5}}},
        {"server_keys": {"a.b": {"ed25519:1": {"minimum_valid_until_ts": "x"}}}},
    ],
)
def test_a_malformed_query_is_refused(body) -> None:
    with pytest.raises(Malformed):
        server_keys.parse_notary_query(body)
