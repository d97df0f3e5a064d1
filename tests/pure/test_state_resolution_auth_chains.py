"""Walks along auth chains give what their definitions say, and touch little."""

from collections.abc import Generator
from dataclasses import dataclass

import pytest
from fake_rooms import Asked
from hypothesis import example, given
from hypothesis import strategies as st

from federation import room_versions
from federation.state_resolution import (
    auth_difference,
    compare,
    conflicted_subgraph,
    run,
)


@dataclass(frozen=True)
class Link:
    auth_events: tuple[int, ...]
    rank: int | None = None


Graph = dict[int, Link]


# ── the definitions, word for word ──────────────────────────────────────────────────


def chain(graph: Graph, event: int) -> set[int]:
    reached: set[int] = set()
    todo = [event] if event in graph else []
    while todo:
        for cited in graph[todo.pop()].auth_events:
            if cited in graph and cited not in reached:
                reached.add(cited)
                todo.append(cited)
    return reached


def naive_difference(graph: Graph, states: list[set[int]]) -> set[int]:
    # A state's own events count as part of its chain, see auth_difference.
    there = [state & graph.keys() for state in states]
    chains = [state.union(*(chain(graph, e) for e in state)) for state in there]
    return set().union(*chains) - set.intersection(*chains) if chains else set()


def naive_subgraph(graph: Graph, conflicted: set[int]) -> set[int]:
    there = {event for event in conflicted if event in graph}
    middle = {
        event
        for event in graph
        if (event in there or any(event in chain(graph, one) for one in there))
        and chain(graph, event) & there
    }
    ends = {one for one in there if any(one in chain(graph, e) for e in there)}
    return middle | ends


