"""Rate limits: one bucket for each limit and each user, address or server.

A bucket is one number, the time at which it will be full again (the "generic cell rate
algorithm"): a request moves it on by one period, and is refused when that would put it
further than the burst into the future. A bucket that is full holds no information, so
it may be forgotten, and a table never keeps more than its bound.

Spec: client-server-api#rate-limiting
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from homeserver import errors
from homeserver.bounded import MEMORY

MAX_BUCKETS: Final = 50_000
_BUCKET: Final = 220  # bytes, roughly
_MOST_TABLES: Final = 30


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` requests at once, and after that `per_second`."""

    name: str
    per_second: float
    burst: int


# Whoever writes an endpoint chooses one of these, or makes one beside it.
writes: Final = Limit("writes", per_second=20, burst=200)
joins: Final = Limit("joins", per_second=1, burst=30)
invites: Final = Limit("invites", per_second=1, burst=50)
room_creations: Final = Limit("room_creations", per_second=0.2, burst=20)
# By address; a wrong password also counts against the account.
logins: Final = Limit("logins", per_second=0.2, burst=20)
failed_logins: Final = Limit("failed_logins", per_second=0.1, burst=10)
# The same from an address at which the account has been used before.
failed_logins_at_home: Final = Limit("failed_logins_at_home", 0.1, 10)
registrations: Final = Limit("registrations", per_second=0.05, burst=10)
# What costs a look at the database or at another server, asked by anybody.
lookups: Final = Limit("lookups", per_second=50, burst=500)
# Spec: POST /login/get_token, "for example at most one a minute".
login_tokens: Final = Limit("login_tokens", per_second=1 / 60, burst=3)
# By origin.
federation: Final = Limit("federation", per_second=100, burst=1000)


class Limits:
    """The buckets of one process."""

    __slots__ = (
        "__weakref__",
        "_buckets",
        "_enabled",
        "_max_buckets",
        "_now",
        "refused",
    )

    def __init__(
        self,
        now: Callable[[], float],
        *,
        enabled: bool = True,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self._now = now
        self._enabled = enabled
        self._max_buckets = max_buckets
        # By limit name: key → the time at which its bucket is full again. A dict keeps
        # the order of insertion, so what was used longest ago stands first.
        self._buckets: dict[str, dict[str, float]] = {}
        self.refused = 0
        MEMORY.add_queue(
            "rate limits", self, Limits.bytes, _MOST_TABLES * max_buckets * _BUCKET
        )

    def bytes(self) -> int:
        """What the buckets take, roughly."""
        return _BUCKET * sum(map(len, self._buckets.values()))

    def spend(self, limit: Limit, key: str, cost: float = 1) -> None:
        """Take one request from the bucket. Raises: M_LIMIT_EXCEEDED."""
        wait = self._take(limit, key, cost)
        if wait > 0:
            self.refused += 1
            raise errors.limit_exceeded(int(wait * 1000) + 1)

    def check(self, limit: Limit, key: str) -> None:
        """Refuse if the bucket is empty, and take nothing. Raises: M_LIMIT_EXCEEDED."""
        if not self._enabled:
            return
        full_at = self._buckets.get(limit.name, {}).get(key, 0.0)
        wait = full_at - self._now() - (limit.burst - 1) / limit.per_second
        if wait > 0:
            self.refused += 1
            raise errors.limit_exceeded(int(wait * 1000) + 1)

    def _take(self, limit: Limit, key: str, cost: float) -> float:
        """Seconds to wait, and 0 when the request may pass (and has been counted)."""
        if not self._enabled:
            return 0
        table = self._buckets.get(limit.name)
        if table is None:
            table = self._buckets[limit.name] = {}
        now = self._now()
        full_at = max(table.get(key, 0.0), now) + cost / limit.per_second
        wait = full_at - now - limit.burst / limit.per_second
        # A cost above the burst would never pass: it passes when the bucket is full.
        if wait > 1e-9 and full_at - cost / limit.per_second > now:
            return wait
        table.pop(key, None)
        table[key] = full_at
        if len(table) > self._max_buckets:
            self._forget(table, now)
        return 0

    def _forget(self, table: dict[str, float], now: float) -> None:
        """Forget full buckets; if that is not enough, those used longest ago."""
        for key in [key for key, full_at in table.items() if full_at <= now]:
            del table[key]
        # An eighth at once, so that this walk is rare under attack.
        surplus = len(table) - self._max_buckets * 7 // 8
        for key in list(table)[: max(0, surplus)]:
            del table[key]


def address_key(address: str) -> str:
    """What stands for an address: an IPv6 subscriber owns a whole /64."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
