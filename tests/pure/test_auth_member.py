"""Invites, leaves, kicks, bans and knocks, in every room version."""

from federation.auth_rules.rules import Rule
from federation.pdu import Pdu
from tests.pure.rooms import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    Room,
    Stories,
    knocks,
    knows_no_knocks,
    knows_no_restricted_knocks,
    play,
    restricts_and_knocks,
)

stories = Stories()
refused_by, allowed = stories.refused_by, stories.allowed


# ── the form of member events ───────────────────────────────────────────────────────


@refused_by(Rule.MEMBER_INCOMPLETE)
def no_state_key(room: Room) -> Pdu:
    return room.event("m.room.member", {"membership": "join"})


@refused_by(Rule.MEMBER_INCOMPLETE)
def no_membership(room: Room) -> Pdu:
    return room.event("m.room.member", {}, state_key=ALICE)


@refused_by(Rule.MEMBER_UNKNOWN)
def membership_that_nobody_knows(room: Room) -> Pdu:
    return room.membership(ALICE, "dance")


@refused_by(Rule.MEMBER_UNKNOWN)
def membership_that_is_null(room: Room) -> Pdu:
    return room.event("m.room.member", {"membership": None}, state_key=ALICE)


@refused_by(Rule.MEMBER_UNKNOWN, when=knows_no_knocks)
def knock_before_version_7(room: Room) -> Pdu:
    room.has_join_rule("knock")
    return room.membership(BOB, "knock")


# ── invite ──────────────────────────────────────────────────────────────────────────


@allowed()
def member_invites(room: Room) -> Pdu:
    return room.membership(BOB, "invite", sender=ALICE)


@allowed()
def member_invites_again_who_has_left_and_knocked(room: Room) -> Pdu:
    room.has_member(BOB, "knock")
    return room.membership(BOB, "invite", sender=ALICE)


@allowed()
def ordinary_member_invites_without_power_levels(room: Room) -> Pdu:
    room.has_member(ANNA)
    return room.membership(BOB, "invite", sender=ANNA)


@refused_by(Rule.INVITE_SENDER)
def stranger_invites(room: Room) -> Pdu:
    return room.membership(BOB, "invite", sender=ANNA)


@refused_by(Rule.INVITE_TARGET)
def member_is_invited(room: Room) -> Pdu:
    room.has_member(BOB)
    return room.membership(BOB, "invite", sender=ALICE)


@refused_by(Rule.INVITE_TARGET)
def banned_user_is_invited(room: Room) -> Pdu:
    room.has_member(BOB, "ban", sender=ALICE)
    return room.membership(BOB, "invite", sender=ALICE)


@refused_by(Rule.INVITE_LEVEL)
def member_has_too_little_power_to_invite(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_levels(invite=1)
    return room.membership(BOB, "invite", sender=ANNA)


# ── leave, kick, unban ──────────────────────────────────────────────────────────────


@allowed()
def member_leaves(room: Room) -> Pdu:
    room.has_member(BOB)
    return room.membership(BOB, "leave")


@allowed()
def invited_user_declines(room: Room) -> Pdu:
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "leave")


@allowed(when=knocks)
def knocking_user_goes_away(room: Room) -> Pdu:
    room.has_member(BOB, "knock")
    return room.membership(BOB, "leave")


@refused_by(Rule.LEAVE_OWN, when=knows_no_knocks)
def knocking_user_goes_away_before_version_7(room: Room) -> Pdu:
    room.has_member(BOB, "knock")
    return room.membership(BOB, "leave")


@refused_by(Rule.LEAVE_OWN)
def stranger_leaves(room: Room) -> Pdu:
    return room.membership(BOB, "leave")


@refused_by(Rule.LEAVE_OWN)
def banned_user_leaves(room: Room) -> Pdu:
    room.has_member(BOB, "ban", sender=ALICE)
    return room.membership(BOB, "leave")


