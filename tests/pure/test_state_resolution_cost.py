"""What a conflict costs follows from the conflict, not from the room."""

import time
from collections.abc import Sequence

import pytest
from fake_rooms import (
    ALICE,
    BOB,
    POWER,
    RULES,
    TOPIC,
    Asked,
    Room,
    State,
    make_pdu,
    member,
    public_room,
)

from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.state_resolution import Known, compare, resolve, run, separate

SINCE_2 = pytest.mark.parametrize("version", ["2", "10", "12"])


def crowd(room: Room, number: int, first: int = 0) -> dict[StateKey, Pdu]:
    """Joins of so many users, all after the room's last event, not yet received."""
    after = [room.pdu(one) for one in room.extremities]
    joins = {}
    for n in range(first, first + number):
        user = f"@user{n}:far.test"
        content = {"membership": "join"}
        joins[member(user)] = make_pdu(
            room.version,
            sender=user,
            kind="m.room.member",
            content=content,
            state_key=user,
            prev=after,
            auth=room.selected(room.current(), "m.room.member", user, user, content),
            ts=2_000_000 + n,
            room_id=room.room_id,
        )
    return joins


def known(*groups: dict[StateKey, Pdu]) -> dict[EventId, Known]:
    return {one.event_id: Known(one) for group in groups for one in group.values()}


def ids(state: dict[StateKey, Pdu]) -> State:
    return {key: one.event_id for key, one in state.items()}


def resolve_by_keys(
    room: Room, states: Sequence[State], events: dict[EventId, Known]
) -> dict[StateKey, EventId | None]:
    unconflicted, conflicted = separate(states)
    sides = [[s[key] for key in conflicted if key in s] for s in states]
    shared = [unconflicted[key] for key in (POWER, RULES) if key in unconflicted]
    shared += reversed(unconflicted.values())
    sets = run(compare(room.version, sides, shared), events)
    lookup = states[0].get
    return run(
        resolve(room.version, lookup, conflicted, sets.difference, sets.subgraph),
        events,
    )


@SINCE_2
def test_two_topics_in_a_room_of_10_000_load_a_handful_of_events(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    fork = room.message(ALICE)
    early = room.topic(ALICE, "early", after=[fork])
    late = room.topic(BOB, "late", after=[fork])
    joins = ids(crowd(room, 10_000))
    states = [joins | room.after[one.event_id] for one in (early, late)]
    # No join is even there to be loaded.
    unconflicted, conflicted = separate(states)
    sets = run(compare(room.version, [[early.event_id], [late.event_id]]), room.events)
    store = Asked(room.events)
    winners = run(
        resolve(
            room.version,
            unconflicted.get,
            conflicted,
            sets.difference,
            sets.subgraph,
        ),
        store,
    )
    assert winners[TOPIC] == late.event_id
    assert len(store.touched) <= 8


@pytest.mark.parametrize("version", ["1", "2", "10", "12"])
def test_1_000_joins_on_two_sides_take_less_than_a_second(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    before = room.current()
    left, right = crowd(room, 500), crowd(room, 500, 500)
    states = [before | ids(left), before | ids(right)]
    events = {**room.events, **known(left, right)}
    begin = time.process_time()
    winners = resolve_by_keys(room, states, events)
    assert time.process_time() - begin < 1
    assert winners == ids(left | right)


@SINCE_2
def test_1_000_joins_beside_a_new_join_rule_take_less_than_a_second(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    before = room.current()
    joins = crowd(room, 1_000)
    closed = room.rules(ALICE, "invite")
    states = [before | ids(joins), before | {RULES: closed.event_id}]
    events = {**room.events, **known(joins)}
    begin = time.process_time()
    winners = resolve_by_keys(room, states, events)
    assert time.process_time() - begin < 1
    assert winners.pop(RULES) == closed.event_id
    assert winners == dict.fromkeys(joins)


@SINCE_2
def test_a_profile_changed_1_000_times_needs_no_recursion(version):
    room = public_room(version, {ALICE: 100, BOB: 50})
    before = room.current()
    chain = [room.pdu(before[member(BOB)])]
    shared = [room.pdu(before[key]) for key in (POWER, RULES)]
    for n in range(1_000):
        chain.append(
            make_pdu(
                room.version,
                sender=BOB,
                kind="m.room.member",
                content={"membership": "join", "displayname": str(n)},
                state_key=BOB,
                prev=[chain[-1]],
                auth=[room.create, *shared, chain[-1]][
                    room.version.room_id_is_create_hash :
                ],
                ts=2_000_000 + n,
                room_id=room.room_id,
            )
        )
    events = {**room.events, **{one.event_id: Known(one) for one in chain}}
    states = [before, before | {member(BOB): chain[-1].event_id}]
    begin = time.process_time()
    assert resolve_by_keys(room, states, events) == {member(BOB): chain[-1].event_id}
    assert time.process_time() - begin < 1
