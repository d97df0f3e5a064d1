"""Bounded things: a cache that forgets what was not used for longest, and turns.

Whatever a process holds for long has a name and a limit in bytes here, so that the
metrics can show it, and caches can be made to give back when memory runs short.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar
from weakref import WeakSet, ref

from homeserver import errors

Key = TypeVar("Key")
Value = TypeVar("Value")
Owner = TypeVar("Owner")

KIB: Final = 1024
MIB: Final = 1024 * 1024

# Bytes, measured: an entry of the ordered dict with a number or a short text for a key,
# and what it takes to note an entry's cost.
_ENTRY: Final = 160
_NOTED: Final = 56
# A cache that is made to give back keeps this part of its limit.
_LEAST_KEPT: Final = 16
_MOST_WAITING: Final = 200
_TURN: Final = 1000  # bytes of one who waits for a turn
_MOST_TURNS: Final = 50_000  # requests are bounded, and who else takes one


# ── What this process holds ──────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Held:
    """One kind of thing in memory. Bytes are estimates; the limit is for that sum."""

    name: str
    bytes: int
    limit: int
    hits: int | None = None  # None: it is no cache
    misses: int | None = None

    def plus(self, other: "Held") -> "Held":
        """Both, under one name: a process may have several of a kind."""
        return Held(
            self.name,
            self.bytes + other.bytes,
            self.limit + other.limit,
            _sum(self.hits, other.hits),
            _sum(self.misses, other.misses),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


class Memory:
    """All caches and queues of a process. It keeps none of them alive."""

    def __init__(self) -> None:
        self._caches: WeakSet[LruCache[object, object]] = WeakSet()
        self._queues: list[Callable[[], Held | None]] = []

    def add_cache(self, cache: "LruCache[Key, Value]") -> None:
        """Show a cache, and let it give back when memory runs short."""
        self._caches.add(cache)  # type: ignore[arg-type] # of whatever kind

    def add_queue(
        self, name: str, owner: Owner, size: Callable[[Owner], int], limit: int
    ) -> None:
        """Show something else that is bounded, for as long as its owner is there.

        `size` gives its bytes, `limit` the most that its bound lets it have.
        """
        known = ref(owner)

        def show() -> Held | None:
            there = known()
            return None if there is None else Held(name, size(there), limit)

        self._queues.append(show)

    def held(self) -> list[Held]:
        """What there is, by name."""
        found: dict[str, Held] = {}
        for one in self._all():
            found[one.name] = found[one.name].plus(one) if one.name in found else one
        return [found[name] for name in sorted(found)]

    def _all(self) -> Iterator[Held]:
        for cache in list(self._caches):
            yield Held(cache.name, cache.cost, cache.limit, cache.hits, cache.misses)
        gone = []
        for show in self._queues:
            one = show()
            if one is None:
                gone.append(show)
            else:
                yield one
        for show in gone:
            self._queues.remove(show)

    def give_back(self, wanted: int) -> int:
        """Have caches forget until so many bytes are free; how many are.

        First the cheap ones, the largest before the others: by half, and then to a
        little; after that the dear ones.
        """
        freed = 0
        caches = sorted(self._caches, key=lambda cache: -cache.cost)
        for worth in (Worth.CHEAP, Worth.DEAR):
            asked = [cache for cache in caches if cache.worth is worth]
            for cache in asked:
                freed += cache.give_back(cache.cost // 2, wanted - freed)
            for cache in asked:
                freed += cache.give_back(0, wanted - freed)
            if freed >= wanted:
                break
        return freed


MEMORY: Final = Memory()


# ── Caches ───────────────────────────────────────────────────────────────────────────


class Worth(IntEnum):
    """How much a cache's entries are worth when memory runs short."""

    CHEAP = 0  # one query brings them back, or a little work
    DEAR = 1  # every request rests on them
    NEEDED = 2  # it would be wrong to forget them before their time


