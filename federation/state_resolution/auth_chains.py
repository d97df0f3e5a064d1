"""Questions about auth chains, answered by walking only where states differ.

An event's auth chain is what its `auth_events` lead to, not the event itself. The
walks know identifiers only, so that a store can walk on its own numbers.

Where events carry ranks (see Linked), a walk ends as soon as nothing below can matter.
Without ranks it goes on to the start of the room, for then the last event of a chain
may still cite one that looked newer than everything.

Spec: rooms/v2#definitions, rooms/v12#definitions
"""

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic

from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution.needs import Answers, Linked, N, Steps

# How many of the shared events are looked at in one round: few at first, as these
# mostly reach all that is looked for, then four times as many each time.
_FIRST_BATCH: Final = 64
_LARGEST_BATCH: Final = 4_096

_LOWEST: Final = float("-inf")
_HIGHEST: Final = float("inf")


@dataclass(frozen=True, slots=True)
class AuthSets(Generic[N]):
    """What resolution needs beside the conflicted events themselves.

    `subgraph` are the events on paths between conflicted events.
    """

    difference: frozenset[N]
    subgraph: frozenset[N]


def compare(
    version: RoomVersion, states: Sequence[Collection[N]], shared: Iterable[N] = ()
) -> Steps[N, Linked[N], AuthSets[N]]:
    """The auth sets of states that disagree, ready for `resolve`.

    `states` holds the conflicted events of each state, `shared` the events that all
    have in common; it is read only as far as needed, so name those first that many
    others cite: power levels, join rules, the latest members. Conflicted events that
    only `shared` would take out of the difference may remain in it: they are in the
    full conflicted set anyway.
    """
    if version.state_resolution is StateResolution.V1:
        return AuthSets(frozenset(), frozenset())
    links: Answers[N, Linked[N]] = Answers()
    conflicted = frozenset(itertools.chain.from_iterable(states))
    difference = yield from _difference(links, states, shared, conflicted)
    subgraph = yield from _subgraph(links, conflicted)
    return AuthSets(difference, subgraph)


def auth_difference(
    states: Sequence[Collection[N]], shared: Iterable[N] = ()
) -> Steps[N, Linked[N], frozenset[N]]:
    """Every event that is in the auth chain of some of the states but not of all.

    COMPAT(Synapse): by the letter an event is not in its own auth chain. Servers count
    it in, as a recorded room of version 12 shows: what is part of every state is not in
    the difference, though it be in the chain of one alone.

    What all states have in common can be given apart, as `shared`: the answer is the
    same, and little of it need be looked at.

    Spec: rooms/v2#definitions
    """
    links: Answers[N, Linked[N]] = Answers()
    return (yield from _difference(links, states, shared, frozenset()))


def conflicted_subgraph(
    conflicted: Collection[N],
) -> Steps[N, Linked[N], frozenset[N]]:
    """The events on paths from a conflicted event to another, ends included.

    Spec: rooms/v12#definitions
    """
    links: Answers[N, Linked[N]] = Answers()
    return (yield from _subgraph(links, frozenset(conflicted)))


def _difference(
    links: Answers[N, Linked[N]],
    states: Sequence[Collection[N]],
    shared: Iterable[N],
    settled: frozenset[N],
) -> Steps[N, Linked[N], frozenset[N]]:
    """The difference; whether members of `settled` are in it is not always found out.

    What the shared events reach is in the chain of every state. So the difference is
    that of what each state has beside them, less what they reach.
    """
    reach = _Reach(links, states, settled)
    yield from reach.spread()
    partial = reach.partial()
    struck = _Strike(links, reach.everywhere, partial - settled)
    yield from struck.below(shared)
    return partial - struck.found


def _rank_or(unvouched: float, link: Linked[N] | None) -> float:
    return unvouched if link is None or link.rank is None else link.rank


