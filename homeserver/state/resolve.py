"""Merging the states of a forked room, on persistent maps.

What differs between the maps is found by their difference, so the cost follows the
conflict. The algorithms themselves are pure (federation.state_resolution); here they
get their events, and their time (`budget`). What was resolved is remembered.

Spec: server-server-api#room-state-resolution
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from federation import auth_rules, state_resolution
from federation.ids import EventId
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from federation.state_resolution import AuthSets, Known, Resolving
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.events.events import Events
from homeserver.events.stored import StoredEvent
from homeserver.state.budget import Budget, Work
from homeserver.state.states import States, insert_nodes

_MEMO: Final = 16 * MIB
_MEMO_COST: Final = 700  # bytes, roughly; and of each refusal
_REFUSAL_COST: Final = 250
_REFUSED: Final = 100  # of one resolution, for the record
_EVENTS_AT_ONCE: Final = 100  # to read from the database before others have a turn
# Cited by most events: asked first when a walk looks for what all states share.
_MUCH_CITED: Final = ("m.room.create", "m.room.power_levels", "m.room.join_rules")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Link:
    """An event on an auth chain walk, by numbers."""

    auth_events: tuple[int, ...]
    rank: None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolved state, and why the rules refused events on the way to it, by number.

    Of many refusals some are kept, those of events that stood in a state first.
    """

    root: int
    refused: Mapping[int, str]


class _Wanted(Exception):  # noqa: N818 - not an error: asks the driver for a key
    def __init__(self, key: StateKey) -> None:
        self.key = key


