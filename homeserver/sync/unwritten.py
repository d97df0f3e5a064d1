"""Timelines that are written last, as what events come with is asked for all at once.

Only a timeline that begins anew or leaves a gap needs it: else the client has got, or
gets with it, all that happened, and counts by itself.

Spec: client-server-api#aggregations-of-child-events
"""

from collections.abc import Callable, Sequence

from homeserver.events.client_format import Sight
from homeserver.rooms.bundles import View, bundled_all
from homeserver.rooms.viewing import Reader
from homeserver.sync.request import Rendered, Sources


class Unwritten:
    """The timelines of some rooms, each with the list that takes its events."""

    def __init__(self) -> None:
        self._views: list[View] = []
        self._lists: list[list[Rendered]] = []

    def add(self, reader: Reader, sights: Sequence[Sight]) -> list[Rendered]:
        """A list that `write` will fill."""
        into: list[Rendered] = []
        if sights:
            self._views.append(View(reader, sights))
            self._lists.append(into)
        return into

    async def write(self, sources: Sources, write: Callable[[Sight], Rendered]) -> None:
        """Fill the lists, with at most one query for all of them."""
        views, lists = self._views, self._lists
        self._views, self._lists = [], []
        if not views:
            return
        for into, sights in zip(
            lists, await bundled_all(sources.db, sources.live, views), strict=True
        ):
            into.extend(map(write, sights))
