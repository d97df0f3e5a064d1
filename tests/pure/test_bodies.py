"""Bodies of the server-server API: both ends understand each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import bodies, query_bodies
from federation.bodies import (
    EventAtTime,
    EventTemplate,
    Invite,
    JoinedRoom,
    MissingEventsQuery,
    RoomState,
    RoomStateIds,
    ThirdPartyInviteExchange,
    Transaction,
    TransactionResult,
)
from federation.edu import Edu
from federation.errors import Malformed
from federation.query_bodies import (
    DirectoryEntry,
    PublicRooms,
    PublicRoomsQuery,
    SpaceHierarchy,
    UserDevice,
    UserDevices,
    UserKeys,
    Version,
)

ALICE = "@alice:a.test"
ROOM = "!room:a.test"
EVENT = "$event:a.test"
PDU = {"type": "m.room.message", "room_id": ROOM}
SUMMARY = {
    "room_id": ROOM,
    "num_joined_members": 3,
    "world_readable": False,
    "guest_can_join": True,
}
CHILD = {
    "type": "m.space.child",
    "state_key": "!child:a.test",
    "sender": ALICE,
    "content": {"via": ["a.test"]},
    "origin_server_ts": 5,
}
SIGNED = {"mxid": ALICE, "token": "t", "signatures": {}}
EXCHANGE = ThirdPartyInviteExchange(
    ROOM,
    "@bob:b.test",
    ALICE,
    {
        "membership": "invite",
        "third_party_invite": {"display_name": "a", "signed": SIGNED},
    },
)


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (bodies.parse_transaction, Transaction("a.test", 5)),
        (
            bodies.parse_transaction,
            Transaction("a.test", 5, (PDU,) * 50, (Edu("m.x", {}),) * 100),
        ),
        (
            bodies.parse_transaction_result,
            TransactionResult({EVENT: None, "$2:a.test": "no"}),
        ),
        (bodies.parse_missing_events_query, MissingEventsQuery((EVENT,), (EVENT,))),
        (bodies.parse_missing_events_query, MissingEventsQuery((), (EVENT,), 20, 7)),
        (bodies.parse_room_state, RoomState((PDU,), (PDU, PDU))),
        (bodies.parse_room_state_ids, RoomStateIds((EVENT,), (EVENT,))),
        (bodies.parse_event_at_time, EventAtTime(EVENT, 5)),
        (bodies.parse_joined_room, JoinedRoom((PDU,), (PDU,))),
        (
            bodies.parse_joined_room,
            JoinedRoom(
                (PDU,), (), PDU, members_omitted=True, servers_in_room=("a.test",)
            ),
        ),
        (bodies.parse_invite, Invite("12", PDU, (PDU,))),
        (bodies.parse_third_party_invite_exchange, EXCHANGE),
        (query_bodies.parse_version, Version("Hearth", "0.1")),
        (query_bodies.parse_directory_entry, DirectoryEntry(ROOM, ("a.test",))),
        (query_bodies.parse_public_rooms_query, PublicRoomsQuery()),
        (
            query_bodies.parse_public_rooms_query,
            PublicRoomsQuery(
                limit=10,
                since="s",
                generic_search_term="foo",
                room_types=(None, "m.space"),
                include_all_networks=True,
                third_party_instance_id="irc",
            ),
        ),
        (query_bodies.parse_public_rooms, PublicRooms((SUMMARY,), "n", "p", 7)),
        (
            query_bodies.parse_user_keys,
            UserKeys({ALICE: {"DEV": {"keys": {}}}}, {ALICE: {}}, {}),
        ),
    ],
)
def test_what_one_end_writes_the_other_reads(parse, body) -> None:
    assert parse(body.json) == body


def test_an_exchange_needs_no_name_which_the_room_has() -> None:
    invite = {"membership": "invite", "third_party_invite": {"signed": SIGNED}}
    body = EXCHANGE.json | {"content": invite}
    assert bodies.parse_third_party_invite_exchange(body).json == body
    invite["third_party_invite"] = {"signed": SIGNED, "display_name": 5}
    with pytest.raises(Malformed):
        bodies.parse_third_party_invite_exchange(body)


@pytest.mark.parametrize(
    ("build", "parse", "value"),
    [
        (
            query_bodies.build_device_keys_query,
            query_bodies.parse_device_keys_query,
            {ALICE: ("DEV",), "@b:a.test": ()},
        ),
        (
            query_bodies.build_one_time_keys_claim,
            query_bodies.parse_one_time_keys_claim,
            {ALICE: {"DEV": "signed_curve25519"}},
        ),
        (
            query_bodies.build_claimed_keys,
            query_bodies.parse_claimed_keys,
            {ALICE: {"DEV": {"signed_curve25519:A": {"key": "k"}}}},
        ),
    ],
)
def test_what_one_end_builds_the_other_reads(build, parse, value) -> None:
    assert parse(build(value)) == value


def test_a_transaction_holds_at_most_50_pdus_and_100_edus() -> None:
    body = Transaction("a.test", 5).json
    for name, most in (("pdus", 50), ("edus", 100)):
        bodies.parse_transaction(body | {name: [{}] * most})
        with pytest.raises(Malformed):
            bodies.parse_transaction(body | {name: [{}] * (most + 1)})


def test_units_that_are_no_objects_spoil_no_other() -> None:
    body = Transaction("a.test", 5).json | {
        "pdus": [5, PDU, None],
        "edus": ["x", {"edu_type": "m.x", "content": {}}, {"edu_type": "m.x"}],
    }
    parsed = bodies.parse_transaction(body)
    assert parsed.pdus == (PDU,)
    assert parsed.edus == (Edu("m.x", {}),)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": None},
        {"origin": "not a name"},
        {"origin_server_ts": "5"},
        {"pdus": None},
        {"pdus": {}},
        {"edus": {}},
    ],
)
def test_a_malformed_transaction_is_refused(changes) -> None:
    with pytest.raises(Malformed):
        bodies.parse_transaction(Transaction("a.test", 5).json | changes)


def template(**changes):
    event = {
        "type": "m.room.member",
        "room_id": ROOM,
        "sender": ALICE,
        "state_key": ALICE,
        "content": {"membership": "join"},
    }
    return EventTemplate("12", event | changes).json


def test_a_template_that_fits_is_accepted() -> None:
    parsed = bodies.parse_event_template(template(), ROOM, ALICE, "join")
    assert parsed.json == template()
    without = {"event": template()["event"]}
    assert bodies.parse_event_template(without, ROOM, ALICE, "join").room_version == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "m.room.power_levels"},
        {"room_id": "!other:a.test"},
        {"sender": "@bob:a.test"},
        {"state_key": "@bob:a.test"},
        {"content": {"membership": "invite"}},
        {"content": None},
    ],
)
def test_a_template_for_something_else_is_malformed(changes) -> None:
    with pytest.raises(Malformed):
        bodies.parse_event_template(template(**changes), ROOM, ALICE, "join")


def test_omitted_members_need_the_servers_in_the_room() -> None:
    body = {"state": [], "auth_chain": [], "members_omitted": True}
    with pytest.raises(Malformed):
        bodies.parse_joined_room(body)


def test_a_single_pdu_is_exactly_one() -> None:
    assert bodies.parse_single_pdu({"pdus": [PDU]}) == PDU
    for pdus in ([], [PDU, PDU], [5], None):
        with pytest.raises(Malformed):
            bodies.parse_single_pdu({"pdus": pdus})


def test_a_version_1_invite_carries_its_state_in_unsigned() -> None:
    invite = Invite("1", PDU | {"unsigned": {"age": 5}}, (PDU,))
    assert invite.v1_json["unsigned"] == {"age": 5, "invite_room_state": [PDU]}
    parsed = bodies.parse_v1_invite(invite.v1_json)
    assert parsed.room_version == "1"
    assert parsed.invite_room_state == (PDU,)


def test_version_1_answers_are_a_list() -> None:
    assert bodies.parse_v1_answer([200, {"event": PDU}]) == {"event": PDU}
    for body in ([], [200], [404, {}], [200, []], {"event": PDU}):
        with pytest.raises(Malformed):
            bodies.parse_v1_answer(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "m.room.message"},
        {"state_key": "@other:a.test"},
        {"content": {"membership": "join"}},
        {"content": EXCHANGE.content | {"third_party_invite": {"display_name": "a"}}},
    ],
)
def test_an_exchange_of_something_else_is_malformed(changes) -> None:
    with pytest.raises(Malformed):
        bodies.parse_third_party_invite_exchange(EXCHANGE.json | changes)


def test_published_rooms_that_lack_something_are_left_out() -> None:
    bad = [
        {},
        5,
        SUMMARY | {"room_id": "x"},
        SUMMARY | {"world_readable": 1},
        SUMMARY | {"name": 5},
    ]
    assert query_bodies.parse_public_rooms({"chunk": [*bad, SUMMARY]}).chunk == (
        SUMMARY,
    )


def test_a_hierarchy_is_that_of_the_room_asked_for() -> None:
    room = SUMMARY | {"children_state": [CHILD, {}, CHILD | {"state_key": "x"}]}
    body = {
        "room": room,
        "children": [SUMMARY, {}],
        "inaccessible_children": ["!secret:a.test"],
    }
    parsed = query_bodies.parse_space_hierarchy(body, ROOM)
    assert parsed == SpaceHierarchy(
        SUMMARY | {"children_state": [CHILD]}, (SUMMARY,), ("!secret:a.test",)
    )
    assert query_bodies.parse_space_hierarchy(parsed.json, ROOM) == parsed
    with pytest.raises(Malformed):
        query_bodies.parse_space_hierarchy(body, "!other:a.test")


def test_devices_are_those_of_the_user_asked_for() -> None:
    devices = UserDevices(
        ALICE, 5, (UserDevice("A", {}, "Phone"), UserDevice("B", {})), {"k": 1}
    )
    assert query_bodies.parse_user_devices(devices.json, ALICE) == devices
    with pytest.raises(Malformed):
        query_bodies.parse_user_devices(devices.json, "@bob:a.test")


def test_a_profile_keeps_custom_fields_and_loses_nulls() -> None:
    body = {"displayname": "Alice", "avatar_url": None, "m.tz": "Europe/London"}
    assert query_bodies.parse_profile(body) == {
        "displayname": "Alice",
        "m.tz": "Europe/London",
    }
    with pytest.raises(Malformed):
        query_bodies.parse_profile({"displayname": 5})


def test_claimed_keys_are_strings_or_objects() -> None:
    good = {"one_time_keys": {ALICE: {"DEV": {"curve25519:A": "key"}}}}
    query_bodies.parse_claimed_keys(good)
    with pytest.raises(Malformed):
        query_bodies.parse_claimed_keys(
            {"one_time_keys": {ALICE: {"DEV": {"curve25519:A": 5}}}}
        )


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.just(ALICE), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "pdus",
        "edus",
        "origin",
        "origin_server_ts",
        "auth_chain",
        "events",
        "pdu_ids",
        "auth_chain_ids",
        "event",
        "state",
        "servers_in_room",
        "members_omitted",
        "room_version",
        "content",
        "signed",
        "type",
        "room_id",
        "servers",
        "server",
        "chunk",
        "filter",
        "limit",
        "room",
        "children",
        "devices",
        "user_id",
        "device_keys",
        "master_keys",
        "one_time_keys",
        "earliest_events",
        "latest_events",
        "min_depth",
    ]
)


@given(st.dictionaries(NAMES, ANY_JSON, max_size=6))
def test_any_json_is_parsed_or_malformed(body) -> None:
    for parse in (
        bodies.parse_transaction,
        bodies.parse_transaction_result,
        bodies.parse_missing_events_query,
        bodies.parse_room_state,
        bodies.parse_room_state_ids,
        bodies.parse_event_at_time,
        bodies.parse_joined_room,
        bodies.parse_invite,
        bodies.parse_v1_invite,
        bodies.parse_signatures,
        bodies.parse_third_party_invite_exchange,
        query_bodies.parse_version,
        query_bodies.parse_directory_entry,
        query_bodies.parse_profile,
        query_bodies.parse_public_rooms_query,
        query_bodies.parse_public_rooms,
        query_bodies.parse_user_keys,
        query_bodies.parse_device_keys_query,
        query_bodies.parse_one_time_keys_claim,
        query_bodies.parse_claimed_keys,
        lambda value: query_bodies.parse_space_hierarchy(value, ROOM),
        lambda value: query_bodies.parse_user_devices(value, ALICE),
        lambda value: bodies.parse_event_template(value, ROOM, ALICE, "join"),
    ):
        try:
            parse(body)
        except Malformed:
            continue
