"""One way in for all room versions, for conflicts alone and for whole states.

Spec: server-server-api#room-state-resolution
"""

from collections.abc import Callable, Mapping, Sequence

from federation.ids import EventId
from federation.pdu import StateKey
from federation.room_versions import RoomVersion, StateResolution
from federation.state_resolution import v1, v2
from federation.state_resolution.auth_chains import compare
from federation.state_resolution.needs import Resolving


def resolve(
    version: RoomVersion,
    unconflicted: Callable[[StateKey], EventId | None],
    conflicted: Mapping[StateKey, frozenset[EventId]],
    auth_difference: frozenset[EventId] = frozenset(),
    subgraph: frozenset[EventId] = frozenset(),
    refused: dict[EventId, str] | None = None,
) -> Resolving[dict[StateKey, EventId | None]]:
    """Which event each conflicted key gets, or None for no event.

    `conflicted` has every key that is not the same in all states, with the events
    that stand there; `unconflicted` answers for the rest of the state and may be the
    lookup of any one of the states. The two sets are those of `compare`. The answer
    may name further keys: those that are in no state, but in an auth chain. From
    version 2 of the algorithm on, `refused` is told which events were left out because
    the rules refuse them, and why.
    """

    def elsewhere(key: StateKey) -> EventId | None:
        return None if key in conflicted else unconflicted(key)

    if version.state_resolution is StateResolution.V1:
        return (yield from v1.resolve(version, elsewhere, conflicted))
    return (
        yield from v2.resolve(
            version,
            elsewhere,
            conflicted,
            auth_difference,
            subgraph,
            {} if refused is None else refused,
        )
    )


def separate(
    states: Sequence[Mapping[StateKey, EventId]],
) -> tuple[dict[StateKey, EventId], dict[StateKey, frozenset[EventId]]]:
    """The unconflicted state map, and the conflicted events by key.

    Spec: rooms/v2#definitions
    """
    unconflicted: dict[StateKey, EventId] = {}
    conflicted: dict[StateKey, frozenset[EventId]] = {}
    for key in dict.fromkeys(key for state in states for key in state):
        given = [state.get(key) for state in states]
        distinct = frozenset(event for event in given if event is not None)
        if len(distinct) == 1 and None not in given:
            unconflicted[key] = next(iter(distinct))
        else:
            conflicted[key] = distinct
    return unconflicted, conflicted


def resolve_states(
    version: RoomVersion, states: Sequence[Mapping[StateKey, EventId]]
) -> Resolving[dict[StateKey, EventId]]:
    """Resolve whole states that are at hand. Where they are large, see `resolve`."""
    unconflicted, conflicted = separate(states)
    if not conflicted:
        return unconflicted
    sides = [[state[key] for key in conflicted if key in state] for state in states]
    sets = yield from compare(version, sides, unconflicted.values())
    winners = yield from resolve(
        version, unconflicted.get, conflicted, sets.difference, sets.subgraph
    )
    won = {key: event for key, event in winners.items() if event is not None}
    return unconflicted | won
