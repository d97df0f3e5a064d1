"""How much one user may ask for, and one process do at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from homeserver import errors
from homeserver.http.limits import Limit

uploads: Final = Limit("uploads", per_second=10, burst=100)
creations: Final = Limit("media_creations", per_second=5, burst=50)
downloads: Final = Limit("downloads", per_second=100, burst=1000)
thumbnails: Final = Limit("thumbnails", per_second=100, burst=1000)
previews: Final = Limit("previews", per_second=1, burst=30)
# What has to be fetched from elsewhere for somebody.
fetches: Final = Limit("media_fetches", per_second=10, burst=200)

# URIs that a user has created and not uploaded to.
MOST_PENDING: Final = 50
PENDING_SECONDS: Final = 24 * 3600.0


class Transfers:
    """How many files are on their way, in all and for each user, address or server.

    They last long, and must not take up all that the gate lets in.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._of: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def one(self, key: str) -> Iterator[None]:
        """Count one while the block lasts. Raises: M_LIMIT_EXCEEDED, 503."""
        self.enter(key)
        try:
            yield
        finally:
            self.leave(key)

    def enter(self, key: str) -> None:
        """Count one. Raises: M_LIMIT_EXCEEDED, 503."""
        if self._all >= self._most:
            raise errors.overloaded()
        if self._of[key] >= self._most_each:
            raise errors.limit_exceeded(1000)
        self._all += 1
        self._of[key] += 1

    def leave(self, key: str) -> None:
        """Count it no longer."""
        self._all -= 1
        self._of[key] -= 1
        if not self._of[key]:
            del self._of[key]
