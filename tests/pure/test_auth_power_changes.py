"""Who may change power levels to what, in every room version."""

from federation.auth_rules.rules import Rule
from federation.pdu import Pdu
from federation.room_versions import V12, RoomVersion
from tests.pure.rooms import ALICE, ANNA, BOB, CAROL, Room, Stories, play

stories = Stories()
refused_by, allowed = stories.refused_by, stories.allowed

NAMED = ("users_default", "events_default", "state_default")
NAMED += ("ban", "redact", "kick", "invite")


# ── the form of a power levels event ────────────────────────────────────────────────


def is_strict(version: RoomVersion) -> bool:
    return version.integer_power_levels


def is_lax(version: RoomVersion) -> bool:
    return not version.integer_power_levels


def takes_floats(version: RoomVersion) -> bool:
    return not version.strict_canonical_json


@refused_by(Rule.LEVELS_NAMED)
def a_default_is_a_string(room: Room) -> Pdu:
    return room.power_levels(kick="50")


@refused_by(Rule.LEVELS_NAMED)
def a_default_is_null(room: Room) -> Pdu:
    return room.power_levels(users_default=None)


@refused_by(Rule.LEVELS_NAMED)
def a_default_is_true(room: Room) -> Pdu:
    return room.power_levels(events_default=True)


@refused_by(Rule.LEVELS_EVENTS)
def events_are_no_object(room: Room) -> Pdu:
    return room.power_levels(events=[])


@refused_by(Rule.LEVELS_EVENTS)
def an_event_level_is_a_string(room: Room) -> Pdu:
    return room.power_levels(events={"m.room.topic": "50"})


@refused_by(Rule.LEVELS_EVENTS)
def a_notification_level_is_null(room: Room) -> Pdu:
    return room.power_levels(notifications={"room": None})


@refused_by(Rule.LEVELS_USERS)
def users_are_no_object(room: Room) -> Pdu:
    return room.power_levels(users=[ANNA])


@refused_by(Rule.LEVELS_USERS)
def users_are_null(room: Room) -> Pdu:
    return room.power_levels(users=None)


@refused_by(Rule.LEVELS_USERS)
def a_user_is_no_user_id(room: Room) -> Pdu:
    return room.power_levels(users={ANNA: 1, "bob": 1})


@refused_by(Rule.LEVELS_USERS)
def a_users_level_is_no_number(room: Room) -> Pdu:
    return room.power_levels(users={ANNA: "much"})


@refused_by(Rule.LEVELS_USERS, when=is_strict)
def a_users_level_is_a_string(room: Room) -> Pdu:
    return room.power_levels(users={ANNA: "50"})


@allowed(when=is_lax)
def a_users_level_may_be_a_string_until_version_9(room: Room) -> Pdu:
    return room.power_levels(users={ANNA: "50"}, ban=" 50 ")


@allowed(when=takes_floats)
def a_users_level_may_be_a_float_until_version_5(room: Room) -> Pdu:
    return room.power_levels(users={ANNA: 50.57})


@refused_by(Rule.LEVELS_CREATORS)
def the_creator_is_among_the_users(room: Room) -> Pdu:
    return room.power_levels(users={ALICE: 100})


@refused_by(Rule.LEVELS_CREATORS)
def an_additional_creator_is_among_the_users(room: Room) -> Pdu:
    room.create.content["additional_creators"] = [BOB]
    return room.power_levels(users={ANNA: 50, BOB: 100})


@allowed(when=lambda version: not version.privileged_creators)
def the_creator_is_a_user_like_others_until_version_11(room: Room) -> Pdu:
    return room.power_levels(users={ALICE: 100})


@allowed()
def first_levels_may_hold_anything(room: Room) -> Pdu:
    return room.power_levels(**dict.fromkeys(NAMED, 2**53 - 1), users={ANNA: 200})


@allowed()
def levels_may_be_empty(room: Room) -> Pdu:
    room.has_levels(state_default=0)
    return room.power_levels()


# ── changes: Bob has 60 ─────────────────────────────────────────────────────────────


def given(room: Room, **content) -> None:
    """Bob has 60 and may change the power levels, which are these."""
    room.has_member(BOB)
    users = {BOB: 60, **content.pop("users", {})}
    events = {"m.room.power_levels": 60, **content.pop("events", {})}
    room.has_levels(users=users, events=events, **content)


def bob_sets(room: Room, **content) -> Pdu:
    """What was there, with these properties replaced; None takes one away."""
    before = room.state["m.room.power_levels", ""].content
    after = {
        name: {**value} if isinstance(value, dict) else value
        for name, value in before.items()
    }
    for name, value in content.items():
        if isinstance(value, dict):
            after[name] = {
                key: level
                for key, level in {**after.get(name, {}), **value}.items()
                if level is not None
            }
        else:
            after[name] = value
        if value is None:
            del after[name]
    return room.power_levels(BOB, **after)


@allowed()
def nothing_changes(room: Room) -> Pdu:
    given(room, users={ANNA: 100}, events={"m.room.topic": 100}, ban=100)
    return bob_sets(room)


@refused_by(Rule.LEVELS_NAMED_CURRENT)
def a_default_above_the_sender_is_lowered(room: Room) -> Pdu:
    given(room, ban=61)
    return bob_sets(room, ban=50)


@refused_by(Rule.LEVELS_NAMED_CURRENT)
def a_default_above_the_sender_is_removed(room: Room) -> Pdu:
    given(room, invite=61)
    return bob_sets(room, invite=None)


