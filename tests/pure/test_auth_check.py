"""The rules for create events, closed rooms, aliases, senders, power and redactions."""

import pytest

from federation import auth_rules
from federation.auth_rules.rules import Rule
from federation.errors import Rejected
from federation.pdu import Pdu
from federation.room_versions import V11, V12, RoomVersion
from tests.pure.rooms import ALICE, ANNA, BOB, VERSIONS, Room, Stories, play

stories = Stories()
refused_by, allowed = stories.refused_by, stories.allowed


def has_aliases(version: RoomVersion) -> bool:
    return version.special_aliases


def has_no_aliases(version: RoomVersion) -> bool:
    return not version.special_aliases


def names_rooms(version: RoomVersion) -> bool:
    return not version.room_id_is_create_hash


def hashes_rooms(version: RoomVersion) -> bool:
    return version.room_id_is_create_hash


def ignores_additional_creators(version: RoomVersion) -> bool:
    return not version.privileged_creators


def checks_redactions(version: RoomVersion) -> bool:
    return version.redaction_in_auth_rules


def checks_no_redactions(version: RoomVersion) -> bool:
    return not version.redaction_in_auth_rules


# ── create ──────────────────────────────────────────────────────────────────────────


def creates(room: Room, content: dict, **fields) -> Pdu:
    content = {"room_version": room.version.identifier, "creator": ALICE, **content}
    if content["creator"] is None:
        del content["creator"]
    return room.event("m.room.create", content, state_key="", prev=(), **fields)


@allowed()
def room_begins(room: Room) -> Pdu:
    return creates(room, {"m.federate": False, "type": "m.space"})


@refused_by(Rule.CREATE_PREV_EVENTS)
def room_begins_after_something(room: Room) -> Pdu:
    content = {"room_version": room.version.identifier, "creator": ALICE}
    return room.event("m.room.create", content, state_key="", prev=[room.create])


@refused_by(Rule.CREATE_ROOM_ID, when=names_rooms)
def room_id_is_of_another_server(room: Room) -> Pdu:
    return creates(room, {}, sender=BOB)


@refused_by(Rule.CREATE_ROOM_ID, when=names_rooms)
def room_id_is_of_no_server(room: Room) -> Pdu:
    return creates(room, {}, room_id="!" + "a" * 43)


@refused_by(Rule.CREATE_ROOM_ID, when=hashes_rooms)
def create_event_has_a_room_id(room: Room) -> Pdu:
    return creates(room, {}, room_id=room.room_id)


@refused_by(Rule.CREATE_ROOM_VERSION)
def room_version_is_unknown(room: Room) -> Pdu:
    return creates(room, {"room_version": "org.example.private"})


@refused_by(Rule.CREATE_ROOM_VERSION)
def room_version_is_no_string(room: Room) -> Pdu:
    return creates(room, {"room_version": {"version": "1"}})


@refused_by(Rule.CREATE_CREATOR)
def room_has_no_creator(room: Room) -> Pdu:
    return creates(room, {"creator": None})


@allowed(when=lambda version: version.creator_is_sender)
def room_needs_no_creator_since_version_11(room: Room) -> Pdu:
    return creates(room, {"creator": None})


@allowed()
def room_has_more_creators(room: Room) -> Pdu:
    return creates(room, {"additional_creators": [ANNA, BOB, "@:historical.test"]})


@allowed(when=ignores_additional_creators)
def additional_creators_mean_nothing_until_version_11(room: Room) -> Pdu:
    return creates(room, {"additional_creators": [7]})


@refused_by(Rule.CREATE_ADDITIONAL)
def additional_creators_are_no_list(room: Room) -> Pdu:
    return creates(room, {"additional_creators": ANNA})


@refused_by(Rule.CREATE_ADDITIONAL)
def additional_creators_are_null(room: Room) -> Pdu:
    return creates(room, {"additional_creators": None})


@refused_by(Rule.CREATE_ADDITIONAL)
def an_additional_creator_is_no_string(room: Room) -> Pdu:
    return creates(room, {"additional_creators": [ANNA, None]})


@refused_by(Rule.CREATE_ADDITIONAL)
def an_additional_creator_is_no_user_id(room: Room) -> Pdu:
    return creates(room, {"additional_creators": [ANNA, "bob"]})


def test_a_create_event_without_version_is_of_version_1() -> None:
    for version in VERSIONS:
        room = Room(version)
        create = room.event("m.room.create", {"creator": ALICE}, state_key="", prev=())
        refused = None if version.identifier == "1" else "1.3"
        assert room.refusal(create) == refused


