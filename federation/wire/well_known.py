"""`/.well-known/matrix/server`: whom a host name delegates to, and for how long.

Spec: server-server-api#resolving-server-names, step 3
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from federation import canonical_json, fields
from federation.errors import Malformed
from federation.ids import ServerName, parse_server_name
from federation.wire.caching import BoundedCache, Once, freshness
from federation.wire.transport import (
    Answer,
    Endpoint,
    NoAnswer,
    NoConnection,
    TooLong,
    Transport,
)

PATH: Final = "/.well-known/matrix/server"
# "The recommended sensible default is 24 hours. Servers should additionally impose a
# maximum cache time for responses: 48 hours is recommended."
DEFAULT_SECONDS: Final = 24 * 3600.0
MAX_SECONDS: Final = 48 * 3600.0
# An answer that must not be kept is kept so long, or each request would cost two.
MIN_SECONDS: Final = 60.0
# "Errors are recommended to be cached for up to an hour, and servers are encouraged to
# exponentially back off for repeated failures."
FIRST_ERROR_SECONDS: Final = 60.0
MAX_ERROR_SECONDS: Final = 3600.0
MAX_BYTES: Final = 51_200
MAX_REDIRECTS: Final = 5
TIMEOUT_SECONDS: Final = 15.0
MAX_HOSTS: Final = 10_000
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# The endpoints of an https:// host and port, vetted; empty when there are none.
Locate = Callable[[str, int | None], Awaitable[tuple[Endpoint, ...]]]


@dataclass(frozen=True, slots=True)
class _Found:
    delegated: ServerName
    seconds: float
    may_be_stale: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    """No valid answer; `passing` when the host could not be asked properly."""

    passing: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Delegation:
    """Whom a host delegates to, or None when it gives no valid answer.

    Holds until `expires_at`.
    """

    delegated: ServerName | None
    expires_at: float
    # Until when a delegation may be used although it cannot be fetched again.
    stale_until: float
    failures: int


class WellKnown:
    """The delegations that we know of.

    A delegation that has run out and cannot be fetched anew, since its web server is
    down, holds on until the longest time that an answer may be kept.
    """

    def __init__(
        self,
        transport: Transport,
        locate: Locate,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._locate = locate
        self._clock = clock
        self._chance = chance
        self._entries: BoundedCache[str, Delegation] = BoundedCache(MAX_HOSTS)
        self._fetching: Once[str, Delegation] = Once()

    @property
    def count(self) -> int:
        """How many answers are remembered."""
        return len(self._entries)

    def close(self) -> None:
        """Give up what is being fetched."""
        self._fetching.cancel()

    async def delegation_of(self, host: str) -> Delegation:
        """Whom the host delegates to."""
        entry = self._entries.get(host)
        if entry is None or entry.expires_at <= self._clock():
            entry = await self._fetching.do(host, lambda: self._refresh(host))
        return entry

    async def _refresh(self, host: str) -> Delegation:
        before = self._entries.get(host)
        outcome = await self._fetch(host)
        entry = (
            self._found(outcome)
            if isinstance(outcome, _Found)
            else self._failed(outcome, before)
        )
        self._entries.put(host, entry)
        return entry

    def _found(self, outcome: _Found) -> Delegation:
        now = self._clock()
        seconds = min(max(outcome.seconds, MIN_SECONDS), MAX_SECONDS)
        longest = MAX_SECONDS if outcome.may_be_stale else seconds
        return Delegation(outcome.delegated, now + seconds, now + longest, failures=0)

    def _failed(self, outcome: _Failed, before: Delegation | None) -> Delegation:
        now = self._clock()
        failures = 1 if before is None else before.failures + 1
        seconds = min(
            FIRST_ERROR_SECONDS * 2.0 ** min(failures - 1, 30), MAX_ERROR_SECONDS
        )
        # Up to a tenth less, so that many hosts of one broken web server spread out.
        seconds *= 1 - 0.1 * self._chance()
        if outcome.seconds is not None:
            seconds = min(max(outcome.seconds, seconds), MAX_ERROR_SECONDS)
        if before is not None and outcome.passing and now < before.stale_until:
            return Delegation(
                before.delegated,
                min(now + seconds, before.stale_until),
                before.stale_until,
                failures,
            )
        return Delegation(None, now + seconds, now, failures)

    async def _fetch(self, host: str) -> _Found | _Failed:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._follow(host)
        except (TimeoutError, NoConnection, NoAnswer):
            return _Failed(passing=True)
        except (TooLong, Malformed):
            return _Failed(passing=False)
        seconds = freshness(answer.headers, self._clock())
        if answer.status != 200:
            return _Failed(passing=answer.status >= 500, seconds=seconds)
        try:
            # "servers parsing the response should assume that the body is JSON
            # regardless of type"
            body = canonical_json.parse_object(answer.body)
            delegated = parse_server_name(fields.text(body, "m.server"))
        except Malformed:
            return _Failed(passing=False, seconds=seconds)
        return _Found(
            delegated,
            DEFAULT_SECONDS if seconds is None else seconds,
            may_be_stale=seconds != 0,
        )

    async def _follow(self, host: str) -> Answer:
        """The answer at the end of all redirects.

        "30x redirects should be followed, however redirection loops should be
        avoided." Each hop is located anew, so none leads where requests must not go.
        """
        url = URL(f"https://{host}{PATH}")
        visited: set[URL] = set()
        while True:
            visited.add(url)
            answer = await self._get(url)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            url = _next_url(url, location)
            if url in visited:
                raise Malformed("the redirects go round in circles")
            if len(visited) > MAX_REDIRECTS:
                raise Malformed("too many redirects")

    async def _get(self, url: URL) -> Answer:
        port = url.explicit_port
        reason: NoConnection | None = None
        for endpoint in await self._locate(url.raw_host or "", port):
            try:
                return await self._transport.send(
                    endpoint,
                    "GET",
                    url.raw_path_qs,
                    headers={"Accept": "application/json"},
                    body=None,
                    max_bytes=MAX_BYTES,
                )
            except NoConnection as error:
                reason = error
        raise reason or NoConnection("no address")


def _next_url(url: URL, location: str) -> URL:
    """Where a redirect leads. Raises: Malformed."""
    try:
        target = url.join(URL(location)).with_fragment(None)
    except ValueError as error:
        raise Malformed(f"the redirect leads nowhere: {error}") from None
    if target.scheme != "https" or not target.raw_host or target.user is not None:
        raise Malformed("the redirect does not lead to an https URL")
    return target
