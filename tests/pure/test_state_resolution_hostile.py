"""Whatever servers put into events, resolution ends with an answer and no error."""

from fake_rooms import ALICE, BOB, CAROL, EVE, make_pdu, public_room, version_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.errors import Malformed
from federation.pdu import Pdu
from federation.state_resolution import Known, resolve_states, run

VERSIONS = st.sampled_from(["1", "2", "5", "6", "9", "10", "12"])
USERS = st.sampled_from([ALICE, BOB, CAROL, EVE])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.sampled_from(["", "50", " +7 ", "1e9", "join", "ban", "public", ALICE, "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            USERS | st.sampled_from(["m.room.topic", "signed"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
WORDS = st.sampled_from(
    (
        *("users", "users_default", "events", "ban", "kick", "invite", "state_default"),
        *("membership", "join_rule", "allow", "third_party_invite", "creator"),
        *("additional_creators", "m.federate", "join_authorised_via_users_server"),
    )
)
CONTENTS = st.dictionaries(WORDS, VALUES, max_size=4)
TYPES = st.sampled_from(
    (
        *("create", "member", "power_levels", "join_rules", "third_party_invite"),
        *("topic", "aliases", "redaction"),
    )
)
STATE_KEYS = st.sampled_from(["", ALICE, BOB, "a.test", "\0", "@"]) | st.none()


@st.composite
def rooms(draw: st.DrawFn) -> tuple[str, list[Pdu]]:
    """A sound room, then events of any content that cite whatever there is."""
    version = draw(VERSIONS)
    room = public_room(version, {ALICE: 100, BOB: 50})
    pdus = [known.pdu for known in room.events.values()]
    for _ in range(draw(st.integers(2, 12))):
        some = st.lists(st.sampled_from(pdus), max_size=4, unique_by=id)
        try:
            pdu = make_pdu(
                version_of(version),
                sender=draw(USERS),
                kind="m.room." + draw(TYPES),
                content=draw(CONTENTS),
                state_key=draw(STATE_KEYS),
                prev=draw(some),
                auth=draw(some),
                ts=draw(st.integers(-(2**53) + 1, 2**53 - 1)),
                depth=draw(st.integers(0, 2**53 - 1)),
                room_id=room.room_id,
                event_id=draw(st.sampled_from([None, "$1:b.test", "$2:b.test"])),
            )
        except Malformed:
            continue
        pdus.append(pdu)
    return version, pdus


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(rooms(), st.data())
def test_any_states_of_any_events_are_resolved(room, data):
    version, pdus = room
    # Event IDs of versions 1 and 2 may collide and so form circles; the last stays.
    events = {one.event_id: Known(one, data.draw(st.booleans())) for one in pdus}
    for unknown in data.draw(st.sets(st.sampled_from(sorted(events)), max_size=2)):
        del events[unknown]
    states = [
        {one.key: one.event_id for one in some if one.key is not None}
        for some in data.draw(
            st.lists(st.lists(st.sampled_from(pdus), max_size=10), max_size=4)
        )
    ]
    first = run(resolve_states(version_of(version), states), events)
    assert run(resolve_states(version_of(version), states[::-1]), events) == first
    candidates = {event for state in states for event in state.values()}
    if version == "1":
        assert set(first.values()) <= candidates
    for key, event_id in first.items():
        known = events.get(event_id)
        if known is not None:
            assert known.pdu.key == key or event_id in candidates
