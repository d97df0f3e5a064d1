"""Small caches, and how long HTTP says that an answer may be kept (RFC 9111)."""

import email.utils
import re
from asyncio import Task, create_task, shield
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MAX_AGE: Final = re.compile(r'max-age\s*=\s*"?([0-9]{1,12})"?')


class BoundedCache(Generic[K, V]):
    """A mapping that forgets what was used longest ago when it is full."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget a value, if there is one."""
        self._entries.pop(key, None)


class Once(Generic[K, V]):
    """Work that many want at the same time and that is done once for all.

    Who stops waiting does not stop the work. The work must end by itself, and its
    errors must be values, since there may be nobody left to raise them to.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, Task[V]] = {}

    async def do(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The work's result, started now or by someone before."""
        task = self._tasks.get(key)
        if task is None:
            task = create_task(self._run(key, work))
            self._tasks[key] = task
        return await shield(task)

    async def _run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        try:
            return await work()
        finally:
            del self._tasks[key]

    def cancel(self) -> None:
        """Stop all work under way."""
        for task in self._tasks.values():
            task.cancel()


def freshness(headers: Mapping[str, str], now: float) -> float | None:
    """For how many seconds a response is fresh, or None when it does not say.

    `Cache-Control` goes before `Expires`; a date that cannot be read is past.

    Spec: server-server-api#resolving-server-names; RFC 9111, 4.2
    """
    directives = [
        directive.strip().lower()
        for directive in headers.get("Cache-Control", "").split(",")
    ]
    if any(each.partition("=")[0] in ("no-store", "no-cache") for each in directives):
        return 0
    for directive in directives:
        match = _MAX_AGE.fullmatch(directive)
        if match is not None:
            return max(0.0, float(match[1]) - _age(headers))
    if "Expires" in headers:
        expires = _date(headers["Expires"])
        since = _date(headers.get("Date", "")) or now
        return 0 if expires is None else max(0.0, expires - since)
    return None


def _age(headers: Mapping[str, str]) -> float:
    age = headers.get("Age", "")
    return float(age) if age.isascii() and age.isdigit() and len(age) <= 12 else 0


def _date(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds `Retry-After` asks to wait, if at all (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    date = _date(value)
    return None if date is None else max(0.0, date - now)