@refused_by(Rule.LEVELS_NAMED_NEW)
def a_default_is_raised_above_the_sender(room: Room) -> Pdu:
    given(room, kick=10)
    return bob_sets(room, kick=61)


@refused_by(Rule.LEVELS_NAMED_NEW)
def a_default_above_the_sender_is_added(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, users_default=61)


@allowed()
def defaults_up_to_the_sender_change(room: Room) -> Pdu:
    given(room, ban=60, kick=3, redact=0)
    return bob_sets(room, ban=10, kick=60, redact=None, state_default=60)


@allowed()
def absent_defaults_count_as_absent(room: Room) -> Pdu:
    # `ban` was 50 by default, above Bob's 40, and no value of the property
    given(room, users={BOB: 40}, events={"m.room.power_levels": 40})
    return bob_sets(room, ban=40)


@refused_by(Rule.LEVELS_NAMED_NEW, when=is_lax)
def a_default_becomes_what_nobody_can_compare(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, ban="much")


@allowed(when=is_lax)
def what_nobody_can_compare_stays(room: Room) -> Pdu:
    given(room, ban="much", events={"m.x": []})
    return bob_sets(room, kick=10)


@allowed(when=is_lax)
def a_string_replaces_its_number(room: Room) -> Pdu:
    given(room, ban=100, users={ANNA: 100})
    return bob_sets(room, ban="100", users={ANNA: "0100"})


@refused_by(Rule.LEVELS_EVENTS_CURRENT)
def an_event_level_above_the_sender_is_lowered(room: Room) -> Pdu:
    given(room, events={"m.room.topic": 61})
    return bob_sets(room, events={"m.room.topic": 60})


@refused_by(Rule.LEVELS_EVENTS_CURRENT)
def an_event_level_above_the_sender_is_removed(room: Room) -> Pdu:
    given(room, events={"m.room.topic": 61})
    return bob_sets(room, events={"m.room.topic": None})


@refused_by(Rule.LEVELS_EVENTS_NEW)
def an_event_level_above_the_sender_is_added(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, events={"m.room.topic": 61})


@refused_by(Rule.LEVELS_EVENTS_NEW)
def an_event_level_is_raised_above_the_sender(room: Room) -> Pdu:
    given(room, events={"m.room.topic": 60})
    return bob_sets(room, events={"m.room.topic": 61})


@allowed()
def event_levels_up_to_the_sender_change(room: Room) -> Pdu:
    given(room, events={"m.a": 60, "m.b": 60})
    return bob_sets(room, events={"m.a": 0, "m.b": None, "m.c": 60})


def checks_notifications(version: RoomVersion) -> bool:
    return version.checks_notification_levels


def checks_no_notifications(version: RoomVersion) -> bool:
    return not version.checks_notification_levels


@refused_by(Rule.LEVELS_EVENTS_CURRENT, when=checks_notifications)
def a_notification_level_above_the_sender_is_removed(room: Room) -> Pdu:
    given(room, notifications={"room": 61})
    return bob_sets(room, notifications={"room": None})


@refused_by(Rule.LEVELS_EVENTS_NEW, when=checks_notifications)
def a_notification_level_above_the_sender_is_added(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, notifications={"room": 61})


@allowed(when=checks_no_notifications)
def notification_levels_are_free_until_version_5(room: Room) -> Pdu:
    given(room, notifications={"room": 61})
    return bob_sets(room, notifications={"room": 100})


@refused_by(Rule.LEVELS_USERS_CURRENT)
def an_equal_is_demoted(room: Room) -> Pdu:
    given(room, users={ANNA: 60})
    return bob_sets(room, users={ANNA: 59})


@refused_by(Rule.LEVELS_USERS_CURRENT)
def an_equal_is_removed(room: Room) -> Pdu:
    given(room, users={ANNA: 60})
    return bob_sets(room, users={ANNA: None})


@refused_by(Rule.LEVELS_USERS_CURRENT)
def a_superior_is_demoted(room: Room) -> Pdu:
    given(room, users={ANNA: 100})
    return bob_sets(room, users={ANNA: 0})


@refused_by(Rule.LEVELS_USERS_NEW)
def a_user_is_raised_above_the_sender(room: Room) -> Pdu:
    given(room, users={ANNA: 0})
    return bob_sets(room, users={ANNA: 61})


@refused_by(Rule.LEVELS_USERS_NEW)
def a_user_above_the_sender_is_added(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, users={CAROL: 61})


@refused_by(Rule.LEVELS_USERS_NEW)
def the_sender_is_raised(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, users={BOB: 61})


@allowed()
def the_sender_steps_down(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, users={BOB: 0})


@allowed()
def the_sender_leaves_the_list(room: Room) -> Pdu:
    given(room)
    return bob_sets(room, users={BOB: None})


@allowed()
def users_below_the_sender_change(room: Room) -> Pdu:
    given(room, users={ANNA: 59, CAROL: 0})
    return bob_sets(room, users={ANNA: None, CAROL: 60, "@new:d.test": 60})


@stories.parametrize
def test_power_level_rules(rule, story, version) -> None:
    play(rule, story, version)


def test_every_power_level_rule_has_a_story() -> None:
    rules = {rule for rule in Rule if rule.name.startswith("LEVELS_")}
    assert rules == stories.told_of()


def test_creators_change_everything() -> None:
    room = Room(V12)
    room.has_levels(users={ANNA: 2**53 - 1}, ban=2**53 - 1)
    event = room.power_levels(users={ANNA: 0, BOB: 2**53 - 1}, ban=0)
    assert room.refusal(event) is None
