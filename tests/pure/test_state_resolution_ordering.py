"""The orders of version 2 are those of their definitions."""

import itertools
import math

from fake_rooms import ALICE, BOB, Asked, make_pdu, version_of
from hypothesis import given
from hypothesis import strategies as st

from federation.ids import EventId
from federation.state_resolution import Known, run
from federation.state_resolution.needs import Answers
from federation.state_resolution.ordering import (
    Mainline,
    power_place,
    reverse_topological,
)

V10 = version_of("10")


def levels(auth=(), ts=0, **content):
    return make_pdu(
        V10,
        sender=ALICE,
        kind="m.room.power_levels",
        content=content,
        state_key="",
        auth=auth,
        ts=ts,
        room_id="!room:a.test",
    )


def topic(text, auth=(), ts=0):
    return make_pdu(
        V10,
        sender=BOB,
        kind="m.room.topic",
        content={"topic": text},
        state_key="",
        auth=auth,
        ts=ts,
        room_id="!room:a.test",
    )


# ── reverse topological power ordering ──────────────────────────────────────────────


def test_power_comes_before_time_and_time_before_the_id():
    one, two = topic("1", ts=5), topic("2", ts=9)
    assert power_place(two, 100) < power_place(one, 50)
    assert power_place(one, 50) < power_place(two, 50)
    assert power_place(two, math.inf) < power_place(one, 10**400)
    same, other = sorted([topic("3"), topic("4")], key=lambda e: e.event_id)
    assert power_place(same, 0) < power_place(other, 0)


@st.composite
def small_dags(draw: st.DrawFn):
    """Up to six events, what each cites, and some of them silent."""
    size = draw(st.integers(1, 6))
    names = [EventId(f"${n}") for n in draw(st.permutations("abcdef"[:size]))]
    cited = {
        name: draw(st.sets(st.sampled_from(names[:i]))) if i else set()
        for i, name in enumerate(names)
    }
    silent = draw(st.sets(st.sampled_from(names)))
    places = {
        name: (-draw(st.integers(0, 2)), draw(st.integers(0, 2)), name)
        for name in names
    }
    return cited, {n: None if n in silent else p for n, p in places.items()}


def reaches(cited, event):
    return set(cited[event]).union(*(reaches(cited, one) for one in cited[event]))


@given(small_dags())
def test_the_order_is_the_lexicographically_smallest_topological_one(dag):
    cited, places = dag
    wanted = [one for one in cited if places[one] is not None]
    topological = [
        order
        for order in itertools.permutations(wanted)
        if not any(
            later in reaches(cited, earlier)
            for earlier, later in itertools.combinations(order, 2)
        )
    ]
    smallest = min(topological, key=lambda order: [places[one] for one in order])
    assert reverse_topological(cited, places.get) == list(smallest)


def test_events_that_cite_each_other_are_left_out():
    a, b, c, d = map(EventId, "abcd")
    cited = {a: [b], b: [a], c: [a], d: [d]} | {EventId("e"): []}
    assert reverse_topological(cited, lambda one: (0, 0, one)) == ["e"]


def test_the_same_event_cited_twice_counts_once():
    a, b = map(EventId, "ab")
    assert reverse_topological({b: [a, a], a: []}, lambda one: (0, 0, one)) == [a, b]


# ── mainline ordering ───────────────────────────────────────────────────────────────


def places(tip, asked, known):
    events = {one.event_id: Known(one) for one in known}
    answers: Answers = Answers()
    mainline = Mainline(tip, answers)
    return [run(mainline.place(one), events)[0] for one in asked]


def test_positions_on_the_mainline():
    p2 = levels(ban=2)
    p1 = levels([p2], ban=1)
    p0 = levels([p1], ban=0)
    aside = levels([p1], ban=7)
    further = levels([aside], ban=8)
    asked = [
        topic("newest", [p0]),
        topic("older", [p1]),
        topic("oldest", [p2]),
        topic("aside", [further]),
        topic("aside again", [further]),
        topic("none"),
        p0,  # the event itself does not count, so it stands at its predecessor
        p1,
        p2,
    ]
    known = [p2, p1, p0, aside, further, *asked]
    inf = math.inf
    assert places(p0, asked, known) == [0, -1, -2, -1, -1, -inf, -1, -2, -inf]
    assert places(None, asked[:2], known) == [-inf, -inf]


def test_the_mainline_is_fetched_only_as_far_as_needed():
    chain = [levels()]
    for n in range(50):
        chain.append(levels([chain[-1]], ban=n))
    events = Asked({one.event_id: Known(one) for one in chain})
    mainline = Mainline(chain[-1], Answers())
    place = run(mainline.place(topic("now", [chain[-2]])), events)
    assert place[0] == -1
    assert events.touched == {chain[-2].event_id}


def test_a_mainline_of_10_000_needs_no_recursion():
    chain = [levels()]
    for n in range(10_000):
        chain.append(levels([chain[-1]], ban=n))
    assert places(chain[-1], [topic("first", [chain[0]])], chain) == [-10_000]


def test_power_levels_in_a_circle_end():
    """Versions 1 and 2 let servers choose event IDs, so circles can be written."""
    v2 = version_of("2")

    def circle(name, other):
        return make_pdu(
            v2,
            sender=ALICE,
            kind="m.room.power_levels",
            content={},
            state_key="",
            auth=[other] if other else [],
            room_id="!room:a.test",
            event_id=f"${name}:a.test",
        )

    first = circle("one", circle("two", None))
    second = circle("two", first)
    assert places(first, [second], [first, second]) == [0]
    assert places(None, [second], [first, second]) == [-math.inf]
