"""State resolution of room versions 2 to 11 (2.0) and of version 12 (2.1).

Only the conflict is looked at: events come from the conflicted keys, the auth
difference and the conflicted state subgraph; the rest of the state is asked by key.

Spec: rooms/v2#state-resolution, rooms/v12#state-resolution
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from federation.auth_rules import PowerLevels, auth_keys, check
from federation.errors import Rejected
from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution.needs import (
    PAUSE_AFTER,
    Answers,
    Known,
    Resolving,
    pause,
)
from federation.state_resolution.ordering import (
    POWER_LEVELS,
    Mainline,
    PowerPlace,
    power_place,
    reverse_topological,
)

CREATE: Final[StateKey] = ("m.room.create", "")

Lookup = Callable[[StateKey], EventId | None]


def resolve(
    version: RoomVersion,
    unconflicted: Lookup,
    conflicted: Mapping[StateKey, frozenset[EventId]],
    auth_difference: frozenset[EventId],
    subgraph: frozenset[EventId],
    refused: dict[EventId, str],
) -> Resolving[dict[StateKey, EventId | None]]:
    """What the state holds for each conflicted key, and for keys no state had.

    `unconflicted` must answer None for the conflicted keys. `refused` is told which
    events the iterative auth checks left out, and why.

    Spec: rooms/v2#algorithm, rooms/v12#algorithm
    """
    is_2_1 = version.state_resolution is StateResolution.V2_1
    events: Answers[EventId, Known] = Answers()
    full = frozenset[EventId]().union(*conflicted.values(), auth_difference)
    yield from events.ask(full | subgraph)
    if is_2_1:
        full |= subgraph
    conflict = _Conflict(version, events, _state_events(full, events), subgraph)
    state = _PartialState(
        version, events, (lambda _key: None) if is_2_1 else unconflicted, refused
    )

    power_list = yield from conflict.power_list()
    yield from state.iterate(power_list)
    power_levels = yield from state.find(POWER_LEVELS)
    rest = yield from conflict.mainline_list(power_levels)
    yield from state.iterate(rest)
    # "Update the result by replacing any event with the event with the same key from
    # the unconflicted state map": those keys need no answer.
    winners: dict[StateKey, EventId | None] = dict.fromkeys(conflicted)
    for key, event in state.resolved.items():
        if key in conflicted or unconflicted(key) is None:
            winners[key] = event.event_id
    return winners


def is_power_event(event: Pdu) -> bool:
    """Whether the event might take away someone's ability to do something.

    Spec: rooms/v2#definitions
    """
    if event.state_key is None:
        return False
    if event.type in ("m.room.power_levels", "m.room.join_rules"):
        return True
    return event.membership in ("leave", "ban") and event.sender != event.state_key


def _state_events(
    ids: Iterable[EventId], events: Answers[EventId, Known]
) -> dict[EventId, Pdu]:
    """Those of the events that exist and are state events."""
    found = {}
    for event_id in ids:
        known = events.get(event_id)
        if known is not None and known.pdu.key is not None:
            found[event_id] = known.pdu
    return found


def _create_id_of(event: Pdu) -> frozenset[EventId]:
    """The create event where only the room ID names it, from version 12."""
    if not event.version.room_id_is_create_hash:
        return frozenset()
    return frozenset((EventId("$" + event.room_id[1:]),))


class _Conflict:
    """The full conflicted set, cut in two and put in order."""

    def __init__(
        self,
        version: RoomVersion,
        events: Answers[EventId, Known],
        full: Mapping[EventId, Pdu],
        subgraph: frozenset[EventId],
    ) -> None:
        self._version = version
        self._events = events
        self._full = full
        # An auth chain may leave the full conflicted set and come back (in 2.0); all
        # such detours run through the subgraph.
        self._cited: dict[EventId, list[EventId]] = {}
        for event_id in full.keys() | subgraph:
            known = events.get(event_id)
            if known is not None:
                self._cited[event_id] = [
                    one for one in known.auth_events if one in full or one in subgraph
                ]
        self._selected: set[EventId] = set()

    def power_list(self) -> Resolving[list[Pdu]]:
        """Step 1: power events with what of the set is in their auth chains, sorted."""
        todo = [one for one, event in self._full.items() if is_power_event(event)]
        self._selected = set(todo)
        while todo:
            for one in self._cited.get(todo.pop(), ()):
                if one not in self._selected:
                    self._selected.add(one)
                    todo.append(one)
        yield from self._ask_for_auth_events(self._selected & self._full.keys())
        cited = {one: self._cited.get(one, ()) for one in self._selected}
        places: dict[EventId, PowerPlace | None] = {}
        for number, one in enumerate(self._selected):
            places[one] = self._power_place(one)
            if number % PAUSE_AFTER == PAUSE_AFTER - 1:
                yield from pause()
        order = reverse_topological(cited, places.__getitem__)
        return [self._full[one] for one in order]

    def mainline_list(self, power_levels: Pdu | None) -> Resolving[list[Pdu]]:
        """Step 3: the remaining events by the mainline of these power levels."""
        rest = [one for one in self._full if one not in self._selected]
        yield from self._ask_for_auth_events(rest)
        mainline = Mainline(power_levels, self._events)
        places = []
        for number, one in enumerate(rest):
            place = yield from mainline.place(self._full[one])
            places.append(place)
            if number % PAUSE_AFTER == PAUSE_AFTER - 1:
                yield from pause()
        return [self._full[event_id] for _, _, event_id in sorted(places)]

    def _power_place(self, event_id: EventId) -> PowerPlace | None:
        event = self._full.get(event_id)
        if event is None:
            return None
        cited: dict[StateKey, Pdu] = {}
        for one in (*self._auth_events_of(event), *_create_id_of(event)):
            known = self._events.get(one)
            if known is not None and known.pdu.key is not None:
                cited.setdefault(known.pdu.key, known.pdu)
        power = PowerLevels.of(cited, self._version).user(event.sender)
        return power_place(event, power)

    def _auth_events_of(self, event: Pdu) -> tuple[EventId, ...]:
        known = self._events.get(event.event_id)
        return event.auth_events if known is None else known.auth_events

    def _ask_for_auth_events(self, ids: Collection[EventId]) -> Resolving[None]:
        wanted: set[EventId] = set()
        for one in ids:
            event = self._full[one]
            wanted.update(self._auth_events_of(event), _create_id_of(event))
        yield from self._events.ask(wanted)


class _PartialState:
    """What the iterative auth checks have resolved, over the state they began with."""

    def __init__(
        self,
        version: RoomVersion,
        events: Answers[EventId, Known],
        base: Lookup,
        refused: dict[EventId, str],
    ) -> None:
        self._refused = refused
        self._version = version
        self._events = events
        self._base = base
        self.resolved: dict[StateKey, Pdu] = {}

    def iterate(self, order: Collection[Pdu]) -> Resolving[None]:
        """The iterative auth checks algorithm; auth events are loaded.

        Spec: rooms/v2#definitions
        """
        keys = {event.event_id: self._keys(event) for event in order}
        base = {self._base(key) for wanted in keys.values() for key in wanted}
        yield from self._events.ask(one for one in base if one is not None)
        for number, event in enumerate(order):
            if number % PAUSE_AFTER == PAUSE_AFTER - 1:
                yield from pause()
            if event.key is None:
                continue
            state = self._auth_state(event, keys[event.event_id])
            try:
                check(event, state, create=self._create(event))
            except Rejected as refused:
                self._refused[event.event_id] = str(refused)
                continue
            self.resolved[event.key] = event

    def find(self, key: StateKey) -> Resolving[Pdu | None]:
        """The event for the key in the state so far."""
        event_id = self._base(key)
        if key not in self.resolved and event_id is not None:
            yield from self._events.ask((event_id,))
        return self._get(key)

    def _get(self, key: StateKey) -> Pdu | None:
        if key in self.resolved:
            return self.resolved[key]
        event_id = self._base(key)
        known = None if event_id is None else self._events.get(event_id)
        return None if known is None else known.pdu

    def _keys(self, event: Pdu) -> list[StateKey]:
        return auth_keys(
            self._version, event.type, event.state_key, event.sender, event.content
        )

    def _auth_state(self, event: Pdu, keys: list[StateKey]) -> dict[StateKey, Pdu]:
        """The state that the event needs, where missing from its own auth events."""
        state: dict[StateKey, Pdu] = {}
        itself = self._events.get(event.event_id)
        for event_id in event.auth_events if itself is None else itself.auth_events:
            known = self._events.get(event_id)
            # "... is used if the auth event is not rejected."
            if known is not None and not known.rejected and known.pdu.key in keys:
                state.setdefault(known.pdu.key, known.pdu)
        for key in keys:
            if (current := self._get(key)) is not None:
                state[key] = current
        return state

    def _create(self, event: Pdu) -> Pdu | None:
        for event_id in _create_id_of(event):
            known = self._events.get(event_id)
            if known is not None and not known.rejected:
                return known.pdu
        return None
