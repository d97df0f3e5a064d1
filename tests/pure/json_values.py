"""Random JSON: what events may hold, what only old rooms hold, and hostile mixtures."""

from hypothesis import strategies as st

MAX_INTEGER = 2**53 - 1

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
STRICT_INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
STRICT_SCALARS = st.none() | st.booleans() | STRICT_INTEGERS | TEXT
LOOSE_SCALARS = (
    STRICT_SCALARS
    | st.integers()
    | st.integers(2**63 - 2, 2**65)
    | st.integers(-(2**65), -(2**63) + 2)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def json_of(
    scalars: st.SearchStrategy, keys: st.SearchStrategy = TEXT, leaves: int = 25
):
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
        ),
        max_leaves=leaves,
    )


STRICT_JSON = json_of(STRICT_SCALARS)
LOOSE_JSON = json_of(LOOSE_SCALARS)

# The words that events are made of, so that hostile values stand where it hurts.
WORDS = st.sampled_from(
    [
        *("@alice:a.test", "@bob:b.test", "@carol:c.test", "$event:a.test", "token"),
        *("type", "state_key", "sender", "room_id", "event_id", "redacts", "depth"),
        *("origin_server_ts", "content", "hashes", "sha256", "signatures", "unsigned"),
        *("prev_events", "auth_events", "!room:a.test", "m.room.create", "a.test"),
        *("m.room.member", "m.room.power_levels", "m.room.join_rules", "ed25519:0"),
        *("membership", "join", "invite", "leave", "ban", "knock", "join_rule"),
        *("public", "restricted", "knock_restricted", "users", "events", "kick"),
        *("users_default", "events_default", "state_default", "redact", "50"),
        *("notifications", "room", "creator", "additional_creators", "m.federate"),
        *("room_version", "third_party_invite", "signed", "mxid", "public_key"),
        *("public_keys", "join_authorised_via_users_server", "", "12", "1", "11"),
    ]
)
HOSTILE_JSON = json_of(LOOSE_SCALARS | WORDS, WORDS | TEXT, leaves=6)
HOSTILE_OBJECTS = st.dictionaries(WORDS | TEXT, HOSTILE_JSON, max_size=6)
