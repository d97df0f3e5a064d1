"""Who has which power in a state, in every room version."""

import math

import pytest

from federation.auth_rules import PowerLevels
from federation.auth_rules.create import creators_of
from federation.auth_rules.power_levels import level_of
from federation.room_versions import V1, V5, V6, V9, V10, V11, V12, RoomVersion
from tests.pure.rooms import ALICE, ANNA, BOB, CAROL, VERSIONS, Room


def levels_of(room: Room) -> PowerLevels:
    return PowerLevels.of(room.state, room.version)


# ── reading ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("with_event", [False, True])
def test_defaults(version: RoomVersion, *, with_event: bool) -> None:
    room = Room(version)
    if with_event:
        room.has_levels()
    levels = levels_of(room)
    named = (levels.invite, levels.kick, levels.ban, levels.redact)
    assert named == (0, 50, 50, 50)
    assert levels.required("m.room.message", is_state=False) == 0
    assert levels.required("m.room.topic", is_state=True) == 50
    assert levels.notification("room") == 50
    assert levels.user(BOB) == 0
    if version.privileged_creators:
        assert levels.user(ALICE) == math.inf
    else:
        assert levels.user(ALICE) == (0 if with_event else 100)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_event_says_counts(version: RoomVersion) -> None:
    room = Room(version)
    room.has_levels(
        users={BOB: 30, CAROL: -5},
        users_default=1,
        events={"m.room.topic": 7, "m.room.message": 8},
        events_default=2,
        state_default=3,
        ban=4,
        kick=5,
        redact=6,
        invite=9,
        notifications={"room": 10},
    )
    levels = levels_of(room)
    users = [levels.user(user_id) for user_id in (BOB, CAROL, ANNA)]
    assert users == [30, -5, 1]
    assert levels.required("m.room.topic", is_state=True) == 7
    assert levels.required("m.room.message", is_state=False) == 8
    assert levels.required("org.example", is_state=False) == 2
    assert levels.required("org.example", is_state=True) == 3
    named = (levels.ban, levels.kick, levels.redact, levels.invite)
    assert named == (4, 5, 6, 9)
    assert levels.notification("room") == 10
    assert levels.notification("org.example") == 50


def test_creators_have_infinite_power_since_version_12() -> None:
    room = Room(V12, additional_creators=[BOB])
    room.has_levels(users={ANNA: 2**53 - 1}, users_default=3)
    levels = levels_of(room)
    assert levels.user(ALICE) == levels.user(BOB) == math.inf > levels.user(ANNA)
    assert levels.user(CAROL) == 3
    assert creators_of(room.create) == {ALICE, BOB}
    del room.state["m.room.create", ""]
    assert levels_of(room).user(BOB) == 3
    assert PowerLevels.of(room.state, V12, room.create).user(BOB) == math.inf
    earlier = Room(V11, additional_creators=[BOB])
    assert levels_of(earlier).user(BOB) == 0
    assert creators_of(earlier.create) == {ALICE}


def test_the_creator_of_old_rooms_is_named_in_the_content() -> None:
    for version, powerful in [(V10, ANNA), (V11, ALICE)]:
        room = Room(version, creator=ANNA)
        assert levels_of(room).user(powerful) == 100
        assert creators_of(room.create) == {powerful}
    for nobody in (None, ["@alice:a.test"], {}):
        room = Room(V1, creator=nobody)
        assert levels_of(room).user(ALICE) == 0
        assert creators_of(room.create) == frozenset()


@pytest.mark.parametrize(
    ("value", "until_v5", "until_v9", "since_v10"),
    [
        (50, 50, 50, 50),
        (-50, -50, -50, -50),
        (2**70, 2**70, 2**70, 2**70),
        ("50", 50, 50, None),
        ("000100", 100, 100, None),
        ("+100", 100, 100, None),
        ("-0100", -100, -100, None),
        (" \t100\n ", 100, 100, None),
        (" -100 ", -100, -100, None),
        ("0000", 0, 0, None),
        ("-0", 0, 0, None),
        ("9" * 600, int("9" * 600), int("9" * 600), None),
        ("0" * 60_000 + "7", 7, 7, None),
        (50.57, 50, None, None),
        (-50.57, -50, None, None),
        (5.114698e4, 51146, None, None),
        ("", None, None, None),
        (" ", None, None, None),
        ("+", None, None, None),
        ("+-1", None, None, None),
        ("- 1", None, None, None),
        ("1 0", None, None, None),
        ("1_000", None, None, None),
        ("1.0", None, None, None),
        ("1e3", None, None, None),
        ("0x10", None, None, None),
        ("٣", None, None, None),
        ("9" * 601, None, None, None),
        ("0" * 60_000 + "x", None, None, None),
        (True, None, None, None),
        (None, None, None, None),
        ([50], None, None, None),
        ({"level": 50}, None, None, None),
        (math.inf, None, None, None),
        (math.nan, None, None, None),
    ],
)
def test_what_counts_as_a_level(value, until_v5, until_v9, since_v10) -> None:
    for version in VERSIONS:
        if int(version.identifier) <= 5:
            expected = until_v5
        elif int(version.identifier) <= 9:
            expected = until_v9
        else:
            expected = since_v10
        assert level_of(value, version) == expected, version


@pytest.mark.parametrize("version", [V1, V5, V6, V9])
def test_old_rooms_may_hold_strings(version: RoomVersion) -> None:
    room = Room(version)
    room.has_levels(
        users={BOB: " 99"}, users_default="-1", ban="+70", events={"m.x": "08"}
    )
    levels = levels_of(room)
    assert levels.user(BOB) == 99
    assert levels.user(CAROL) == -1
    assert levels.ban == 70
    assert levels.required("m.x", is_state=True) == 8


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_no_level_is_as_if_it_were_not_there(version: RoomVersion) -> None:
    room = Room(version)
    room.has_levels(
        users={BOB: "much", CAROL: None},
        users_default=3,
        events=["m.room.topic"],
        state_default={},
        ban=True,
        notifications="room",
    )
    levels = levels_of(room)
    assert (levels.user(BOB), levels.user(CAROL)) == (3, 3)
    assert levels.required("m.room.topic", is_state=True) == 50
    assert levels.ban == 50
    assert levels.notification("room") == 50
    room.has_levels(users=[BOB])
    assert levels_of(room).user(BOB) == 0
