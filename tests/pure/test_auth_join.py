"""Who may join, and who may vouch for it, in every room version."""

import pytest

from federation import auth_rules
from federation.auth_rules.rules import Rule
from federation.pdu import Pdu
from federation.room_versions import RoomVersion
from tests.pure.rooms import (
    ALICE,
    ANNA,
    BOB,
    VERSIONS,
    Room,
    Stories,
    knocks,
    knows_no_knocks,
    knows_no_restricted_knocks,
    play,
    restricts,
    restricts_and_knocks,
    restricts_nothing,
)

stories = Stories()
refused_by, allowed = stories.refused_by, stories.allowed

VOUCHER = "join_authorised_via_users_server"


# ── join ────────────────────────────────────────────────────────────────────────────


@allowed()
def creator_joins_right_after_the_create_event(room: Room) -> Pdu:
    del room.state["m.room.member", ALICE]
    return room.membership(ALICE, "join", prev=[room.create])


@refused_by(Rule.JOIN_NOT_ADMITTED)
def creator_joins_after_something_else(room: Room) -> Pdu:
    del room.state["m.room.member", ALICE]
    return room.membership(ALICE, "join", prev=[room.create, room.message(ALICE)])


@refused_by(Rule.JOIN_NOT_ADMITTED)
def another_joins_right_after_the_create_event(room: Room) -> Pdu:
    return room.membership(ANNA, "join", prev=[room.create])


@allowed()
def joins_a_public_room(room: Room) -> Pdu:
    room.has_join_rule("public")
    return room.membership(BOB, "join")


@allowed()
def joins_with_an_invite(room: Room) -> Pdu:
    room.has_join_rule("invite")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@allowed()
def joins_with_an_invite_where_there_is_no_join_rule(room: Room) -> Pdu:
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@allowed()
def changes_the_name_as_a_member(room: Room) -> Pdu:
    room.has_join_rule("invite")
    return room.membership(ALICE, "join", content={"displayname": "Alice"})


@refused_by(Rule.JOIN_SENDER)
def one_joins_for_another(room: Room) -> Pdu:
    room.has_join_rule("public")
    return room.membership(BOB, "join", sender=ALICE)


@refused_by(Rule.JOIN_BANNED)
def banned_user_joins_a_public_room(room: Room) -> Pdu:
    room.has_join_rule("public")
    room.has_member(BOB, "ban", sender=ALICE)
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def joins_without_an_invite(room: Room) -> Pdu:
    room.has_join_rule("invite")
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def joins_without_an_invite_where_there_is_no_join_rule(room: Room) -> Pdu:
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def comes_back_to_a_private_room(room: Room) -> Pdu:
    room.has_join_rule("invite")
    room.has_member(BOB, "leave")
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def invited_user_joins_under_an_unknown_rule(room: Room) -> Pdu:
    room.has_join_rule("private")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def invited_user_joins_under_a_rule_that_is_no_string(room: Room) -> Pdu:
    room.has_join_rule(["public"])
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@allowed(when=knocks)
def knocking_room_admits_an_invited_user(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED)
def knocking_room_admits_nobody_who_just_knocked(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "knock")
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_NOT_ADMITTED, when=knows_no_knocks)
def knocking_room_before_version_7(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


# ── restricted joins ────────────────────────────────────────────────────────────────


@allowed(when=restricts)
def restricted_room_admits_who_was_vouched_for(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    return room.membership(BOB, "join", content={VOUCHER: ALICE})


@allowed(when=restricts)
def restricted_room_admits_an_invited_user(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join")


@allowed(when=restricts)
def member_of_a_restricted_room_changes_the_name(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    room.has_member(BOB)
    return room.membership(BOB, "join", content={"displayname": "Bob"})


@allowed(when=restricts_and_knocks)
def knock_restricted_room_admits_who_was_vouched_for(room: Room) -> Pdu:
    room.has_join_rule("knock_restricted")
    return room.membership(BOB, "join", content={VOUCHER: ALICE})


@refused_by(Rule.JOIN_VOUCHER)
def nobody_vouches(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_VOUCHER, when=restricts_and_knocks)
def nobody_vouches_in_a_knock_restricted_room(room: Room) -> Pdu:
    room.has_join_rule("knock_restricted")
    room.has_member(BOB, "knock")
    return room.membership(BOB, "join")


@refused_by(Rule.JOIN_VOUCHER)
def the_voucher_is_not_in_the_room(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    return room.membership(BOB, "join", content={VOUCHER: ANNA})


@refused_by(Rule.JOIN_VOUCHER)
def the_voucher_may_not_invite(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    room.has_member(ANNA)
    room.has_levels(invite=50, users={ANNA: 49})
    return room.membership(BOB, "join", content={VOUCHER: ANNA})


@allowed(when=restricts)
def the_voucher_may_just_invite(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    room.has_member(ANNA)
    room.has_levels(invite=50, users={ANNA: 50})
    return room.membership(BOB, "join", content={VOUCHER: ANNA})


@refused_by(Rule.JOIN_NOT_ADMITTED, when=restricts_nothing)
def restricted_room_before_version_8(room: Room) -> Pdu:
    room.has_join_rule("restricted")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join", content={VOUCHER: ALICE})


@refused_by(Rule.JOIN_NOT_ADMITTED, when=knows_no_restricted_knocks)
def knock_restricted_room_before_version_10(room: Room) -> Pdu:
    room.has_join_rule("knock_restricted")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "join", content={VOUCHER: ALICE})


@refused_by(Rule.MEMBER_VOUCHER)
def the_voucher_is_nobody(room: Room) -> Pdu:
    room.has_join_rule("public")
    return room.membership(BOB, "join", content={VOUCHER: "alice"})


@refused_by(Rule.MEMBER_VOUCHER)
def the_voucher_is_no_string(room: Room) -> Pdu:
    return room.membership(ALICE, "leave", content={VOUCHER: None})


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_said_to_vouch_must_sign(version: RoomVersion) -> None:
    room = Room(version)
    room.has_join_rule("public")
    join = room.membership(BOB, "join", content={VOUCHER: ALICE})
    leave = room.membership(ALICE, "leave", content={VOUCHER: BOB})
    expected = room.number(Rule.MEMBER_VOUCHER) if version.restricted_joins else None
    assert room.refusal(join, vouched=False) == expected
    assert room.refusal(leave, vouched=False) == expected
    assert room.refusal(room.membership(BOB, "join"), vouched=False) is None
    auth_rules.check(join, room.state)  # who says nothing has checked it


# ── all of them ─────────────────────────────────────────────────────────────────────


@stories.parametrize
def test_join_rules(rule, story, version) -> None:
    play(rule, story, version)


def test_every_join_rule_has_a_story() -> None:
    groups = ("JOIN_", "MEMBER_VOUCHER")
    assert {rule for rule in Rule if rule.name.startswith(groups)} == stories.told_of()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_creator_is_who_the_version_says(version: RoomVersion) -> None:
    # until version 10 `content.creator`, whoever sent the event; then the sender
    room = Room(version, creator=ANNA)
    first = room.membership(ANNA, "join", prev=[room.create])
    room.state = {("m.room.create", ""): room.create}
    admitted = (
        None if not version.creator_is_sender else room.number(Rule.JOIN_NOT_ADMITTED)
    )
    assert room.refusal(first) == admitted
