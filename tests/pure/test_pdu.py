"""A Pdu that exists has the format of its room version; anything else is Malformed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import canonical_json, signatures
from federation.canonical_json import JsonObject
from federation.errors import Malformed, TooLarge
from federation.pdu import (
    MAX_PDU_BYTES,
    Pdu,
    is_third_party_invite,
    parse_pdu,
    reference_pairs,
)
from federation.room_versions import V1, V2, V3, V5, V6, V10, V11, V12, RoomVersion
from tests.pure.json_values import HOSTILE_JSON, HOSTILE_OBJECTS
from tests.pure.rooms import ALICE, BOB, VERSIONS, Room

OLD_REFERENCE = ["$0:a.test", {"sha256": "aGFzaA"}]


def is_old(version: RoomVersion) -> bool:
    return version in (V1, V2)


def raw_event(version: RoomVersion) -> JsonObject:
    event = Room(version).event("m.room.message", {"body": "hello"})
    return {**event.json, "unsigned": {"age": 3}}


# ── what is read ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_an_event_is_read(version: RoomVersion) -> None:
    raw = raw_event(version)
    event = parse_pdu(raw, version)
    assert event.version is version
    assert event.type == "m.room.message"
    assert (event.sender, event.room_id) == (ALICE, raw["room_id"])
    assert (event.state_key, event.key, event.membership) == (None, None, None)
    assert (event.depth, event.origin_server_ts) == (5, raw["origin_server_ts"])
    assert event.content == {"body": "hello"}
    assert event.event_id == signatures.event_id_of(raw, version)
    assert len(event.prev_events) == 2
    assert event.auth_events == ()
    assert "unsigned" not in event.json
    assert raw["unsigned"] == {"age": 3}
    assert parse_pdu(event.json, version).event_id == event.event_id


@pytest.mark.parametrize("version", VERSIONS)
def test_references_are_read_in_either_form(version: RoomVersion) -> None:
    room = Room(version)
    referred = [room.message(), room.message()]
    event = room.event("m.x", prev=referred, auth=referred[:1])
    assert event.prev_events == tuple(each.event_id for each in referred)
    assert event.auth_events == (referred[0].event_id,)
    pairs = reference_pairs(referred, version)
    again = parse_pdu({**event.json, "prev_events": pairs}, version)
    assert again.prev_events == event.prev_events
    if is_old(version):
        digest = signatures.reference_hash(referred[0].json, version)
        encoded = signatures.encode_base64(digest)
        assert pairs[0] == [referred[0].event_id, {"sha256": encoded}]


def test_state_and_membership() -> None:
    room = Room(V11)
    join = room.membership(BOB, "join")
    assert join.key == ("m.room.member", BOB)
    assert join.membership == "join"
    odd = room.event("m.room.member", {"membership": ["join"]}, state_key=BOB)
    assert odd.membership is None
    assert room.event("m.room.x", {"membership": "join"}).membership is None
    assert room.create.is_create
    assert not room.event("m.room.create", state_key="x").is_create
    assert not room.event("m.x", state_key="").is_create


def test_the_room_id_of_version_12_is_the_create_events_hash() -> None:
    create = Room(V12).create
    assert "room_id" not in create.json
    assert create.room_id == "!" + create.event_id[1:]
    assert create.redacted().room_id == create.room_id
    with pytest.raises(Malformed):
        parse_pdu(create.json, V11)
    for changes in ({"state_key": "x"}, {"type": "m.x"}):
        with pytest.raises(Malformed):
            parse_pdu({**create.json, **changes}, V12)
    # one that carries a room ID is read, for the authorization rules to refuse
    named = parse_pdu({**create.json, "room_id": "!room:a.test"}, V12)
    assert named.room_id == "!room:a.test"


def test_redactions_name_their_target_where_the_version_says() -> None:
    for version, in_content in [(V1, False), (V10, False), (V11, True), (V12, True)]:
        room = Room(version)
        event = room.event("m.room.redaction", {"redacts": "$in"}, redacts="$out")
        assert event.redacts == ("$in" if in_content else "$out")
        assert room.event("m.room.message", redacts="$out").redacts is None
        redacted = event.redacted()
        assert redacted.redacts == ("$in" if in_content else None)
    odd = Room(V11).event("m.room.redaction", {"redacts": ["$in"]})
    assert odd.redacts is None


def test_who_has_to_sign() -> None:
    for version in VERSIONS:
        room = Room(version)
        message = room.message(BOB)
        assert message.required_signers() == {"b.test"}
        invite = room.membership(
            BOB, "invite", sender=ALICE, content={"third_party_invite": {}}
        )
        assert is_third_party_invite(invite)
        assert not is_third_party_invite(room.membership(BOB, "invite", sender=ALICE))
        join = room.membership(BOB, "join", content={"third_party_invite": {}})
        assert not is_third_party_invite(join)
        expected = {"a.test"} if is_old(version) else frozenset()
        assert invite.required_signers() == expected
        if is_old(version):
            elsewhere = room.event("m.x", event_id="$1:c.test:80", sender=BOB)
            assert elsewhere.required_signers() == {"b.test", "c.test:80"}


# ── what is refused ─────────────────────────────────────────────────────────────────

REQUIRED = [
    *("type", "sender", "room_id", "content", "origin_server_ts", "depth"),
    *("hashes", "signatures", "prev_events", "auth_events"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REQUIRED)
def test_required_properties(version: RoomVersion, name: str) -> None:
    raw = raw_event(version)
    del raw[name]
    with pytest.raises(Malformed, match=name):
        parse_pdu(raw, version)
    for value in (None, True, ["x"], {"x": 1}, "x" * 300, -(2**63) - 1, 1.5):
        if name in ("content", "signatures") and isinstance(value, dict):
            continue
        with pytest.raises(Malformed):
            parse_pdu({**raw, name: value}, version)


@pytest.mark.parametrize(
    "changes",
    [
        {"state_key": None},
        {"state_key": 7},
        {"sender": "alice"},
        {"sender": "@alice:not a server"},
        {"room_id": "!room"},
        {"redacts": ["$event"]},
        {"depth": -1},
        {"depth": "5"},
        {"hashes": {"sha256": 7}},
        {"hashes": {}},
        {"prev_events": [7]},
        {"auth_events": [["$a:a.test"]]},
        {"prev_events": ["event"]},
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_wrong_values(version: RoomVersion, changes: JsonObject) -> None:
    with pytest.raises(Malformed):
        parse_pdu({**raw_event(version), **changes}, version)


@pytest.mark.parametrize(
    "reference",
    [
        "$0:a.test",
        ["$0:a.test"],
        ["$0:a.test", {}, {}],
        ["$0:a.test", "hash"],
        ["event", {"sha256": "aGFzaA"}],
        [7, {"sha256": "aGFzaA"}],
    ],
)
def test_old_references_are_pairs(reference) -> None:
    raw = raw_event(V1)
    parse_pdu({**raw, "prev_events": [OLD_REFERENCE]}, V1)
    for name in ("prev_events", "auth_events"):
        with pytest.raises(Malformed):
            parse_pdu({**raw, name: [OLD_REFERENCE, reference]}, V1)


@pytest.mark.parametrize("event_id", [None, 7, "event", "$event", "$" + "a" * 43])
def test_old_event_ids_name_a_server(event_id) -> None:
    with pytest.raises(Malformed):
        parse_pdu({**raw_event(V2), "event_id": event_id}, V2)


def test_numbers_are_bounded() -> None:
    for version in (V5, V6):
        largest = 2**63 - 1 if version is V5 else 2**53 - 1
        raw = raw_event(version)
        for depth in (0, largest):
            assert parse_pdu({**raw, "depth": depth}, version).depth == depth
        early = parse_pdu({**raw, "origin_server_ts": -largest}, version)
        assert early.origin_server_ts == -largest
        with pytest.raises(Malformed):
            parse_pdu({**raw, "depth": largest + 1}, version)
        with pytest.raises(Malformed):
            parse_pdu({**raw, "origin_server_ts": largest + 1}, version)


def test_strict_json_since_version_6() -> None:
    for content in ({"level": 1.5}, {"level": 2**53}, {"level": [-(2**60)]}):
        assert parse_pdu({**raw_event(V5), "content": content}, V5).content == content
        with pytest.raises(Malformed):
            parse_pdu({**raw_event(V6), "content": content}, V6)


@pytest.mark.parametrize("version", [V1, V6])
def test_what_no_json_can_hold(version: RoomVersion) -> None:
    for value in ("\ud800", float("nan"), {1: 2}, ("a",), b"bytes"):
        with pytest.raises(Malformed):
            parse_pdu({**raw_event(version), "content": {"key": value}}, version)


# ── sizes ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [V1, V3, V6, V12])
def test_size_limits(version: RoomVersion) -> None:
    raw = raw_event(version)
    reference = OLD_REFERENCE if is_old(version) else "$" + "a" * 43
    fits: JsonObject = {
        "type": "t" * 255,
        "state_key": "ü" * 127 + "u",
        "prev_events": [reference] * 20,
        "auth_events": [reference] * 10,
    }
    parse_pdu({**raw, **fits}, version)
    for name, value in fits.items():
        too_much = value + value[:1]  # type: ignore[operator, index]
        with pytest.raises(TooLarge, match=name):
            parse_pdu({**raw, name: too_much}, version)
    with pytest.raises(Malformed):
        parse_pdu({**raw, "sender": "@" + "a" * 249 + ":a.test"}, version)


@pytest.mark.parametrize("version", [V1, V6])
def test_the_whole_event_is_bounded(version: RoomVersion) -> None:
    assert MAX_PDU_BYTES == 65536
    raw = parse_pdu(raw_event(version), version).json
    size = len(canonical_json.encode({**raw, "content": {"body": ""}}))
    body = "ü" * ((MAX_PDU_BYTES - size) // 2) + "u" * ((MAX_PDU_BYTES - size) % 2)
    largest = {**raw, "content": {"body": body}, "unsigned": {"big": "x" * 9000}}
    assert parse_pdu(largest, version).content == {"body": body}
    with pytest.raises(TooLarge):
        parse_pdu({**raw, "content": {"body": body + "x"}}, version)


def test_nesting_is_bounded() -> None:
    deep: JsonObject = {}
    for _ in range(10_000):
        deep = {"": deep}
    for version in (V1, V12):
        with pytest.raises(Malformed):
            parse_pdu({**raw_event(version), "content": deep}, version)
        with pytest.raises(Malformed):
            parse_pdu({**raw_event(version), "signatures": deep}, version)


# ── anything at all ─────────────────────────────────────────────────────────────────


@given(st.sampled_from(VERSIONS), HOSTILE_OBJECTS, st.booleans())
def test_any_object_is_malformed_at_most(version, hostile, based) -> None:
    raw = {**raw_event(version), **hostile} if based else hostile
    try:
        event = parse_pdu(raw, version)
    except Malformed:
        return
    check_it_holds(event)


@given(
    st.sampled_from(VERSIONS),
    st.sampled_from([*REQUIRED, "state_key", "redacts", "event_id"]),
    HOSTILE_JSON,
)
def test_one_hostile_property_is_malformed_at_most(version, name, value) -> None:
    try:
        event = parse_pdu({**raw_event(version), name: value}, version)
    except Malformed:
        return
    check_it_holds(event)


def check_it_holds(event: Pdu) -> None:
    """What callers rely on once an event has been read."""
    assert event.required_signers() is not None
    assert event.redacted().event_id == event.event_id
    assert len(canonical_json.encode(event.json)) <= MAX_PDU_BYTES
    body = json.dumps(event.json)
    again = parse_pdu(canonical_json.parse_object(body), event.version)
    assert again.event_id == event.event_id
    assert again.room_id == event.room_id
