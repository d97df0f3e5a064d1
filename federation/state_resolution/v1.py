"""State resolution of room version 1. Its room states can be reset; version 2 cures it.

Spec: rooms/v1#state-resolution
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from federation.auth_rules import auth_keys, check
from federation.errors import Rejected
from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from federation.state_resolution.needs import Answers, Known, Resolving

# One pass each, in this order; all else comes after them.
_PASSES: Final = ("m.room.power_levels", "m.room.join_rules", "m.room.member")


def resolve(
    version: RoomVersion,
    unconflicted: Callable[[StateKey], EventId | None],
    conflicted: Mapping[StateKey, frozenset[EventId]],
) -> Resolving[dict[StateKey, EventId | None]]:
    """What the state holds for each key in which states differ.

    A key with one event that some states lack is no conflict here: "Start by setting
    R to the union of the states to be resolved, excluding any conflicting events".
    """
    state = _Resolved(version, unconflicted)
    contested = yield from state.begin(conflicted)
    for event_type in _PASSES:
        # Conflicts of one pass do not see each other, so their order cannot matter.
        state.add(
            {
                key: state.last_allowed(events)
                for key, events in contested.items()
                if key[0] == event_type
            }
        )
    winners = {
        # COMPAT(Synapse, all versions): the text says nothing of candidates that are
        # all refused; servers keep the last one looked at, as recorded rooms show.
        key: state.first_allowed(events[::-1]) or events[0]
        for key, events in contested.items()
        if key[0] not in _PASSES
    }
    state.add(winners)
    result: dict[StateKey, EventId | None] = dict.fromkeys(conflicted)
    result.update((key, event.event_id) for key, event in state.resolved.items())
    return result


def _sorted(events: Iterable[Pdu]) -> list[Pdu]:
    """Ascending depth, then descending sha1(event_id)."""
    by_hash = sorted(events, key=_sha1, reverse=True)
    return sorted(by_hash, key=lambda event: event.depth)


def _sha1(event: Pdu) -> bytes:
    return hashlib.sha1(event.event_id.encode(), usedforsecurity=False).digest()


class _Resolved:
    """R, "the results of the resolution so far", as far as it matters."""

    def __init__(
        self,
        version: RoomVersion,
        unconflicted: Callable[[StateKey], EventId | None],
    ) -> None:
        self._version = version
        self._unconflicted = unconflicted
        self._events: Answers[EventId, Known] = Answers()
        self.resolved: dict[StateKey, Pdu] = {}

    def begin(
        self, conflicted: Mapping[StateKey, frozenset[EventId]]
    ) -> Resolving[dict[StateKey, list[Pdu]]]:
        """Load what is needed; return real conflicts, each list in its order."""
        yield from self._events.ask(one for ids in conflicted.values() for one in ids)
        contested: dict[StateKey, list[Pdu]] = {}
        for key, ids in conflicted.items():
            found = [known.pdu for one in ids if (known := self._events.get(one))]
            if len(found) == 1:
                self.resolved[key] = found[0]
            elif found:
                contested[key] = _sorted(found)
        keys = {
            key
            for found in contested.values()
            for one in found
            for key in self._keys(one)
        }
        base = {self._unconflicted(key) for key in keys}
        yield from self._events.ask(one for one in base if one is not None)
        return contested

    def add(self, events: Mapping[StateKey, Pdu]) -> None:
        """Update R."""
        self.resolved.update(events)

    def last_allowed(self, events: list[Pdu]) -> Pdu:
        """Go up the list while each event is allowed after those before it."""
        latest = events[0]
        for event in events[1:]:
            if not self._is_allowed(event, latest):
                break
            latest = event
        return latest

    def first_allowed(self, events: list[Pdu]) -> Pdu | None:
        """The first event of the list that R allows."""
        return next((event for event in events if self._is_allowed(event, None)), None)

    def _is_allowed(self, event: Pdu, replaced: Pdu | None) -> bool:
        state: dict[StateKey, Pdu] = {}
        for key in self._keys(event):
            found = self.resolved.get(key) or self._loaded(self._unconflicted(key))
            if found is not None:
                state[key] = found
        if replaced is not None and replaced.key is not None:
            state[replaced.key] = replaced
        try:
            check(event, state)
        except Rejected:
            return False
        return True

    def _loaded(self, event_id: EventId | None) -> Pdu | None:
        known = None if event_id is None else self._events.get(event_id)
        return None if known is None else known.pdu

    def _keys(self, event: Pdu) -> list[StateKey]:
        return auth_keys(
            self._version, event.type, event.state_key, event.sender, event.content
        )