@allowed()
def moderator_kicks(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_member(BOB)
    room.has_levels(users={ANNA: 50, BOB: 49})
    return room.membership(BOB, "leave", sender=ANNA)


@refused_by(Rule.LEAVE_SENDER)
def stranger_kicks(room: Room) -> Pdu:
    room.has_levels(users={ANNA: 50})
    return room.membership(BOB, "leave", sender=ANNA)


@refused_by(Rule.LEAVE_KICK_LEVEL)
def member_kicks_without_the_power(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_levels(users={ANNA: 49})
    return room.membership(BOB, "leave", sender=ANNA)


@refused_by(Rule.LEAVE_KICK_LEVEL)
def moderator_kicks_an_equal(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_member(BOB)
    room.has_levels(users={ANNA: 50, BOB: 50})
    return room.membership(BOB, "leave", sender=ANNA)


@allowed()
def moderator_unbans(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_member(BOB, "ban", sender=ALICE)
    room.has_levels(users={ANNA: 50})
    return room.membership(BOB, "leave", sender=ANNA)


@refused_by(Rule.LEAVE_BAN_LEVEL)
def who_may_only_kick_unbans(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_member(BOB, "ban", sender=ALICE)
    room.has_levels(users={ANNA: 50}, ban=51)
    return room.membership(BOB, "leave", sender=ANNA)


@refused_by(Rule.LEAVE_KICK_LEVEL)
def who_may_only_ban_unbans(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_member(BOB, "ban", sender=ALICE)
    room.has_levels(users={ANNA: 50}, kick=51)
    return room.membership(BOB, "leave", sender=ANNA)


# ── ban ─────────────────────────────────────────────────────────────────────────────


@allowed()
def moderator_bans_a_stranger(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_levels(users={ANNA: 50})
    return room.membership(BOB, "ban", sender=ANNA)


@refused_by(Rule.BAN_SENDER)
def stranger_bans(room: Room) -> Pdu:
    room.has_levels(users={ANNA: 50})
    return room.membership(BOB, "ban", sender=ANNA)


@refused_by(Rule.BAN_LEVEL)
def member_bans_without_the_power(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_levels(users={ANNA: 49})
    return room.membership(BOB, "ban", sender=ANNA)


@refused_by(Rule.BAN_LEVEL)
def moderator_bans_an_equal(room: Room) -> Pdu:
    room.has_member(ANNA)
    room.has_levels(users={ANNA: 50, BOB: 50})
    return room.membership(BOB, "ban", sender=ANNA)


@refused_by(Rule.BAN_LEVEL)
def nobody_bans_themselves(room: Room) -> Pdu:
    return room.membership(ALICE, "ban")


# ── knock ───────────────────────────────────────────────────────────────────────────


@allowed(when=knocks)
def stranger_knocks(room: Room) -> Pdu:
    room.has_join_rule("knock")
    return room.membership(BOB, "knock")


@allowed(when=knocks)
def who_knocked_knocks_again(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "knock")
    return room.membership(BOB, "knock")


@allowed(when=restricts_and_knocks)
def stranger_knocks_at_a_knock_restricted_room(room: Room) -> Pdu:
    room.has_join_rule("knock_restricted")
    return room.membership(BOB, "knock")


@refused_by(Rule.KNOCK_JOIN_RULE)
def stranger_knocks_at_a_public_room(room: Room) -> Pdu:
    room.has_join_rule("public")
    return room.membership(BOB, "knock")


@refused_by(Rule.KNOCK_JOIN_RULE, when=knows_no_restricted_knocks)
def knock_at_a_knock_restricted_room_before_version_10(room: Room) -> Pdu:
    room.has_join_rule("knock_restricted")
    return room.membership(BOB, "knock")


@refused_by(Rule.KNOCK_SENDER)
def one_knocks_for_another(room: Room) -> Pdu:
    room.has_join_rule("knock")
    return room.membership(BOB, "knock", sender=CAROL)


@refused_by(Rule.KNOCK_MEMBERSHIP)
def member_knocks(room: Room) -> Pdu:
    room.has_join_rule("knock")
    return room.membership(ALICE, "knock")


@refused_by(Rule.KNOCK_MEMBERSHIP)
def banned_user_knocks(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "ban", sender=ALICE)
    return room.membership(BOB, "knock")


@refused_by(Rule.KNOCK_MEMBERSHIP)
def invited_user_knocks(room: Room) -> Pdu:
    room.has_join_rule("knock")
    room.has_member(BOB, "invite", sender=ALICE)
    return room.membership(BOB, "knock")


# ── all of them ─────────────────────────────────────────────────────────────────────


@stories.parametrize
def test_member_rules(rule, story, version) -> None:
    play(rule, story, version)


def test_every_member_rule_has_a_story() -> None:
    groups = ("MEMBER_INC", "MEMBER_UNK", "INVITE_", "LEAVE_", "BAN_", "KNOCK_")
    assert {rule for rule in Rule if rule.name.startswith(groups)} == stories.told_of()