# ── random graphs ───────────────────────────────────────────────────────────────────


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A DAG whose ranks are right, missing, or right for some events only.

    Some cited events do not exist at all.
    """
    size = draw(st.integers(1, 16))
    vouched = draw(st.sampled_from(["all", "none", "some"]))
    graph: Graph = {}
    ranks: dict[int, int] = {}
    for event in range(size):
        older = draw(st.sets(st.integers(max(0, event - 6), event), max_size=3))
        cited = tuple(e for e in older if e != event)
        lowest = max((ranks[e] for e in cited if e in ranks), default=0) + 1
        ranks[event] = lowest + draw(st.integers(0, 2))
        has_rank = vouched == "all" or (vouched == "some" and draw(st.booleans()))
        graph[event] = Link(cited, ranks[event] if has_rank else None)
    for missing in draw(st.sets(st.integers(0, size - 1), max_size=2)):
        del graph[missing]
    # Numbers that say nothing about the order.
    names = draw(st.permutations(range(size)))
    return {
        names[e]: Link(tuple(names[c] for c in link.auth_events), link.rank)
        for e, link in graph.items()
    }


STATES = st.lists(st.sets(st.integers(0, 15), max_size=5), max_size=4)


@given(graphs(), STATES)
@example({1: Link((0,)), 0: Link(())}, [{1}, set()])
@example({0: Link(()), 1: Link((0,)), 2: Link((1,))}, [{2}, {0, 2}])
def test_the_auth_difference_is_the_defined_one(graph, states):
    assert run(auth_difference(states), graph) == naive_difference(graph, states)


@given(graphs(), STATES, st.sets(st.integers(0, 15)))
def test_what_states_share_can_be_given_apart(graph, states, shared):
    whole = [state | shared for state in states]
    found = run(auth_difference(states, sorted(shared)), graph)
    assert found == naive_difference(graph, whole)


@given(graphs(), STATES)
def test_the_conflicted_subgraph_is_the_defined_one(graph, states):
    conflicted = set().union(*states)
    found = run(conflicted_subgraph(conflicted), graph)
    assert found == naive_subgraph(graph, conflicted)


@given(graphs(), STATES, st.sets(st.integers(0, 15)))
def test_the_full_conflicted_set_is_the_defined_one(graph, states, shared):
    states = [state - shared for state in states]
    conflicted = set().union(*states)
    sets = run(compare(room_versions.V12, states, sorted(shared)), graph)
    difference = naive_difference(graph, [state | shared for state in states])
    assert sets.difference | conflicted == difference | conflicted
    assert sets.subgraph == naive_subgraph(graph, conflicted)


def test_version_1_has_no_use_for_auth_chains():
    graph = Asked({1: Link((0,)), 0: Link(())})
    sets = run(compare(room_versions.V1, [{1}, {0}]), graph)
    assert (sets.difference, sets.subgraph) == (frozenset(), frozenset())
    assert not graph.touched


@pytest.mark.parametrize("ranked", [True, False])
def test_cycles_end(ranked):
    """Event IDs of versions 1 and 2 are chosen, so events may cite each other."""
    graph = {e: Link(((e + 1) % 5,), 7 if ranked else None) for e in range(5)}
    run(auth_difference([{0}, {2}], [4]), graph)
    run(conflicted_subgraph({0, 2}), graph)


# ── what it costs ───────────────────────────────────────────────────────────────────


def long_room(length: int, *, ranked: bool) -> Graph:
    """A chain of power levels, each citing the one before it and the create event."""
    graph = {0: Link((), 0 if ranked else None)}
    for e in range(1, length):
        graph[e] = Link((e - 1, 0), e if ranked else None)
    return graph


def test_a_walk_ends_where_the_states_meet():
    graph = Asked(long_room(10_000, ranked=True))
    assert run(auth_difference([{9_999}, {9_990}]), graph) == set(range(9_991, 10_000))
    assert run(conflicted_subgraph({9_999, 9_995}), graph) == set(range(9_995, 10_000))
    assert len(graph.touched) < 30


def test_a_chain_of_10_000_events_needs_no_recursion():
    graph = long_room(10_000, ranked=False)
    assert run(auth_difference([{9_999}, set()]), graph) == set(range(10_000))
    assert len(run(conflicted_subgraph({9_999, 0}), graph)) == 10_000


def big_room(members: int) -> tuple[Graph, list[int]]:
    """Create 0, creator's join 1, power levels 2, join rules 3, then members' joins."""
    graph = {
        0: Link((), 0),
        1: Link((0,), 1),
        2: Link((0, 1), 2),
        3: Link((0, 1, 2), 3),
    }
    for member in range(10, 10 + members):
        graph[member] = Link((0, 2, 3), 4)
    return graph, [0, 1, 2, 3, *range(10, 10 + members)]


def test_a_join_that_one_side_lacks_touches_a_handful_of_events():
    graph, shared = big_room(10_000)
    asked = Asked(graph | {5: Link((0, 2, 3), 4)})
    sets = run(compare(room_versions.V10, [{5}, set()], shared[::-1]), asked)
    assert sets.difference <= {5}  # in the full conflicted set anyway
    assert len(asked.touched) < 300  # one batch of what is shared


def test_a_changed_profile_touches_a_handful_of_events():
    graph, shared = big_room(10_000)
    shared.remove(10)
    asked = Asked(graph | {5: Link((0, 2, 3, 10), 5)})
    sets = run(compare(room_versions.V10, [{5}, {10}], shared), asked)
    assert sets.difference <= {5, 10}  # in the full conflicted set anyway
    assert len(asked.touched) < 20


def test_the_store_is_asked_by_levels_and_for_nothing_twice():
    graph, shared = big_room(1_000)
    unknown = 99_999
    graph |= {5: Link((0, 2, 3, 10, unknown), 5), 6: Link((0, unknown), 5)}
    rounds: list[frozenset[int]] = []

    def noting(steps: Generator) -> Generator:
        need = next(steps)
        while True:
            rounds.append(need)
            answer = yield need
            try:
                need = steps.send(answer)
            except StopIteration as stop:
                return stop.value

    run(noting(compare(room_versions.V10, [{5}, {6}], shared)), graph)
    asked = [one for need in rounds for one in need]
    assert len(asked) == len(set(asked))
    assert len(rounds) <= 10
