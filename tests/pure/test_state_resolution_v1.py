"""Version 1, whose sorted lists are told by depth and the SHA-1 of the event ID."""

import hashlib

from fake_rooms import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    EVE,
    POWER,
    RULES,
    TOPIC,
    member,
    public_room,
)


def sha1(event):
    return hashlib.sha1(event.event_id.encode()).hexdigest()


def test_of_topics_the_deepest_wins_then_the_lowest_hash():
    room = public_room("1", {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    twins = [room.topic(ALICE, f"{n}", after=[fork]) for n in range(5)]
    assert room.merged(*twins)[TOPIC] is min(twins, key=sha1)
    deep = room.topic(BOB, "deep", after=[room.message(BOB, after=[fork])], ts=0)
    assert room.merged(*twins, deep)[TOPIC] is deep


def test_a_topic_that_the_resolved_state_does_not_allow_gives_way():
    room = public_room("1", {ALICE: 100, BOB: 50})
    room.topic(ALICE, "first")
    fork = room.message(ALICE)
    power = room.levels(ALICE, {ALICE: 100, BOB: 0}, after=[fork])
    mine = room.topic(ALICE, "mine", after=[power])
    deep = room.message(BOB, after=[fork])
    for _ in range(3):
        deep = room.message(BOB, after=[deep])
    theirs = room.topic(BOB, "deeper, but demoted", after=[deep])
    # The new power levels are deeper than the old ones, and allowed after them.
    state = room.merged(mine, theirs)
    assert (state[POWER], state[TOPIC]) == (power, mine)


def test_where_no_candidate_is_allowed_the_oldest_stays():
    room = public_room("1", {ALICE: 100, BOB: 50, CAROL: 50})
    fork = room.message(ALICE)
    one = room.topic(BOB, "one", after=[fork])
    two = room.topic(CAROL, "two", after=[room.message(CAROL, after=[fork])])
    power = room.levels(ALICE, {ALICE: 100, BOB: 0, CAROL: 0}, after=[fork])
    assert room.merged(one, two, power)[TOPIC] is one


def test_power_levels_stop_at_the_first_that_is_not_allowed():
    room = public_room("1", {ALICE: 100, BOB: 50})
    first = room.pdu(room.current()[POWER])
    fork = room.message(ALICE)
    demotion = room.levels(ALICE, {ALICE: 100, BOB: 0}, after=[fork])
    deep = room.message(BOB, after=[fork])
    bobs = room.levels(BOB, {ALICE: 100, BOB: 50, EVE: 1}, after=[deep])
    last = room.levels(ALICE, {ALICE: 100}, after=[room.message(ALICE, after=[bobs])])
    # first, demotion, bobs: the last of them is refused. Without the demotion it
    # is allowed, and so is what comes after it.
    assert room.merged(fork, demotion, bobs)[POWER] is demotion
    assert room.merged(fork, bobs, last)[POWER] is last
    # Refused, it also ends the list: what is deeper is not looked at any more.
    assert room.merged(fork, demotion, bobs, last)[POWER] is demotion
    assert room.merged(fork)[POWER] is first


def test_power_levels_are_settled_before_join_rules():
    room = public_room("1", {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    power = room.levels(ALICE, {ALICE: 100, BOB: 60}, after=[fork])
    rules = room.rules(BOB, "invite", after=[power])
    state = room.merged(fork, rules)
    assert (state[POWER], state[RULES]) == (power, rules)


def test_power_levels_are_settled_before_members():
    room = public_room("1", {ALICE: 100, BOB: 50, DAVE: 0})
    fork = room.message(ALICE)
    power = room.levels(ALICE, {ALICE: 100, BOB: 60}, after=[fork])
    kick = room.kick(BOB, DAVE, after=[power])
    state = room.merged(fork, kick)
    assert (state[POWER], state[member(DAVE)]) == (power, kick)


def test_join_rules_are_settled_before_members():
    room = public_room("1", {ALICE: 100})
    room.leave(EVE, after=[room.join(EVE)])
    fork = room.rules(ALICE, "invite")
    opened = room.rules(ALICE, "public", after=[fork])
    join = room.join(EVE, after=[opened])
    state = room.merged(fork, join)
    assert (state[RULES], state[member(EVE)]) == (opened, join)


def test_conflicts_between_members_do_not_see_each_other():
    """Bob kicks Dave, and Bob's own membership is in conflict too.

    The text gives no order between members, so none may matter: nobody whose
    membership is in conflict is a member while the others are resolved.
    """
    room = public_room("1", {ALICE: 100, BOB: 50, DAVE: 0})
    dave = room.pdu(room.current()[member(DAVE)])
    fork = room.message(ALICE)
    profile = room.join(BOB, after=[fork], content={"displayname": "Bob"})
    kick = room.kick(BOB, DAVE, after=[profile])
    state = room.merged(fork, kick)
    assert (state[member(BOB)], state[member(DAVE)]) == (profile, dave)


def test_what_one_side_lacks_is_no_conflict():
    room = public_room("1", {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    topic = room.topic(BOB, "one side only", after=[fork])
    power = room.levels(ALICE, {ALICE: 100, BOB: 0}, after=[fork])
    state = room.merged(topic, power)
    assert (state[POWER], state[TOPIC]) == (power, topic)
