"""What happens in a room when branches meet: one story each."""

import pytest
from fake_rooms import (
    ALICE,
    BOB,
    CAROL,
    CREATE,
    DAVE,
    EVE,
    NAME,
    POWER,
    RULES,
    TOPIC,
    Room,
    member,
    public_room,
)

from federation.state_resolution import (
    Known,
    compare,
    resolve,
    resolve_states,
    run,
    separate,
)

ALL = pytest.mark.parametrize("version", ["1", "2", "6", "10", "11", "12"])
SINCE_2 = pytest.mark.parametrize("version", ["2", "6", "10", "11", "12"])


def content_of(state, key, name):
    return state[key].content[name] if key in state else None


# ── the specification's own examples ────────────────────────────────────────────────


@ALL
def test_a_banned_user_sets_the_topic_beside_the_ban(version):
    """server-server-api#soft-failure: "In the original version of the algorithm C
    would be in the resolved state, whereas in latter versions the algorithm tries to
    prioritise the ban over the topic change."
    """
    room = public_room(version, {ALICE: 100, BOB: 50})
    a = room.message(ALICE)
    b = room.ban(ALICE, BOB, after=[a])
    c = room.topic(BOB, "evaded", after=[a])
    state = room.merged(b, c)
    assert state[member(BOB)] is b
    assert state.get(TOPIC) is (c if version == "1" else None)


@ALL
def test_two_branches_name_the_room(version):
    """server-server-api#room-state-resolution: E3 and E4 set the name; what is it at
    E5? In version 1 that of the deeper event, since then that of the later one.
    """
    room = public_room(version, {ALICE: 100})
    e1 = room.message(ALICE)
    e2 = room.message(ALICE, after=[e1])
    e3 = room.send(ALICE, "m.room.name", {"name": "three"}, "", after=[e2])
    e4 = room.send(ALICE, "m.room.name", {"name": "four"}, "", after=[e1])
    e5 = room.message(ALICE, after=[e3, e4])
    name = content_of(room.pdus(room.before[e5.event_id]), NAME, "name")
    # Neither name was there before the fork; but for version 1 that makes no
    # difference, as both branches have one.
    assert name == ("three" if version == "1" else "four")


# ── bans, kicks and power ───────────────────────────────────────────────────────────


@SINCE_2
def test_a_ban_undoes_what_the_banned_moderator_does_meanwhile(version):
    room = public_room(version, {ALICE: 100, BOB: 50, CAROL: 0})
    fork = room.message(ALICE)
    ban = room.ban(ALICE, BOB, after=[fork])
    power = room.levels(BOB, {ALICE: 100, BOB: 50, EVE: 50}, after=[fork])
    more = room.ban(BOB, CAROL, after=[power])
    state = room.merged(ban, more)
    assert state[member(BOB)] is ban
    assert state[POWER] is not power
    assert state[member(CAROL)].membership == "join"


@SINCE_2
def test_who_is_demoted_can_no_longer_ban(version):
    room = public_room(version, {ALICE: 100, BOB: 50, CAROL: 0})
    fork = room.message(ALICE)
    ban = room.ban(BOB, CAROL, after=[fork])
    demotion = room.levels(ALICE, {ALICE: 100, BOB: 0}, after=[fork])
    state = room.merged(ban, demotion)
    assert state[POWER] is demotion
    assert state[member(CAROL)].membership == "join"


@SINCE_2
def test_the_mightier_of_two_who_ban_each_other_stays(version):
    room = public_room(version, {ALICE: 100, BOB: 60, CAROL: 50})
    fork = room.message(ALICE)
    early = room.kick(BOB, CAROL, after=[fork])
    late = room.kick(ALICE, BOB, after=[fork])
    state = room.merged(early, late)
    assert state[member(BOB)] is late
    assert state[member(CAROL)].membership == "join"


@SINCE_2
@pytest.mark.parametrize("bob_is_later", [True, False])
def test_equals_in_power_are_taken_by_time(version, bob_is_later):
    room = public_room(version, {ALICE: 100, BOB: 50, CAROL: 50})
    fork = room.message(ALICE)
    times = (2_000_000, 1_500_000) if bob_is_later else (1_500_000, 2_000_000)
    bobs = room.rules(BOB, "invite", after=[fork], ts=times[0])
    carols = room.rules(CAROL, "private", after=[fork], ts=times[1])
    assert room.merged(bobs, carols)[RULES] is (bobs if bob_is_later else carols)


# ── join rules ──────────────────────────────────────────────────────────────────────


@ALL
@pytest.mark.parametrize("join_is_later", [True, False])
def test_a_join_beside_a_new_join_rule(version, join_is_later):
    """Version 1 lets the evader in, later ones do not, whatever the clocks say."""
    room = public_room(version, {ALICE: 100})
    fork = room.message(ALICE)
    closed = room.rules(ALICE, "invite", after=[fork])
    ts = closed.origin_server_ts + (1 if join_is_later else -1)
    join = room.join(EVE, after=[fork], ts=ts)
    state = room.merged(closed, join)
    assert state[RULES] is closed
    assert state.get(member(EVE)) is (join if version == "1" else None)


