"""Bounded things: a cache that forgets what was not used for longest, and turns."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

from homeserver import errors

Key = TypeVar("Key")
Value = TypeVar("Value")

_MOST_WAITING: Final = 200


class LruCache(Generic[Key, Value]):
    """A mapping that forgets what was not used for longest once it costs too much.

    `cost_of` gives a value's cost (entries count 1 each without it); the sum stays at
    or under `capacity`.
    """

    __slots__ = ("_cost_of", "_entries", "capacity", "cost", "hits", "misses")

    def __init__(
        self, capacity: int, cost_of: Callable[[Value], int] | None = None
    ) -> None:
        self.capacity = capacity
        self.cost = 0
        self.hits = 0
        self.misses = 0
        self._cost_of = cost_of
        self._entries: OrderedDict[Key, Value] = OrderedDict()

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

    def put(self, key: Key, value: Value) -> None:
        """Keep the value; whatever that makes too much is forgotten."""
        self.pop(key)
        self._entries[key] = value
        self.cost += self._cost_of(value) if self._cost_of else 1
        while self.cost > self.capacity and len(self._entries) > 1:
            _, old = self._entries.popitem(last=False)
            self.cost -= self._cost_of(old) if self._cost_of else 1

    def pop(self, key: Key) -> Value | None:
        """Forget the value and give it back, if it is here."""
        value = self._entries.pop(key, None)
        if value is not None:
            self.cost -= self._cost_of(value) if self._cost_of else 1
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.cost = 0


class Turns:
    """Work that is done one at a time for each key; who comes later waits."""

    def __init__(self, most_waiting: int = _MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: dict[Hashable, int] = {}

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
