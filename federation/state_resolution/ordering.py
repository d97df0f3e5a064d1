"""The two orders in which version 2 tries events.

Spec: rooms/v2#definitions
"""

import heapq
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.state_resolution.needs import Answers, Known, Resolving

POWER_LEVELS: Final[StateKey] = ("m.room.power_levels", "")

# Compared as the specification says: each begins with what is to come first.
PowerPlace: TypeAlias = tuple[float, int, EventId]
MainlinePlace: TypeAlias = tuple[float, int, EventId]


def auth_event_of(
    event: Pdu, key: StateKey, events: Answers[EventId, Known]
) -> Known | None:
    """The event for that key among an event's auth events, which are loaded."""
    itself = events.get(event.event_id)
    for event_id in event.auth_events if itself is None else itself.auth_events:
        known = events.get(event_id)
        if known is not None and known.pdu.key == key:
            return known
    return None


def power_place(event: Pdu, power: float) -> PowerPlace:
    """The place of an event whose sender has that power in its auth events."""
    return (-power, event.origin_server_ts, event.event_id)


def reverse_topological(
    cited: Mapping[EventId, Collection[EventId]],
    place: Callable[[EventId], PowerPlace | None],
) -> list[EventId]:
    """Order events after those they cite, the smallest place first among the free.

    `cited` gives, for each event, those of the others that its auth events name. An
    event without a place only hands on an order between others and is not in the
    result. Events in a cycle, which only the event IDs of versions 1 and 2 allow,
    can never have been authorized; they and what cites them are left out.
    """
    citing: dict[EventId, list[EventId]] = {event: [] for event in cited}
    open_ends: dict[EventId, int] = {}
    for event, named in cited.items():
        distinct = {one for one in named if one in cited}
        open_ends[event] = len(distinct)
        for one in distinct:
            citing[one].append(event)
    order: list[EventId] = []
    candidates: list[PowerPlace] = []
    free = [event for event, count in open_ends.items() if not count]
    while free or candidates:
        if free:
            event = free.pop()
            if (its_place := place(event)) is not None:
                heapq.heappush(candidates, its_place)
                continue
        else:
            event = heapq.heappop(candidates)[2]
            order.append(event)
        for one in citing[event]:
            open_ends[one] -= 1
            if not open_ends[one]:
                free.append(one)
    return order


class Mainline:
    """The mainline of a power levels event, fetched only as far as it is asked for."""

    def __init__(self, tip: Pdu | None, events: Answers[EventId, Known]) -> None:
        self._events = events
        self._position: dict[EventId, float] = {}
        self._last = tip  # the oldest fetched so far; None when there is no more
        if tip is not None:
            self._position[tip.event_id] = 0

    def place(self, event: Pdu) -> Resolving[MainlinePlace]:
        """The place of an event: oldest power levels first, then time, then ID."""
        position = yield from self._position_of(event)
        return (-position, event.origin_server_ts, event.event_id)

    def _position_of(self, event: Pdu) -> Resolving[float]:
        """The position of the first power levels below the event on the mainline."""
        passed: set[EventId] = set()
        position = float("inf")
        below = yield from self._power_levels_of(event)
        while below is not None and below.event_id not in passed:
            yield from self._extend_to(below.event_id)
            if below.event_id in self._position:
                position = self._position[below.event_id]
                break
            passed.add(below.event_id)
            below = yield from self._power_levels_of(below)
        # The next event on the same side branch need not walk it again.
        self._position.update(dict.fromkeys(passed, position))
        return position

    def _extend_to(self, event_id: EventId) -> Resolving[None]:
        """Fetch the mainline until the event is on it, or all of it."""
        length = len(self._position)
        while self._last is not None and event_id not in self._position:
            self._last = yield from self._power_levels_of(self._last)
            if self._last is None or self._last.event_id in self._position:
                self._last = None
                return
            self._position[self._last.event_id] = length
            length += 1

    def _power_levels_of(self, event: Pdu) -> Resolving[Pdu | None]:
        itself = self._events.get(event.event_id)
        yield from self._events.ask(
            event.auth_events if itself is None else itself.auth_events
        )
        known = auth_event_of(event, POWER_LEVELS, self._events)
        return None if known is None else known.pdu