class Resolver:
    """Resolves sets of states and remembers the answers."""

    def __init__(self, db: Database, events: Events, states: States) -> None:
        self._db = db
        self._events = events
        self._states = states
        self._memo: LruCache[frozenset[int], Resolved] = LruCache(
            "states resolved",
            _MEMO,
            lambda resolved: _MEMO_COST + _REFUSAL_COST * len(resolved.refused),
        )
        self._budget = Budget()

    async def resolve(
        self, version: RoomVersion, room_nid: int, roots: Iterable[int]
    ) -> int:
        """The root of the resolved state; its nodes are stored when this returns."""
        return (await self.explain(version, room_nid, roots)).root

    def is_known(self, roots: Iterable[int]) -> bool:
        """Whether there is nothing to resolve, or it was resolved lately."""
        distinct = frozenset(roots)
        return len(distinct) <= 1 or self._memo.get(distinct) is not None

    async def explain(
        self, version: RoomVersion, room_nid: int, roots: Iterable[int]
    ) -> Resolved:
        """The same, with what the rules refused: known when it was resolved lately."""
        distinct = sorted(set(roots))
        if len(distinct) <= 1:
            return Resolved(distinct[0] if distinct else 0, {})
        memo_key = frozenset(distinct)
        known = self._memo.get(memo_key)
        if known is not None:
            return known
        work = self._budget.work(room_nid)
        base, conflicted = await self._separate(distinct)
        await work.rest()
        changes, refused = await self._winners(
            work, version, base, distinct, conflicted
        )
        root, nodes = await self._states.update(base, room_nid, changes)
        if nodes:
            async with self._db.preparation() as tx:
                await insert_nodes(tx, nodes)
        resolved = Resolved(root, refused)
        self._memo.put(memo_key, resolved)
        return resolved

    async def _separate(
        self, roots: Sequence[int]
    ) -> tuple[int, dict[StateKey, list[int | None]]]:
        """A base state, and what stands in each state where they are not all alike."""
        base = roots[0]
        differences = [await self._states.diff(base, root) for root in roots[1:]]
        keys = {key for difference in differences for key in difference}
        conflicted: dict[StateKey, list[int | None]] = {}
        for key in keys:
            mine = next(d[key][0] for d in differences if key in d)
            theirs = [d[key][1] if key in d else mine for d in differences]
            conflicted[key] = [mine, *theirs]
        return base, conflicted

    async def _winners(
        self,
        work: Work,
        version: RoomVersion,
        base: int,
        roots: Sequence[int],
        conflicted: Mapping[StateKey, Sequence[int | None]],
    ) -> tuple[dict[StateKey, int | None], dict[int, str]]:
        if not conflicted:
            return {}, {}
        sides = [
            [nid for column in conflicted.values() if (nid := column[i]) is not None]
            for i in range(len(roots))
        ]
        sets = await self._auth_sets(work, version, base, conflicted, sides)
        mine = {nid for side in sides for nid in side}
        involved = await self._read(work, mine | sets.difference | sets.subgraph)
        event_ids = {nid: event.event_id for nid, event in involved.items()}
        lookup = _Lookup(self._events, self._states, base, frozenset(conflicted))
        await lookup.load(
            key for event in involved.values() for key in _keys_of(event.pdu)
        )
        refused: dict[EventId, str] = {}
        won = await self._drive_events(
            work,
            lookup,
            lambda: state_resolution.resolve(
                version,
                lookup,
                {
                    key: frozenset(event_ids[n] for n in column if n is not None)
                    for key, column in conflicted.items()
                },
                frozenset(event_ids[nid] for nid in sets.difference),
                frozenset(event_ids[nid] for nid in sets.subgraph),
                refused,
            ),
        )
        nids = await self._events.nids_of(e for e in won.values() if e is not None)
        causes = sorted(
            (nid not in mine, nid, refused[event_id])
            for nid, event_id in event_ids.items()
            if event_id in refused
        )
        return (
            {key: nids[e] if e is not None else None for key, e in won.items()},
            {nid: why for _, nid, why in causes[:_REFUSED]},
        )

    async def _read(self, work: Work, nids: Iterable[int]) -> dict[int, StoredEvent]:
        """Those events. Reading many takes time, and others have their turns."""
        wanted = list(nids)
        found: dict[int, StoredEvent] = {}
        for start in range(0, len(wanted), _EVENTS_AT_ONCE):
            batch = wanted[start : start + _EVENTS_AT_ONCE]
            found.update(await self._events.by_nids(batch))
            await work.rest()
        return found

    async def _auth_sets(
        self,
        work: Work,
        version: RoomVersion,
        base: int,
        conflicted: Mapping[StateKey, Sequence[int | None]],
        sides: Sequence[Sequence[int]],
    ) -> AuthSets[int]:
        """The auth difference and the conflicted subgraph.

        What all states share only takes events out of the difference, so the whole
        state is read only when there are any beside the conflicted ones.
        """
        sets = await work.drive(state_resolution.compare(version, sides), self._links)
        mine = {nid for side in sides for nid in side}
        if sets.difference <= mine:
            return sets
        shared = await self._states.items(base)
        with work.counted():
            order = sorted(
                ((key, nid) for key, nid in shared.items() if key not in conflicted),
                key=lambda item: item[0][0] not in _MUCH_CITED,
            )
        await work.rest()
        return await work.drive(
            state_resolution.compare(version, sides, [nid for _, nid in order]),
            self._links,
        )

    async def _links(self, wanted: frozenset[int]) -> dict[int, _Link]:
        auth_nids = await self._events.auth_nids(wanted)
        return {nid: _Link(auth) for nid, auth in auth_nids.items()}

    async def _drive_events(
        self, work: Work, lookup: "_Lookup", start: Callable[[], Resolving[Result]]
    ) -> Result:
        """Run a resolution; when it asks for a state entry not at hand, anew."""

        async def known(wanted: frozenset[EventId]) -> dict[EventId, Known]:
            nids = await self._events.nids_of(wanted)
            events = await self._read(work, nids.values())
            with work.counted():
                return {
                    event.event_id: Known(event.pdu, event.rejected is not None)
                    for event in events.values()
                }

        while True:
            try:
                return await work.drive(start(), known)
            except _Wanted as missing:
                await lookup.load((missing.key,))


class _Lookup:
    """The state that is not in conflict, by event ID; holds what was looked at."""

    def __init__(
        self, events: Events, states: States, base: int, conflicted: frozenset[StateKey]
    ) -> None:
        self._events = events
        self._states = states
        self._base = base
        self._found: dict[StateKey, EventId | None] = dict.fromkeys(conflicted)

    async def load(self, keys: Iterable[StateKey]) -> None:
        wanted = set(keys) - self._found.keys()
        nids = await self._states.get(self._base, wanted)
        events = await self._events.by_nids(nids.values())
        for key in wanted:
            nid = nids.get(key)
            self._found[key] = None if nid is None else events[nid].event_id

    def __call__(self, key: StateKey) -> EventId | None:
        try:
            return self._found[key]
        except KeyError:
            raise _Wanted(key) from None


def _keys_of(event: Pdu) -> list[StateKey]:
    """The keys that a resolution looks at because of an event."""
    keys = auth_rules.auth_keys(
        event.version, event.type, event.state_key, event.sender, event.content
    )
    own = () if event.key is None else (event.key,)
    return [*keys, *own, ("m.room.create", "")]
