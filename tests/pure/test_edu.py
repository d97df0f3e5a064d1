"""EDUs: each kind there and back, and what is wrong left out or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import edu
from federation.edu import (
    DeviceListUpdate,
    DirectToDevice,
    Edu,
    Presence,
    Receipt,
    SigningKeyUpdate,
    Typing,
)
from federation.errors import Malformed
from federation.ids import EventId, RoomId, ServerName, UserId

ORIGIN = ServerName("theirs.example.org")
ALICE = UserId("@alice:theirs.example.org")
BOB = UserId("@bob:ours.example.org")
ROOM = RoomId("!room:theirs.example.org")
EVENT = EventId("$event:theirs.example.org")


def test_an_envelope_comes_back() -> None:
    sent = Edu("m.new_kind", {"a": 1})
    assert edu.parse_edu(sent.json) == sent


@pytest.mark.parametrize(
    "raw",
    [
        None,
        1,
        [],
        {},
        {"edu_type": "m.x"},
        {"edu_type": 1, "content": {}},
        {"edu_type": "m.x", "content": []},
        {"edu_type": "\x00", "content": {}},
    ],
)
def test_a_malformed_envelope_is_refused(raw) -> None:
    with pytest.raises(Malformed):
        edu.parse_edu(raw)


def test_typing_there_and_back() -> None:
    sent = Typing(ROOM, ALICE, typing=True)
    assert sent.to_edu().edu_type == "m.typing"
    assert edu.parse_typing(sent.to_edu().content, ORIGIN) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"room_id": "room"},
        {"room_id": None},
        {"user_id": "alice"},
        {"user_id": BOB},
        {"typing": 1},
        {"typing": None},
    ],
)
def test_malformed_typing_is_refused(changes) -> None:
    content = Typing(ROOM, ALICE, typing=True).to_edu().content | changes
    with pytest.raises(Malformed):
        edu.parse_typing(content, ORIGIN)


def test_receipts_there_and_back() -> None:
    carol = UserId("@carol:theirs.example.org")
    room2 = RoomId("!other:theirs.example.org")
    sent = (
        Receipt(ROOM, ALICE, EVENT, 5, None),
        Receipt(ROOM, carol, EVENT, 6, "main"),
        Receipt(room2, ALICE, EVENT, 7, "$root"),
    )
    (packed,) = edu.receipts_to_edus(sent)
    assert packed.edu_type == "m.receipt"
    assert edu.parse_receipts(packed.content, ORIGIN) == sent


def test_receipts_of_several_threads_take_several_edus() -> None:
    sent = [Receipt(ROOM, ALICE, EVENT, n, thread) for n, thread in enumerate("abc")]
    packed = edu.receipts_to_edus(sent)
    assert len(packed) == 3
    came = [edu.parse_receipts(each.content, ORIGIN) for each in packed]
    assert [receipt for (receipt,) in came] == sent


def test_the_form_of_a_receipt_is_the_specifications() -> None:
    (packed,) = edu.receipts_to_edus([Receipt(ROOM, ALICE, EVENT, 5, None)])
    assert packed.content == {
        ROOM: {"m.read": {ALICE: {"event_ids": [EVENT], "data": {"ts": 5}}}}
    }


def test_bad_receipts_are_left_out_and_spoil_no_other() -> None:
    good = {"event_ids": [EVENT], "data": {"ts": 5}}
    content = {
        ROOM: {
            "m.read": {
                ALICE: good,
                BOB: good,
                "@c:theirs.example.org": {"event_ids": [], "data": {"ts": 5}},
                "@d:theirs.example.org": {"event_ids": [EVENT, EVENT], "data": {}},
                "@e:theirs.example.org": {"event_ids": ["x"], "data": {"ts": 5}},
                "@f:theirs.example.org": {"event_ids": [EVENT], "data": {"ts": "5"}},
                "@g:theirs.example.org": {"event_ids": [EVENT]},
                "@h:theirs.example.org": 5,
            },
            "m.read.private": {ALICE: good},
        },
        "not a room": {"m.read": {ALICE: good}},
        "!a:b": [],
        "!c:d": {"m.read": []},
    }
    assert edu.parse_receipts(content, ORIGIN) == (
        Receipt(ROOM, ALICE, EVENT, 5, None),
    )


def test_presence_there_and_back() -> None:
    sent = (
        Presence(ALICE, "online", 5000, currently_active=True, status_msg="Baking"),
        Presence(UserId("@c:theirs.example.org"), "offline", 0),
    )
    packed = edu.presence_to_edu(sent)
    assert packed.edu_type == "m.presence"
    assert edu.parse_presence(packed.content, ORIGIN) == sent


def test_bad_presence_is_left_out_and_spoils_no_other() -> None:
    good = {"user_id": ALICE, "presence": "online", "last_active_ago": 1}
    push = [
        good | {"user_id": BOB},
        good | {"presence": "dancing"},
        good | {"last_active_ago": None},
        good | {"status_msg": "\0"},
        good | {"currently_active": "yes"},
        7,
        good,
    ]
    assert edu.parse_presence({"push": push}, ORIGIN) == (Presence(ALICE, "online", 1),)
    with pytest.raises(Malformed):
        edu.parse_presence({"push": good}, ORIGIN)


@pytest.mark.parametrize(
    "sent",
    [
        DeviceListUpdate(ALICE, "DEV", 6),
        DeviceListUpdate(ALICE, "DEV", 6, (4, 5), deleted=True),
        DeviceListUpdate(ALICE, "DEV", 6, (5,), False, "Phone", {"keys": {}}),
    ],
)
def test_device_list_updates_there_and_back(sent) -> None:
    packed = sent.to_edu()
    assert packed.edu_type == "m.device_list_update"
    assert edu.parse_device_list_update(packed.content, ORIGIN) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": BOB},
        {"device_id": None},
        {"device_id": "\0"},
        {"stream_id": "6"},
        {"prev_id": 5},
        {"prev_id": ["5"]},
        {"deleted": "yes"},
        {"keys": []},
        {"device_display_name": 5},
    ],
)
def test_malformed_device_list_updates_are_refused(changes) -> None:
    content = DeviceListUpdate(ALICE, "DEV", 6).to_edu().content | changes
    with pytest.raises(Malformed):
        edu.parse_device_list_update(content, ORIGIN)


def test_messages_to_devices_there_and_back() -> None:
    sent = DirectToDevice(
        ALICE, "m.room_key_request", "m1", {BOB: {"DEV": {"a": 1}, "*": {"b": 2}}}
    )
    packed = sent.to_edu()
    assert packed.edu_type == "m.direct_to_device"
    assert edu.parse_direct_to_device(packed.content, ORIGIN) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": BOB},
        {"sender": None},
        {"type": 5},
        {"message_id": "x" * 33},
        {"message_id": None},
        {"messages": []},
        {"messages": {"bob": {}}},
        {"messages": {BOB: []}},
        {"messages": {BOB: {"DEV": "text"}}},
    ],
)
def test_malformed_messages_to_devices_are_refused(changes) -> None:
    content = DirectToDevice(ALICE, "m.x", "m1", {}).to_edu().content | changes
    with pytest.raises(Malformed):
        edu.parse_direct_to_device(content, ORIGIN)


@pytest.mark.parametrize(
    "sent",
    [
        SigningKeyUpdate(ALICE),
        SigningKeyUpdate(ALICE, {"usage": ["master"]}, {"usage": ["self_signing"]}),
    ],
)
def test_signing_key_updates_there_and_back(sent) -> None:
    packed = sent.to_edu()
    assert packed.edu_type == "m.signing_key_update"
    assert edu.parse_signing_key_update(packed.content, ORIGIN) == sent


@pytest.mark.parametrize("changes", [{"user_id": BOB}, {"master_key": "key"}])
def test_malformed_signing_key_updates_are_refused(changes) -> None:
    content = SigningKeyUpdate(ALICE).to_edu().content | changes
    with pytest.raises(Malformed):
        edu.parse_signing_key_update(content, ORIGIN)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["push", "messages", "user_id", "m.read", ROOM, ALICE]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=9) | st.just(ROOM), ANY_JSON, max_size=4))
def test_any_json_is_parsed_or_malformed(content) -> None:
    for parse in (
        edu.parse_typing,
        edu.parse_receipts,
        edu.parse_presence,
        edu.parse_device_list_update,
        edu.parse_direct_to_device,
        edu.parse_signing_key_update,
    ):
        try:
            parse(content, ORIGIN)
        except Malformed:
            continue