class _Reach(Generic[N]):
    """Which states reach which events: a bit per state, handed down the chains.

    Events hand down their bits highest rank first, and again when they gain more, so
    the order matters to the cost alone. It is over when all that have bits to hand
    down have every bit, as then has all that is below them, and when nothing that was
    found to lack some can be below them.
    """

    def __init__(
        self,
        links: Answers[N, Linked[N]],
        states: Sequence[Collection[N]],
        settled: frozenset[N],
    ) -> None:
        self._links = links
        self._settled = settled  # how far these are reached decides nothing
        self._all = (1 << len(states)) - 1
        self._bits: dict[N, int] = {}  # the states whose auth chain holds the event
        self._origin: dict[N, int] = {}  # the states that hold the event itself
        for position, state in enumerate(states):
            for event in state:
                self._origin[event] = self._origin.get(event, 0) | 1 << position
        self._fresh = dict(self._origin)  # bits that are still to be handed down
        self._needy: set[N] = set()  # those with fresh bits that lack others
        self._turns: list[tuple[float, int, N]] = []  # a heap, highest rank first
        self._lacking: list[tuple[float, int, N]] = []  # a heap, lowest rank first
        self._ticket = itertools.count()

    def spread(self) -> Steps[N, Linked[N], None]:
        """Hand bits down until no event could gain another."""
        arrived = list(self._fresh)
        while arrived or self._turns:
            yield from self._links.ask(arrived)
            for event in arrived:
                self._queue(event)
            arrived = []
            for event in self._next():
                arrived += self._hand_down(event)

    def _queue(self, event: N) -> None:
        link = self._links.get(event)
        if link is None:
            return
        heapq.heappush(
            self._turns, (-_rank_or(_HIGHEST, link), next(self._ticket), event)
        )
        if self.everywhere(event):
            self._needy.discard(event)
        else:
            self._needy.add(event)
        if not self.everywhere(event) and event not in self._settled:
            place = _rank_or(_LOWEST, link), next(self._ticket), event
            heapq.heappush(self._lacking, place)

    def _next(self) -> list[N]:
        """The events whose turn it is: all of the highest rank, or none any more."""
        while self._lacking and self.everywhere(self._lacking[0][2]):
            heapq.heappop(self._lacking)
        lowest = self._lacking[0][0] if self._lacking else _HIGHEST
        if not self._turns or (not self._needy and -self._turns[0][0] <= lowest):
            self._turns.clear()
            return []
        highest = self._turns[0][0]
        turns = []
        while self._turns and self._turns[0][0] == highest:
            turns.append(heapq.heappop(self._turns)[2])
        return turns

    def _hand_down(self, event: N) -> Iterator[N]:
        link = self._links.get(event)
        fresh = self._fresh.pop(event, 0)
        self._needy.discard(event)
        if link is None or not fresh:
            return
        for cited in link.auth_events:
            had = self._bits.get(cited, 0)
            if fresh & ~had:
                self._bits[cited] = had | fresh
                self._fresh[cited] = self._fresh.get(cited, 0) | (fresh & ~had)
                yield cited

    def everywhere(self, event: N) -> bool:
        """Whether all states hold the event or reach it; then so is all below it."""
        bits = self._bits.get(event, 0) | self._origin.get(event, 0)
        return bits == self._all

    def partial(self) -> frozenset[N]:
        """The events that exist and are in or below some states, not all."""
        return frozenset(
            event
            for event in self._bits.keys() | self._origin.keys()
            if not self.everywhere(event) and self._links.get(event) is not None
        )


class _Strike(Generic[N]):
    """Finds out which of some events are among others, or lie below them."""

    def __init__(
        self,
        links: Answers[N, Linked[N]],
        is_fruitless: Callable[[N], bool],
        candidates: frozenset[N],
    ) -> None:
        self._links = links
        self._is_fruitless = is_fruitless  # no candidate can be below such an event
        self._left = set(candidates)
        self._seen: set[N] = set()
        self.found: set[N] = set()

    def below(self, tops: Iterable[N]) -> Steps[N, Linked[N], None]:
        """Look at these and below, in their order, until every candidate is found."""
        source = iter(tops)
        batch = _FIRST_BATCH
        while self._left:
            level = list(itertools.islice(source, batch))
            batch = min(batch * 4, _LARGEST_BATCH)
            self._strike(level)
            if not level or not self._left:
                return
            floor = self._floor()
            while level and self._left:
                yield from self._links.ask(level)
                level = [
                    cited for event in level for cited in self._cited(event, floor)
                ]

    def _strike(self, events: Iterable[N]) -> None:
        met = self._left.intersection(events)
        self._left -= met
        self.found |= met

    def _floor(self) -> float:
        """No event of this rank or a lower one can be above a candidate."""
        return min(_rank_or(_LOWEST, self._links.get(one)) for one in self._left)

    def _cited(self, event: N, floor: float) -> Iterator[N]:
        link = self._links.get(event)
        if link is None or (link.rank is not None and link.rank <= floor):
            return
        for cited in link.auth_events:
            if cited in self._seen:
                continue
            self._seen.add(cited)
            self._strike((cited,))
            if not self._is_fruitless(cited):
                yield cited


def _subgraph(
    links: Answers[N, Linked[N]], conflicted: frozenset[N]
) -> Steps[N, Linked[N], frozenset[N]]:
    """Go down from all conflicted events, then back up from those met on the way."""
    yield from links.ask(conflicted)
    ends = [event for event in conflicted if links.get(event) is not None]
    if len(ends) < 2:
        return frozenset()
    # An event of this rank or a lower one has no conflicted event below it.
    floor = min(_rank_or(_LOWEST, links.get(event)) for event in ends)
    citing: dict[N, list[N]] = {event: [] for event in ends}
    level = ends
    while level:
        yield from links.ask(level)
        arrived: list[N] = []
        for event in level:
            link = links.get(event)
            if link is None or (link.rank is not None and link.rank <= floor):
                continue
            for cited in link.auth_events:
                arrived += () if cited in citing else (cited,)
                citing.setdefault(cited, []).append(event)
        level = arrived
    met = {event for event in ends if citing[event]}
    above = list(met)
    while above:
        new = [event for event in citing[above.pop()] if event not in met]
        met.update(new)
        above += new
    return frozenset(met)