class LruCache(Generic[Key, Value]):
    """A mapping that forgets what was not used for longest once it costs too much.

    `cost` is what an entry's key and value take in bytes, or gives that for a value.
    The sum stays at or under `limit`, but for one entry that is larger by itself.
    `dropped` is told of each entry that had to go.
    """

    __slots__ = (
        "__weakref__",
        "_cost_of",
        "_costs",
        "_dropped",
        "_each",
        "_entries",
        "cost",
        "hits",
        "limit",
        "misses",
        "name",
        "worth",
    )

    def __init__(
        self,
        name: str,
        limit: int,
        cost: int | Callable[[Value], int],
        worth: Worth = Worth.CHEAP,
        *,
        dropped: Callable[[Key, Value], None] | None = None,
    ) -> None:
        self.name = name
        self.limit = limit
        self.worth = worth
        self.cost = 0
        self.hits = 0
        self.misses = 0
        self._each = _ENTRY + cost if isinstance(cost, int) else 0
        self._cost_of = None if isinstance(cost, int) else cost
        # What each entry was taken to cost: values may grow.
        self._costs: dict[Key, int] = {}
        self._dropped = dropped
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        MEMORY.add_cache(self)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def get(self, key: Key) -> Value | None:
        """The value, which now counts as just used; None when it is not here."""
        value = self._entries.get(key)
        if value is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return value

    def peek(self, key: Key) -> Value | None:
        """The value, without any trace of the look."""
        return self._entries.get(key)

    def put(self, key: Key, value: Value, more: int = 0) -> None:
        """Keep the value; whatever that makes too much is forgotten.

        `more`: bytes of this one beyond what each costs.
        """
        self.pop(key)
        self._entries[key] = value
        self.cost += self._note(key, value, more)
        self._shrink(self.limit)

    def weigh(self, key: Key) -> None:
        """Look again what the value costs: it has grown."""
        value = self._entries.get(key)
        if value is not None and self._cost_of is not None:
            self.cost -= self._costs[key]
            self.cost += self._note(key, value, 0)
            self._shrink(self.limit)

    def pop(self, key: Key) -> Value | None:
        """Forget the value and give it back, if it is here."""
        value = self._entries.pop(key, None)
        if value is not None:
            self.cost -= self._costs.pop(key, self._each)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._costs.clear()
        self.cost = 0

    def give_back(self, keep: int, wanted: int) -> int:
        """Forget until so much is freed, or as much is left; how much is freed.

        A small part of the limit is kept always: what is in use now.
        """
        before = self.cost
        self._shrink(max(keep, self.limit // _LEAST_KEPT, before - max(wanted, 0)))
        return before - self.cost

    def _note(self, key: Key, value: Value, more: int) -> int:
        if self._cost_of is None and not more:
            return self._each
        own = self._cost_of(value) + _ENTRY if self._cost_of else self._each
        cost = self._costs[key] = own + more + _NOTED
        return cost

    def _shrink(self, to: int) -> None:
        while self.cost > to and len(self._entries) > 1:
            key, value = self._entries.popitem(last=False)
            self.cost -= self._costs.pop(key, self._each)
            if self._dropped is not None:
                self._dropped(key, value)


def size_of_texts(texts: Iterable[str]) -> int:
    """What short texts take in memory, roughly."""
    return sum(len(text) + 60 for text in texts)


# ── Turns ────────────────────────────────────────────────────────────────────────────


class Turns:
    """Work that is done one at a time for each key; who comes later waits."""

    def __init__(self, most_waiting: int = _MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: dict[Hashable, int] = {}
        MEMORY.add_queue("turns", self, Turns.waiting_bytes, _MOST_TURNS * _TURN)

    def waiting_bytes(self) -> int:
        """What takers and those who wait take, roughly."""
        return _TURN * sum(self._users.values())

    def is_taken(self, key: Hashable) -> bool:
        """Whether somebody works, or waits to work, under this key."""
        return key in self._users

    @contextlib.asynccontextmanager
    async def take(self, key: Hashable) -> AsyncIterator[None]:
        """Be the only one under this key for as long as the block lasts.

        Raises: 503 when too many wait already.
        """
        users = self._users.get(key, 0)
        if users > self._most_waiting:
            raise errors.overloaded()
        self._users[key] = users + 1
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
