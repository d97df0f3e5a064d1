"""Which state a client wants of a room, as pure functions over state keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from federation.pdu import StateKey

MEMBER: Final = "m.room.member"

# (type, state_key); None matches all.
Pattern = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Required:
    """Some state. `lazy`: of the members only those who are needed."""

    include: frozenset[Pattern] = frozenset()
    exclude: frozenset[Pattern] = frozenset()
    lazy: bool = False
    # Names it in the state of connections, so it must be the same in every process.
    mark: bytes = field(init=False)

    def __post_init__(self) -> None:
        parts = [sorted(map(repr, self.include)), sorted(map(repr, self.exclude))]
        text = repr((parts, self.lazy)).encode("utf-8", "surrogatepass")
        object.__setattr__(self, "mark", blake2b(text, digest_size=8).digest())

    def wants(self, key: StateKey) -> bool:
        """Whether the entry is wanted whoever is needed."""
        return self._includes(key) and not _matches(self.exclude, key)

    def _includes(self, key: StateKey) -> bool:
        event_type, state_key = key
        if self.lazy and event_type == MEMBER:
            # Wildcards mean everything but members, then.
            return key in self.include or (None, state_key) in self.include
        return _matches(self.include, key)

    def choose(self, state: Mapping[StateKey, int]) -> dict[StateKey, int]:
        """The entries of a state that are wanted."""
        exact = [(t, k) for t, k in self.include if t is not None and k is not None]
        if len(exact) == len(self.include):
            return {k: state[k] for k in exact if k in state and self.wants(k)}
        return {key: nid for key, nid in state.items() if self.wants(key)}


def _matches(patterns: frozenset[Pattern], key: StateKey) -> bool:
    event_type, state_key = key
    return not patterns.isdisjoint(
        (key, (event_type, None), (None, state_key), (None, None))
    )


@dataclass(frozen=True, slots=True)
class RoomConfig:
    """How a room is shown: the newest events, and state by any of `parts`."""

    timeline_limit: int
    parts: frozenset[Required]
    marks: tuple[bytes, ...] = field(init=False)  # the names of its parts, in order

    def __post_init__(self) -> None:
        marks = tuple(sorted(part.mark for part in self.parts))
        object.__setattr__(self, "marks", marks)

    @property
    def is_lazy(self) -> bool:
        """Whether members that the timeline needs are wanted."""
        return any(part.lazy for part in self.parts)

    @property
    def wants_all_members(self) -> bool:
        """Whether members are wanted that nobody has named."""
        return self.wants((MEMBER, "@"))

    def wants(self, key: StateKey) -> bool:
        """Whether the entry is wanted whoever is needed."""
        return any(part.wants(key) for part in self.parts)

    def choose(
        self, state: Mapping[StateKey, int], known: Iterable[bytes] = ()
    ) -> dict[StateKey, int]:
        """The entries of a state that are wanted, but not by `known` parts."""
        before = frozenset(known)
        chosen: dict[StateKey, int] = {}
        for part in self.parts:
            if part.mark not in before:
                chosen.update(part.choose(state))
        kept = [part for part in self.parts if part.mark in before]
        if kept:
            return {
                key: nid
                for key, nid in chosen.items()
                if not any(part.wants(key) for part in kept)
            }
        return chosen


def parts_of(
    include: Iterable[Pattern], exclude: frozenset[Pattern], *, lazy: bool
) -> frozenset[Required]:
    """What one room config asks for, in parts as small as can be.

    So a config that asks for a little more than another shares most parts with it.
    """
    parts = {Required(lazy=True)} if lazy else set()
    for event_type, state_key in include:
        pattern = frozenset(((event_type, state_key),))
        if event_type is None or state_key is None:
            parts.add(Required(pattern, exclude, lazy))
        elif not _matches(exclude, (event_type, state_key)):
            parts.add(Required(pattern))
    return frozenset(parts)


def combined(configs: Iterable[RoomConfig]) -> RoomConfig:
    """What all of them ask for."""
    limit = 0
    parts: frozenset[Required] = frozenset()
    for config in configs:
        limit = max(limit, config.timeline_limit)
        parts |= config.parts
    return RoomConfig(limit, parts)