@SINCE_2
def test_who_leaves_meanwhile_has_still_done_what_they_did(version):
    """Leaving of one's own accord is no power event: it waits its turn."""
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    topic = room.topic(BOB, "my last", after=[fork])
    left = room.leave(BOB, after=[fork])
    state = room.merged(topic, left)
    assert (state[TOPIC], state[member(BOB)]) == (topic, left)


@SINCE_2
def test_a_join_before_the_join_rule_changed_stays(version):
    room = public_room(version, {ALICE: 100})
    join = room.join(EVE)
    closed = room.rules(ALICE, "invite", after=[join])
    topic = room.topic(ALICE, "open?", after=[join])
    state = room.merged(closed, topic)
    assert (state[RULES], state[member(EVE)]) == (closed, join)
    assert state[TOPIC] is topic


@SINCE_2
def test_an_invited_user_who_joins_beside_a_ban_of_the_inviter_stays(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    room.rules(ALICE, "invite")
    invite = room.invite(BOB, EVE)
    join = room.join(EVE, after=[invite])
    ban = room.ban(ALICE, BOB, after=[invite])
    state = room.merged(join, ban)
    assert (state[member(EVE)], state[member(BOB)]) == (join, ban)


# ── topics and the mainline ─────────────────────────────────────────────────────────


@SINCE_2
def test_of_two_topics_the_later_wins_whoever_set_it(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    early = room.topic(ALICE, "early", after=[fork])
    late = room.topic(BOB, "late", after=[fork])
    assert room.merged(early, late)[TOPIC] is late


@SINCE_2
def test_of_two_topics_of_one_time_the_greater_event_id_wins(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    topics = [room.topic(u, "same", after=[fork], ts=5) for u in (ALICE, BOB)]
    assert room.merged(*topics)[TOPIC] is max(topics, key=lambda e: e.event_id)


@SINCE_2
def test_a_topic_under_newer_power_levels_wins_against_a_later_clock(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    stale = room.topic(BOB, "from the future", after=[fork], ts=2**45)
    power = room.levels(ALICE, {ALICE: 100, BOB: 50, CAROL: 50}, after=[fork])
    fresh = room.topic(ALICE, "fresh", after=[power])
    state = room.merged(stale, fresh)
    assert (state[POWER], state[TOPIC]) == (power, fresh)


@SINCE_2
def test_a_topic_of_a_branch_whose_power_levels_lost_comes_first(version):
    """Off the mainline, an event stands where its branch left it."""
    room = public_room(version, {ALICE: 100, BOB: 50, CAROL: 50})
    fork = room.message(ALICE)
    lost = room.levels(BOB, {ALICE: 100, BOB: 50, CAROL: 50, DAVE: 1}, after=[fork])
    aside = room.topic(CAROL, "aside", after=[lost], ts=2**45)
    won = room.levels(ALICE, {ALICE: 100, BOB: 0, CAROL: 50}, after=[fork])
    topic = room.topic(ALICE, "main", after=[won])
    state = room.merged(aside, topic)
    assert (state[POWER], state[TOPIC]) == (won, topic)


@SINCE_2
def test_a_chain_of_power_levels_is_followed_to_its_end(version):
    """Each is allowed by the one before it only; the fork is at the first."""
    room = public_room(version, {ALICE: 100})
    room.join(BOB)
    room.join(CAROL)
    first = room.levels(ALICE, {ALICE: 100, BOB: 50})
    second = room.levels(BOB, {ALICE: 100, BOB: 50, CAROL: 50}, after=[first])
    third = room.levels(CAROL, {ALICE: 100, BOB: 50, CAROL: 0}, after=[second])
    aside = room.message(ALICE, after=[first])
    assert room.merged(third, aside)[POWER] is third


# ── what version 12 heals ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(("version", "kept"), [("11", False), ("12", True)])
def test_a_join_is_judged_by_the_join_rules_of_its_time(version, kept):
    """A server's copy of the state lacks Bob, who joined while the room was public.

    Version 2 checks his join against the rule of today and removes him; 2.1 begins
    with nothing and takes the rule that the join cites.
    """
    room = public_room(version, {ALICE: 100, CAROL: 0})
    join = room.join(BOB)
    room.rules(ALICE, "invite")
    whole = room.current()
    without = {key: one for key, one in whole.items() if key != member(BOB)}
    state = room.resolve([whole, without])
    assert state.get(member(BOB)) == (join.event_id if kept else None)


@pytest.mark.parametrize(("version", "kept"), [("11", False), ("12", True)])
def test_power_levels_are_not_reset_past_what_led_to_them(version, kept):
    """A server's copy of the state has fallen back to the first power levels.

    What lies between is in every auth chain, so version 2 does not look at it and
    finds that the first ones do not allow the third. 2.1 takes the whole path.
    """
    room = public_room(version, {ALICE: 100})
    room.join(BOB)
    first = room.levels(ALICE, {ALICE: 100})
    room.levels(ALICE, {ALICE: 100, BOB: 50})
    third = room.levels(BOB, {ALICE: 100, BOB: 50, CAROL: 10})
    room.join(DAVE)  # cites the third: all three are in the chain of both
    whole = room.current()
    reset = {**whole, POWER: first.event_id}
    state = room.resolve([whole, reset])
    assert state[POWER] == (third if kept else first).event_id
    assert state[CREATE] == room.create.event_id


def test_creators_of_version_12_come_before_everybody():
    room = Room("12", additional_creators=[BOB])
    room.join(ALICE)
    room.levels(ALICE, {CAROL: 2**52, DAVE: 0})
    room.rules(ALICE, "public")
    for user in (BOB, CAROL, DAVE):
        room.join(user)
    fork = room.message(ALICE)
    early = room.ban(CAROL, DAVE, after=[fork])
    late = room.ban(BOB, CAROL, after=[fork])
    state = room.merged(early, late)
    assert state[member(CAROL)] is late
    assert state[member(DAVE)].membership == "join"


# ── details of the algorithm ────────────────────────────────────────────────────────


@SINCE_2
def test_an_auth_chain_that_leaves_the_conflict_and_comes_back_counts(version):
    """ "Enlarge X by adding the events in the auth chain of P which also belong to the
    full conflicted set": the new join rule's chain leads to Bob's join, by way of
    power levels that are not in conflict. So the join is tried before the rule.
    """
    room = public_room(version, {ALICE: 100})
    join = room.join(BOB)
    room.levels(ALICE, {ALICE: 100, BOB: 50})
    room.levels(BOB, {ALICE: 100, BOB: 50, CAROL: 10})
    room.levels(ALICE, {ALICE: 100, BOB: 50, CAROL: 0})
    room.join(CAROL)
    before = room.current()
    closed = room.rules(ALICE, "invite")
    without = {key: one for key, one in before.items() if key != member(BOB)}
    state = room.resolve([room.current(), without])
    assert state[RULES] == closed.event_id
    assert state[member(BOB)] == join.event_id


@SINCE_2
@pytest.mark.parametrize("rejected", [True, False])
def test_an_auth_event_stands_in_for_the_state_unless_rejected(version, rejected):
    """No state has Bob's join any more; only events of his still cite it."""
    room = public_room(version, {ALICE: 100, BOB: 50})
    join = room.pdu(room.current()[member(BOB)])
    room.send(BOB, "m.room.name", {"name": "shared"}, "")
    topic = room.topic(BOB, "of one side")
    one = {key: e for key, e in room.current().items() if key != member(BOB)}
    other = {key: e for key, e in one.items() if key != TOPIC}
    events = {**room.events, join.event_id: Known(join, rejected)}
    state = run(resolve_states(room.version, [one, other]), events)
    assert state.get(TOPIC) == (None if rejected else topic.event_id)
    assert member(BOB) not in state


@SINCE_2
def test_an_event_of_an_auth_chain_can_fill_a_place_that_no_state_has(version):
    """What only one side's auth chain holds takes part, and here nothing stops it."""
    room = public_room(version, {ALICE: 100, BOB: 50})
    join = room.pdu(room.current()[member(BOB)])
    topic = room.topic(BOB, "of one side")
    one = {key: e for key, e in room.current().items() if key != member(BOB)}
    other = {key: e for key, e in one.items() if key != TOPIC}
    state = room.resolve([one, other])
    assert (state[TOPIC], state[member(BOB)]) == (topic.event_id, join.event_id)


@SINCE_2
def test_events_that_nobody_knows_are_passed_over(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    left = room.topic(ALICE, "left", after=[fork])
    right = room.topic(BOB, "right", after=[fork])
    states = [room.after[left.event_id], room.after[right.event_id]]
    known = {k: v for k, v in room.events.items() if k != right.event_id}
    assert run(resolve_states(room.version, states), known)[TOPIC] == left.event_id
    del known[left.event_id]
    assert TOPIC not in run(resolve_states(room.version, states), known)


@SINCE_2
def test_the_rest_of_the_state_may_be_looked_up_in_any_of_the_states(version):
    room = public_room(version, {ALICE: 100, BOB: 50, CAROL: 0})
    fork = room.message(ALICE)
    ban = room.ban(ALICE, BOB, after=[fork])
    room.ban(BOB, CAROL, after=[fork])
    topic = room.topic(BOB, "evaded", after=[fork])
    states = [room.after[one.event_id] for one in (ban, topic)]
    unconflicted, conflicted = separate(states)
    sides = [[s[key] for key in conflicted if key in s] for s in states]
    sets = run(compare(room.version, sides, unconflicted.values()), room.events)
    for lookup in (unconflicted.get, states[0].get, states[1].get):
        winners = run(
            resolve(room.version, lookup, conflicted, sets.difference, sets.subgraph),
            room.events,
        )
        assert winners == {member(BOB): ban.event_id, TOPIC: None}
