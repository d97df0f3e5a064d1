"""How pure code asks for events: generators that yield what they need.

An algorithm yields a set of identifiers and is sent a mapping of those that exist.
Who drives it decides where they come from: a dict, a cache, a database. The answer
may hold more than was asked for, which saves a round; what it leaves out is unknown
everywhere, and the algorithm goes on as if nothing referred to it.

Now and then an algorithm yields the empty set: it has worked for a while, and whoever
drives it may let others have a turn.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from federation.ids import EventId
from federation.pdu import Pdu

N = TypeVar("N")  # an identifier: an event ID, or the number a store keeps it by
N_co = TypeVar("N_co", covariant=True)
V = TypeVar("V")
R = TypeVar("R")


class Linked(Protocol[N_co]):
    """What a walk along auth chains wants of an event; no need to load the event.

    `rank` is a number greater than the rank of every event in its auth chain that has
    one, or None when nobody vouches for that. An event's `depth` will not do: its
    sender chose it.
    """

    @property
    def auth_events(self) -> Iterable[N_co]:
        """The identifiers of its auth events."""

    @property
    def rank(self) -> int | None:
        """Its place in an order in which auth chains come first."""


@dataclass(frozen=True, slots=True)
class Known:
    """An event, and whether the authorization rules rejected it on receipt."""

    pdu: Pdu
    rejected: bool = False
    # The IDs of its auth events, so that it is Linked: read once, asked for often.
    auth_events: tuple[EventId, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "auth_events", self.pdu.auth_events)

    @property
    def rank(self) -> None:
        """Nobody vouches for an order of what servers sent us."""
        return


Steps: TypeAlias = Generator[frozenset[N], Mapping[N, V], R]
Need: TypeAlias = frozenset[EventId]
Resolving: TypeAlias = Generator[Need, Mapping[EventId, Known], R]


# Events looked at between two pauses; one takes up to 0.1 ms.
PAUSE_AFTER: Final = 16


def pause() -> Steps[N, V, None]:
    """Give whoever drives the algorithm an occasion to do something else."""
    yield frozenset()


class Answers(Generic[N, V]):
    """All that one run has been told; asks for nothing twice."""

    def __init__(self) -> None:
        self._known: dict[N, V] = {}
        self._unknown: set[N] = set()

    def ask(self, wanted: Iterable[N]) -> Steps[N, V, None]:
        """Make sure that what exists of these is here."""
        missing = frozenset(
            one for one in wanted if one not in self._known and one not in self._unknown
        )
        if missing:
            answer = yield missing
            self._known.update(answer)
            self._unknown.update(one for one in missing if one not in answer)

    def get(self, identifier: N) -> V | None:
        """What we were told of it; None when it is unknown everywhere."""
        return self._known.get(identifier)


def run(steps: Steps[N, V, R], events: Mapping[N, V]) -> R:
    """Drive a generator from a mapping that holds everything there is."""
    try:
        need = next(steps)
        while True:
            need = steps.send({one: events[one] for one in need if one in events})
    except StopIteration as stop:
        result: R = stop.value
        return result
