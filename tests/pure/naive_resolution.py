"""Version 2 and 2.1 as the specification words them: whole states, whole chains.

The oracle for tests; slow, and shares only the authorization rules with what it tests.
"""

from collections.abc import Mapping, Sequence

from federation.auth_rules import PowerLevels, auth_keys, check
from federation.errors import Rejected
from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution import Known

Events = Mapping[EventId, Known]
State = dict[StateKey, Pdu]


def auth_events(event: Pdu, events: Events) -> list[Pdu]:
    return [events[one].pdu for one in event.auth_events if one in events]


def auth_chain(event: Pdu, events: Events) -> set[EventId]:
    reached: set[EventId] = set()
    todo = [event]
    while todo:
        for cited in auth_events(todo.pop(), events):
            if cited.event_id not in reached:
                reached.add(cited.event_id)
                todo.append(cited)
    return reached


def create_of(event: Pdu, events: Events) -> Pdu | None:
    known = events.get(EventId("$" + event.room_id[1:]))
    return known.pdu if known and not known.rejected else None


class Naive:
    def __init__(
        self,
        version: RoomVersion,
        states: Sequence[Mapping[StateKey, EventId]],
        events: Events,
    ) -> None:
        self.version = version
        self.events = events
        self.states = states
        self.is_2_1 = version.state_resolution is StateResolution.V2_1
        keys = {key for state in states for key in state}
        self.unconflicted: State = {}
        conflicted: set[EventId] = set()
        for key in keys:
            values = {state.get(key) for state in states}
            if len(values) == 1:
                (only,) = values
                self.unconflicted[key] = events[only].pdu
            else:
                conflicted |= values - {None}
        chains = [
            set().union(
                # An event of the state counts as part of its chain.
                *(auth_chain(events[one].pdu, events) | {one} for one in state.values())
            )
            for state in states
        ]
        self.chain = {
            one: auth_chain(known.pdu, events) for one, known in events.items()
        }
        self.full = conflicted | (set().union(*chains) - set.intersection(*chains))
        if self.is_2_1:
            self.full |= {
                one
                for one in events
                if (one in conflicted or any(one in self.chain[c] for c in conflicted))
                and (one in conflicted or self.chain[one] & conflicted)
            }

    def resolve(self) -> dict[StateKey, EventId]:
        power = {one for one in self.full if self.is_power(self.events[one].pdu)}
        selected = power | {
            one for p in power for one in self.chain[p] if one in self.full
        }
        state: State = {} if self.is_2_1 else dict(self.unconflicted)
        self.iterate(state, self.power_order(selected))
        mainline = self.power_chain(state.get(("m.room.power_levels", "")))
        rest = sorted(
            (self.events[one].pdu for one in self.full - selected),
            key=lambda e: (-self.position(e, mainline), e.origin_server_ts, e.event_id),
        )
        self.iterate(state, rest)
        state.update(self.unconflicted)
        return {key: event.event_id for key, event in state.items()}

    @staticmethod
    def is_power(event: Pdu) -> bool:
        if event.type == "m.room.member":
            return (
                event.content.get("membership") in ("leave", "ban")
                and event.sender != event.state_key
            )
        return event.type in ("m.room.power_levels", "m.room.join_rules")

    def power_order(self, selected: set[EventId]) -> list[Pdu]:
        left = set(selected)
        order: list[Pdu] = []
        while left:
            free = [self.events[one].pdu for one in left if not self.chain[one] & left]
            smallest = min(free, key=self.by_power)
            left.remove(smallest.event_id)
            order.append(smallest)
        return order

    def by_power(self, event: Pdu) -> tuple[float, int, str]:
        cited = {one.key: one for one in auth_events(event, self.events) if one.key}
        create = create_of(event, self.events)
        power = PowerLevels.of(cited, self.version, create).user(event.sender)
        return (-power, event.origin_server_ts, event.event_id)

    def power_chain(self, event: Pdu | None) -> list[EventId]:
        chain = []
        while event is not None:
            chain.append(event.event_id)
            event = self.levels_of(event)
        return chain

    def levels_of(self, event: Pdu) -> Pdu | None:
        for one in auth_events(event, self.events):
            if one.key == ("m.room.power_levels", ""):
                return one
        return None

    def position(self, event: Pdu, mainline: list[EventId]) -> float:
        for one in self.power_chain(self.levels_of(event)):
            if one in mainline:
                return mainline.index(one)
        return float("inf")

    def iterate(self, state: State, order: Sequence[Pdu]) -> None:
        for event in order:
            needed = auth_keys(
                self.version, event.type, event.state_key, event.sender, event.content
            )
            used: State = {
                one.key: one
                for one in auth_events(event, self.events)
                if one.key in needed and not self.events[one.event_id].rejected
            }
            used |= {key: state[key] for key in needed if key in state}
            try:
                check(event, used, create=create_of(event, self.events))
            except Rejected:
                continue
            state[event.key] = event
