"""Finding: matches in their order, of those rooms and events that the user may see."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from federation.ids import RoomId, UserId
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.errors import MatrixError
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter
from homeserver.events.stored import StoredEvent
from homeserver.rooms.access import Access, access
from homeserver.rooms.kept import kept_sights
from homeserver.rooms.viewing import visible
from homeserver.search import store
from homeserver.search.indexer import text_of
from homeserver.search.request import GroupKey, RoomEvents, Token
from homeserver.search.store import KEYS, Match, Place, Wanted
from homeserver.search.words import Query

# Of what matches, so many are looked at for one page before it is given as it is.
_MOST_BATCHES: Final = 10
_LARGEST_BATCH: Final = 200
_PENDING: Final = frozenset(("invite", "knock"))


@dataclass(frozen=True, slots=True)
class Result:
    """One match that the user may see, with what they may see of its room."""

    match: Match
    sight: Sight
    access: Access

    @property
    def text(self) -> str:
        """What was searched in."""
        shown = self.sight.event.shown
        return text_of(shown.type, shown.content)

    def group(self, key: GroupKey) -> str:
        """The group that it is in."""
        room_id = str(self.access.room.room_id)
        return room_id if key == "room_id" else self.match.sender


@dataclass(frozen=True, slots=True)
class Found:
    """A page. `end` is where the next one begins; None: there is none.

    `count` is how many match in all, about.
    """

    results: Sequence[Result]
    end: Place | None
    count: int = 0


class Search:
    """One search of one user."""

    def __init__(
        self,
        ctx: Context,
        user_id: UserId,
        asked: RoomEvents,
        query: Query,
        wanted: RoomEventFilter,
    ) -> None:
        self._ctx = ctx
        self._user_id = user_id
        self._filter = wanted
        self._query = query
        self._by_rank = asked.order_by == "rank"
        names = asked.keys if asked.keys is not None else [n for n, _ in KEYS.values()]
        self._keys = [number for name, number in KEYS.values() if name in names]
        self._access: dict[int, Access | None] = {}
        self.wanted: Wanted

    async def begin(self) -> None:
        """Find the rooms to search in: those that the user is or was in."""
        user = await self._ctx.live.user(self._user_id)
        nids = [
            nid
            for nid, member in user.rooms.items()
            if member.membership not in _PENDING and not member.forgotten
        ]
        if self._filter.rooms is not None or self._filter.not_rooms:
            room_ids = await self._ids(nids)
            nids = [n for n, id_ in room_ids.items() if self._filter.keeps_room(id_)]
        self.wanted = Wanted(
            self._query.tsquery(),
            self._query.exact(),
            nids,
            self._keys,
            self._filter.senders,
            self._filter.not_senders,
        )

    async def page(self, token: Token | None, limit: int) -> Found:
        """The next results, after a token or from the start."""
        wanted = self.wanted
        if token is not None and token.group is not None:
            wanted = await self._of_group(*token.group)
        place = None if token is None else token.place
        results: list[Result] = []
        count = 0
        # One more than is wanted tells whether there is more.
        size = limit + 1
        for _ in range(_MOST_BATCHES):
            matches, count = await self._matches(wanted, place, size)
            seen = await self._seen(matches)
            for match in matches:
                if len(results) == limit:
                    return Found(results, place, count)
                place = match.place
                if match.event_nid in seen:
                    results.append(seen[match.event_nid])
            if len(matches) < size:
                return Found(results, None, count)
            size = min(2 * size, _LARGEST_BATCH)
        return Found(results, place, count)

    async def _matches(
        self, wanted: Wanted, after: Place | None, limit: int
    ) -> tuple[list[Match], int]:
        """The next matches, and how many there are in all, about."""

        async def find(tx: Tx) -> tuple[list[Match], int]:
            await store.plan_for_words(tx)
            found = await store.few(tx, wanted, after, limit, by_rank=self._by_rank)
            if found[1] < store.MOST:
                return found
            read = store.best if self._by_rank else store.newest
            return await read(tx, wanted, after, limit), store.MOST

        return await self._ctx.db.read_old(find)

    async def groups_with_more(
        self, key: GroupKey, groups: Sequence[str], place: Place
    ) -> set[str]:
        """Those of the groups that have more matches after a place."""
        more = set()
        for group in groups:
            wanted = await self._of_group(key, group)
            matches, _ = await self._matches(wanted, place, 1)
            if matches:
                more.add(group)
        return more

    async def _of_group(self, key: GroupKey, group: str) -> Wanted:
        if key == "sender":
            senders = self.wanted.senders
            is_in = senders is None or group in senders
            return replace(self.wanted, senders=[group] if is_in else [])
        room_ids = await self._ids(self.wanted.room_nids)
        nids = [nid for nid, room_id in room_ids.items() if room_id == group]
        return replace(self.wanted, room_nids=nids)

    async def _ids(self, nids: Sequence[int]) -> dict[int, RoomId]:
        async with self._ctx.db.read() as tx:
            return await store.room_ids(tx, nids)

    async def _seen(self, matches: Sequence[Match]) -> dict[int, Result]:
        """Those matches that the user may see and the filter keeps, by event."""
        by_room: dict[int, list[Match]] = {}
        for match in matches:
            by_room.setdefault(match.room_nid, []).append(match)
        events = await self._ctx.live.events.by_nids(m.event_nid for m in matches)
        seen: dict[int, Result] = {}
        for nid, of_room in by_room.items():
            may = await self._may(nid)
            if may is None:
                continue
            there = [events[m.event_nid] for m in of_room if m.event_nid in events]
            kept = [e for e in there if e.redaction is None and _is_before_end(e, may)]
            sights = await visible(self._ctx.live, may.reader, kept)
            sights = await kept_sights(self._ctx.db, self._filter, sights)
            by_nid = {sight.event.nid: sight for sight in sights}
            for match in of_room:
                sight = by_nid.get(match.event_nid)
                if sight is None:
                    continue
                result = Result(match, sight, may)
                if self._query.is_in(result.text):
                    seen[match.event_nid] = result
        return seen

    async def _may(self, nid: int) -> Access | None:
        if nid not in self._access:
            self._access[nid] = None
            room = (await self._ctx.live.rooms((nid,))).get(nid)
            if room is not None:
                with contextlib.suppress(MatrixError):
                    self._access[nid] = await access(
                        self._ctx.live, room.room_id, self._user_id
                    )
        return self._access[nid]


def _is_before_end(event: StoredEvent, may: Access) -> bool:
    """Whether it is not from after the user left."""
    return may.upto is None or (event.position or 0) <= may.upto