# ── the room of the state ───────────────────────────────────────────────────────────


@refused_by(Rule.AUTH_NO_CREATE)
def state_has_no_create_event(room: Room) -> Pdu:
    del room.state["m.room.create", ""]
    return room.message()


@refused_by(Rule.ROOM_ID)
def state_has_no_create_event_since_version_12(room: Room) -> Pdu:
    del room.state["m.room.create", ""]
    return room.message()


@refused_by(Rule.ROOM_ID)
def room_id_names_another_create_event(room: Room) -> Pdu:
    return room.event("m.room.message", room_id="!" + "a" * 43)


def test_the_caller_may_give_the_create_event() -> None:
    room = Room(V12)
    del room.state["m.room.create", ""]
    auth_rules.check(room.message(), room.state, create=room.create)
    with pytest.raises(Rejected) as rejected:
        auth_rules.check(room.message(), room.state, create=Room(V12).create)
    assert rejected.value.rule == "2"


# ── closed rooms ────────────────────────────────────────────────────────────────────


def closes(room: Room, federate: object) -> None:
    room.create.content["m.federate"] = federate  # the room keeps its ID


@refused_by(Rule.FEDERATE)
def closed_room_refuses_other_servers(room: Room) -> Pdu:
    closes(room, federate=False)
    room.has_join_rule("public")
    return room.membership(BOB, "join")


@allowed()
def closed_room_admits_its_own_server(room: Room) -> Pdu:
    closes(room, federate=False)
    room.has_join_rule("public")
    return room.membership(ANNA, "join")


@allowed()
def only_false_closes_a_room(room: Room) -> Pdu:
    closes(room, federate=0)
    room.has_join_rule("public")
    return room.membership(BOB, "join")


# ── aliases ─────────────────────────────────────────────────────────────────────────


def aliases(sender: str, room: Room, state_key: str | None) -> Pdu:
    return room.event(
        "m.room.aliases", {"aliases": []}, sender=sender, state_key=state_key
    )


@refused_by(Rule.ALIASES_STATE_KEY)
def aliases_without_state_key(room: Room) -> Pdu:
    return aliases(ALICE, room, None)


@refused_by(Rule.ALIASES_DOMAIN)
def aliases_of_another_server(room: Room) -> Pdu:
    return aliases(ALICE, room, "b.test")


@allowed(when=has_aliases)
def strangers_may_set_the_aliases_of_their_server(room: Room) -> Pdu:
    return aliases(BOB, room, "b.test")


@allowed(when=has_no_aliases)
def aliases_are_ordinary_state_since_version_6(room: Room) -> Pdu:
    return aliases(ALICE, room, "b.test")


@refused_by(Rule.SENDER_NOT_JOINED, when=has_no_aliases)
def strangers_set_no_aliases_since_version_6(room: Room) -> Pdu:
    return aliases(BOB, room, "b.test")


# ── senders and their power ─────────────────────────────────────────────────────────


@allowed()
def member_speaks(room: Room) -> Pdu:
    room.has_member(BOB)
    return room.message(BOB)


@refused_by(Rule.SENDER_NOT_JOINED)
def stranger_speaks(room: Room) -> Pdu:
    return room.message(BOB)


@refused_by(Rule.SENDER_NOT_JOINED)
def invited_user_speaks(room: Room) -> Pdu:
    room.has_member(BOB, "invite", sender=ALICE)
    return room.message(BOB)


@refused_by(Rule.SENDER_NOT_JOINED)
def banned_user_speaks(room: Room) -> Pdu:
    room.has_member(BOB, "ban", sender=ALICE)
    return room.message(BOB)


