"""What redaction leaves of an event, by room version, word for word."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from federation import signatures
from federation.canonical_json import JsonObject
from federation.redaction import redact
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from tests.pure.json_values import STRICT_JSON, STRICT_SCALARS, TEXT
from tests.pure.rooms import VERSIONS, Room

TOP_LEVEL = {
    *("event_id", "type", "room_id", "sender", "state_key", "content", "hashes"),
    *("signatures", "depth", "prev_events", "auth_events", "origin_server_ts"),
}
OLD_TOP_LEVEL = TOP_LEVEL | {"origin", "membership", "prev_state"}
LEVELS = {
    *("ban", "events", "events_default", "kick", "redact", "state_default"),
    *("users", "users_default"),
}
# type: versions from which on these keys of the content survive
CONTENT = {
    "m.room.member": {
        1: {"membership"},
        9: {"membership", "join_authorised_via_users_server"},
        11: {"membership", "join_authorised_via_users_server", "third_party_invite"},
    },
    "m.room.create": {1: {"creator"}, 11: "all"},
    "m.room.join_rules": {1: {"join_rule"}, 8: {"join_rule", "allow"}},
    "m.room.power_levels": {1: LEVELS, 11: LEVELS | {"invite"}},
    "m.room.history_visibility": {1: {"history_visibility"}},
    "m.room.aliases": {1: {"aliases"}, 6: set()},
    "m.room.redaction": {1: set(), 11: {"redacts"}},
    "m.room.message": {1: set()},
    "m.room.name": {1: set()},
}
KEYS = {
    *OLD_TOP_LEVEL,
    *LEVELS,
    *("membership", "join_authorised_via_users_server", "creator", "room_version"),
    *("join_rule", "allow", "invite", "notifications", "history_visibility", "aliases"),
    *("redacts", "additional_creators", "m.federate", "body", "name", "displayname"),
    *("unsigned", "replaces_state", "age_ts", "third_party_invite"),
}


def kept(event_type: str, version: RoomVersion) -> set[str] | str:
    since = CONTENT[event_type]
    return since[max(n for n in since if n <= int(version.identifier))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("event_type", CONTENT)
def test_what_the_text_keeps_survives(version, event_type) -> None:
    content = {key: {"of": key} for key in KEYS}
    event = {key: key for key in KEYS} | {"type": event_type, "content": content}
    pruned = redact(event, version)
    top = TOP_LEVEL if int(version.identifier) >= 11 else OLD_TOP_LEVEL
    assert {key: pruned[key] for key in top} == {key: event[key] for key in top} | {
        "content": pruned["content"]
    }
    assert pruned.keys() == top
    expected = kept(event_type, version)
    assert isinstance(pruned["content"], dict)
    assert pruned["content"].keys() == (KEYS if expected == "all" else expected)
    assert "of" in str(event["content"])  # the original is untouched
    assert event["content"] is content
    assert content.keys() == KEYS


@pytest.mark.parametrize(
    ("invite", "remains"),
    [
        ({"signed": {"token": "t"}, "display_name": "B."}, {"signed": {"token": "t"}}),
        ({"signed": None}, {"signed": None}),
        ({"display_name": "B."}, {}),
        ("signed", None),
        (None, None),
    ],
)
def test_third_party_invites_keep_what_was_signed(invite, remains) -> None:
    event: JsonObject = {
        "type": "m.room.member",
        "content": {"membership": "invite", "third_party_invite": invite},
    }
    expected = {"membership": "invite"}
    assert redact(event, ROOM_VERSIONS["10"])["content"] == expected
    if remains is not None:
        expected = {**expected, "third_party_invite": remains}
    assert redact(event, ROOM_VERSIONS["11"])["content"] == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("content", [None, [], "content", 7])
def test_content_that_is_no_object_becomes_one(version, content) -> None:
    assert redact({"type": "m.x", "content": content}, version) == {
        "type": "m.x",
        "content": {},
    }


keys = st.sampled_from(sorted(KEYS)) | TEXT
events = st.dictionaries(keys, STRICT_JSON, max_size=12).flatmap(
    lambda event: st.fixed_dictionaries(
        {
            "type": st.sampled_from(sorted(CONTENT)) | STRICT_SCALARS,
            "content": st.dictionaries(keys, STRICT_JSON, max_size=8) | STRICT_SCALARS,
        }
    ).map(lambda core: {**event, **core})
)


@given(events, st.sampled_from(VERSIONS))
@example(
    {"type": "m.room.member", "content": {"third_party_invite": {"signed": 1, "b": 2}}},
    ROOM_VERSIONS["12"],
)
def test_redacting_twice_changes_nothing_more(event, version) -> None:
    pruned = redact(event, version)
    assert redact(pruned, version) == pruned


@given(events, st.sampled_from(VERSIONS))
def test_the_reference_hash_survives(event, version) -> None:
    assert signatures.reference_hash(event, version) == signatures.reference_hash(
        redact(event, version), version
    )


@given(st.sampled_from(VERSIONS), st.sampled_from(sorted(CONTENT)), st.data())
def test_a_redacted_pdu_is_the_same_event(version, event_type, data) -> None:
    content = data.draw(st.dictionaries(keys, STRICT_JSON, max_size=8))
    event = Room(version).event(event_type, content, state_key="key")
    redacted = event.redacted()
    assert redacted.event_id == event.event_id
    assert redacted.json == redact(event.json, version)
    assert redacted.key == event.key
    assert redacted.prev_events == event.prev_events
    assert redacted.membership == event.membership
    assert redacted.redacted().json == redacted.json
