"""Servers that saw the same events agree on the state, whatever they saw first."""

import random
from collections.abc import Sequence

import pytest
from fake_rooms import Replica, State, version_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_resolution import Naive, auth_chain
from random_rooms import STEPS, everything, exchange, play

from federation.auth_rules import check
from federation.room_versions import RoomVersion
from federation.state_resolution import (
    compare,
    resolve,
    resolve_states,
    run,
    separate,
)

VERSIONS = st.sampled_from([version_of(one) for one in ("1", "2", "6", "10", "12")])
SINCE_2 = st.sampled_from([version_of(one) for one in ("2", "6", "10", "11", "12")])
thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def met(version: RoomVersion, steps: Sequence, seed: int) -> list[Replica]:
    """The servers after all have seen everything, each in an order of its own."""
    dice = random.Random(seed)
    replicas = play(version, steps)
    events = everything(replicas)
    for replica in replicas:
        missing = [e for one, e in events.items() if one not in replica.events]
        dice.shuffle(missing)
        exchange(replica, missing)
    return replicas


def resolved_by_keys(replica: Replica, states: Sequence[State], one: State) -> State:
    """As a store does it: the rest of the state is asked of one state, by key."""
    unconflicted, conflicted = separate(states)
    sides = [[s[key] for key in conflicted if key in s] for s in states]
    sets = run(compare(replica.version, sides, unconflicted.values()), replica.events)
    winners = run(
        resolve(replica.version, one.get, conflicted, sets.difference, sets.subgraph),
        replica.events,
    )
    assert winners.keys() >= conflicted.keys()
    resolved = {**one, **winners}
    return {key: event for key, event in resolved.items() if event is not None}


@thorough
@given(VERSIONS, STEPS, st.integers())
def test_partitioned_servers_heal_to_one_state(version, steps, seed):
    one, *others = met(version, steps, seed)
    for other in others:
        assert {e: k.rejected for e, k in other.events.items()} == {
            e: k.rejected for e, k in one.events.items()
        }
        assert other.before == one.before
        assert other.state_at(other.leaves()) == one.state_at(one.leaves())


@thorough
@given(VERSIONS, STEPS, st.integers(), st.data())
def test_the_order_of_states_and_events_does_not_matter(version, steps, seed, data):
    replica = met(version, steps, seed)[0]
    some = data.draw(
        st.lists(st.sampled_from(sorted(replica.after)), min_size=2, max_size=4)
    )
    states = [replica.after[one] for one in some]
    first = run(resolve_states(version, states), replica.events)
    dice = random.Random(seed)
    for _ in range(3):
        dice.shuffle(states)
        shuffled = [dict(dice.sample(sorted(s.items()), len(s))) for s in states]
        events = dict(dice.sample(sorted(replica.events.items()), len(replica.events)))
        assert run(resolve_states(version, shuffled), events) == first
        for state in shuffled:
            assert resolved_by_keys(replica, shuffled, state) == first


@thorough
@given(SINCE_2, STEPS, st.integers(), st.data())
def test_looking_at_the_conflict_gives_what_looking_at_all_gives(
    version, steps, seed, data
):
    """Also for states that no server would arrive at."""
    replica = met(version, steps, seed)[0]
    some = data.draw(
        st.lists(st.sampled_from(sorted(replica.after)), min_size=1, max_size=4)
    )
    states = [dict(replica.after[one]) for one in some]
    for state in states:
        for key in data.draw(st.lists(st.sampled_from(sorted(state)), max_size=2)):
            state.pop(key, None)
    for key in data.draw(
        st.lists(st.sampled_from(sorted({k for s in states for k in s})), max_size=3)
        if any(states)
        else st.just([])
    ):
        same = [k.pdu for k in replica.events.values() if k.pdu.key == key]
        for state in states:
            state[key] = data.draw(st.sampled_from(same)).event_id
    expected = Naive(version, states, replica.events).resolve()
    assert run(resolve_states(version, states), replica.events) == expected
    for state in states:
        assert resolved_by_keys(replica, states, state) == expected


@thorough
@given(VERSIONS, STEPS, st.integers())
def test_the_state_holds_only_what_its_auth_events_allow(version, steps, seed):
    replica = met(version, steps, seed)[0]
    for state in replica.before.values():
        for event_id in state.values():
            assert not replica.events[event_id].rejected
    final = replica.state_at(replica.leaves())
    for event_id in final.values():
        for one in (event_id, *auth_chain(replica.pdu(event_id), replica.events)):
            event = replica.pdu(one)
            auth = {replica.pdu(a).key: replica.pdu(a) for a in event.auth_events}
            check(event, auth, create=replica.create_of(event))


@pytest.mark.parametrize("version", ["1", "2", "10", "12"])
def test_resolving_one_state_or_none_changes_nothing(version):
    replica = play(version_of(version), [])[0]
    state = replica.current()
    assert replica.resolve([state]) == state
    assert replica.resolve([state, dict(state), state]) == state
    assert replica.resolve([]) == {}