@refused_by(Rule.THIRD_PARTY_LEVEL)
def member_invites_a_third_party_without_the_power(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(invite=1)
    return room.event("m.room.third_party_invite", sender=BOB, state_key="token")


@allowed()
def inviting_a_third_party_needs_the_invite_level_only(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(invite=0, events={"m.room.third_party_invite": 100})
    return room.event("m.room.third_party_invite", sender=BOB, state_key="token")


@refused_by(Rule.REQUIRED_LEVEL)
def member_sets_state_without_the_power(room: Room) -> Pdu:
    room.has_member(BOB)
    return room.event("m.room.topic", sender=BOB, state_key="")


@refused_by(Rule.REQUIRED_LEVEL)
def member_speaks_where_only_moderators_may(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(events_default=1)
    return room.message(BOB)


@refused_by(Rule.REQUIRED_LEVEL)
def type_of_event_needs_more_power(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(users={BOB: 60}, events={"m.room.topic": 61})
    return room.event("m.room.topic", sender=BOB, state_key="")


@allowed()
def type_of_event_needs_less_power(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(events={"m.room.topic": 0})
    return room.event("m.room.topic", sender=BOB, state_key="")


@allowed()
def creator_sets_state_without_power_levels(room: Room) -> Pdu:
    return room.event("m.room.topic", state_key="")


@refused_by(Rule.STATE_KEY)
def state_of_another_user(room: Room) -> Pdu:
    return room.event("org.example.status", state_key=ANNA)


@allowed()
def state_of_the_sender(room: Room) -> Pdu:
    return room.event("org.example.status", state_key=ALICE)


# ── redactions ──────────────────────────────────────────────────────────────────────


def redacts(room: Room, sender: str, event_id: str) -> Pdu:
    if room.version.redacts_in_content:
        return room.event("m.room.redaction", {"redacts": event_id}, sender=sender)
    return room.event("m.room.redaction", sender=sender, redacts=event_id)


@refused_by(Rule.REDACTION)
def member_redacts_an_event_of_another_server(room: Room) -> Pdu:
    room.has_member(BOB)
    return redacts(room, BOB, "$event:a.test")


@refused_by(Rule.REDACTION)
def member_redacts_nothing(room: Room) -> Pdu:
    room.has_member(BOB)
    return room.event("m.room.redaction", sender=BOB)


@refused_by(Rule.REDACTION)
def member_redacts_what_is_of_no_server(room: Room) -> Pdu:
    room.has_member(BOB)
    return redacts(room, BOB, "$event")


@allowed(when=checks_redactions)
def member_redacts_an_event_of_the_own_server(room: Room) -> Pdu:
    room.has_member(BOB)
    return redacts(room, BOB, "$event:b.test")


@allowed(when=checks_redactions)
def moderator_redacts_an_event_of_another_server(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(users={BOB: 50})
    return redacts(room, BOB, "$event:a.test")


@allowed(when=checks_no_redactions)
def any_member_may_send_redactions_since_version_3(room: Room) -> Pdu:
    room.has_member(BOB)
    return redacts(room, BOB, "$" + "a" * 43)


@refused_by(Rule.REQUIRED_LEVEL)
def redactions_need_the_power_of_their_type(room: Room) -> Pdu:
    room.has_member(BOB)
    room.has_levels(events={"m.room.redaction": 1})
    return redacts(room, BOB, "$event:b.test")


@stories.parametrize
def test_rules(rule, story, version) -> None:
    play(rule, story, version)


def test_every_such_rule_has_a_story() -> None:
    elsewhere = (
        *("AUTH_", "MEMBER_", "JOIN_", "TOKEN_", "INVITE_", "LEAVE_", "BAN_"),
        *("KNOCK_", "LEVELS_"),
    )
    rules = {rule for rule in Rule if not rule.name.startswith(elsewhere)}
    assert rules == stories.told_of() - {Rule.AUTH_NO_CREATE}


# ── applying redactions ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_redactions_apply_to_the_own_server_or_with_power(version: RoomVersion) -> None:
    room = Room(version, joined=[BOB])
    room.has_levels(users={ANNA: 50})
    mine, theirs = room.message(BOB), room.message(ALICE)

    def applies(sender: str, target: Pdu) -> bool:
        redaction = redacts(room, sender, target.event_id)
        return auth_rules.may_redact(redaction, target, room.state)

    assert applies(BOB, mine)
    assert not applies(BOB, theirs)
    assert applies("@berta:b.test", mine)  # the domain counts, not the user
    assert applies(ANNA, mine)  # the power counts, not the domain


def test_a_redaction_applies_to_what_it_names() -> None:
    room = Room(V11)
    redaction = redacts(room, ALICE, room.message(ALICE).event_id)
    assert not auth_rules.may_redact(redaction, room.message(ALICE), room.state)
    other = Room(V11)
    other.room_id = "!other:a.test"
    target = other.message(ALICE)
    redaction = redacts(room, ALICE, target.event_id)
    assert not auth_rules.may_redact(redaction, target, room.state)


def test_creators_redact_with_the_create_event_beside_the_state() -> None:
    room = Room(V12)
    target = room.message(BOB)
    redaction = redacts(room, ALICE, target.event_id)
    assert not auth_rules.may_redact(redaction, target, {})
    assert auth_rules.may_redact(redaction, target, {}, create=room.create)
