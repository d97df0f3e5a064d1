"""The endpoint that searches."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import orjson

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from homeserver import errors
from homeserver.context import Context
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter, parse_room_event_filter
from homeserver.http.auth import by_access_token
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.rooms.bundles import bundled
from homeserver.rooms.client_api import Shown, spliced
from homeserver.rooms.viewing import state_sights
from homeserver.search.around import read_around
from homeserver.search.find import Found, Result, Search
from homeserver.search.indexer import wait_for_index
from homeserver.search.request import (
    DEFAULT_LIMIT,
    MAX_CONTEXT,
    MAX_LIMIT,
    Body,
    EventContext,
    GroupKey,
    RoomEvents,
    Token,
    parse_token,
)
from homeserver.search.words import Query, parse_query

_searches: Final = Limit("searches", per_second=2, burst=30)
_MAX_HIGHLIGHTS: Final = 100
_INDEX_SECONDS: Final = 2.0
_MEMBER: Final = "m.room.member"

Json = dict[str, object]


@route("POST", "/_matrix/client/v3/search", auth=by_access_token, limit=_searches)
async def search(ctx: Context, request: ClientRequest) -> Answer:
    """Find what was said. Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3search
    """
    asked = request.body(Body).search_categories.room_events
    text = request.query_str("next_batch")
    token = None if text is None else parse_token(text)
    if asked is None:
        return {"search_categories": {}}
    query = parse_query(asked.search_term)
    wanted = _filter(asked)
    limit = DEFAULT_LIMIT if wanted.limit is None else wanted.limit
    found = Found((), None)
    finder = Search(ctx, request.user_id, asked, query, wanted)
    if not query.is_empty:
        await wait_for_index(ctx.db, _INDEX_SECONDS)
        await finder.begin()
        found = await finder.page(token, max(1, min(limit, MAX_LIMIT)))
    answer = await _Answer(ctx, request, asked, query).of(finder, found, token)
    return spliced({"search_categories": {"room_events": answer}})


def _filter(asked: RoomEvents) -> RoomEventFilter:
    given: JsonObject = orjson.loads(orjson.dumps(asked.filter))
    try:
        canonical_json.check(given, strict=False)
        return parse_room_event_filter(given)
    except Malformed as error:
        raise errors.bad_json(f"filter: {error}.") from None


class _Answer:
    """Writes what was found."""

    def __init__(
        self, ctx: Context, request: ClientRequest, asked: RoomEvents, query: Query
    ) -> None:
        self._ctx = ctx
        self._asked = asked
        self._query = query
        self._shown = Shown(ctx, request)

    async def of(self, finder: Search, found: Found, token: Token | None) -> Json:
        """The category's section."""
        results = await self._bundled(found.results)
        answer: Json = {
            "count": found.count,
            "highlights": self._query.highlights(
                (result.text for result in results), _MAX_HIGHLIGHTS
            ),
            "results": [await self._result(result) for result in results],
        }
        if found.end is not None:
            group = None if token is None else token.group
            answer["next_batch"] = str(Token(found.end, group))
        keys = [each.key for each in self._asked.groupings.group_by]
        if keys:
            answer["groups"] = {
                key: await self._groups(finder, key, found)
                for key in dict.fromkeys(keys)
                if key is not None
            }
        if self._asked.include_state:
            answer["state"] = await self._states(results)
        return answer

    async def _bundled(self, results: Sequence[Result]) -> list[Result]:
        """The results with their edits, threads and references."""
        ctx = self._ctx
        rooms: dict[int, list[Result]] = {}
        for result in results:
            rooms.setdefault(result.match.room_nid, []).append(result)
        sights: dict[int, Sight] = {}
        for of_room in rooms.values():
            reader = of_room[0].access.reader
            plain = [result.sight for result in of_room]
            for sight in await bundled(ctx.db, ctx.live, reader, plain):
                sights[sight.event.nid] = sight
        return [replace(each, sight=sights[each.match.event_nid]) for each in results]

    async def _result(self, result: Result) -> Json:
        written: Json = {
            "rank": result.match.rank,
            "result": self._shown.one(result.sight),
        }
        if self._asked.event_context is not None:
            written["context"] = await self._context(result, self._asked.event_context)
        return written

    async def _context(self, result: Result, wanted: EventContext) -> Json:
        ctx = self._ctx
        around = await read_around(
            ctx.db,
            ctx.live,
            result.access,
            result.sight.event,
            max(0, min(wanted.before_limit, MAX_CONTEXT)),
            max(0, min(wanted.after_limit, MAX_CONTEXT)),
        )
        reader = result.access.reader
        plain = [*around.events_before, *around.events_after]
        shown = self._shown.all(await bundled(ctx.db, ctx.live, reader, plain))
        context: Json = {
            "start": str(around.start),
            "end": str(around.end),
            "events_before": shown[: len(around.events_before)],
            "events_after": shown[len(around.events_before) :],
        }
        if wanted.include_profile:
            sights = [*around.events_before, result.sight, *around.events_after]
            context["profile_info"] = await self._profiles(result, sights)
        return context

    async def _profiles(self, result: Result, sights: Iterable[Sight]) -> Json:
        """Name and avatar of those who speak there, as they were then."""
        keys = {(_MEMBER, sight.event.pdu.sender) for sight in sights}
        root = result.sight.event.state_before or 0
        nids = await self._ctx.live.states.get(root, keys)
        events = await self._ctx.live.events.by_nids(nids.values())
        profiles: Json = {}
        for (_, user_id), nid in nids.items():
            content = events[nid].shown.content
            profiles[user_id] = {
                name: content[name]
                for name in ("displayname", "avatar_url")
                if isinstance(content.get(name), str)
            }
        return profiles

    async def _groups(self, finder: Search, key: GroupKey, found: Found) -> Json:
        members: dict[str, list[str]] = {}
        for result in found.results:
            event_id = result.sight.event.event_id
            members.setdefault(result.group(key), []).append(event_id)
        more: set[str] = set()
        if found.end is not None:
            more = await finder.groups_with_more(key, list(members), found.end)
        groups: Json = {}
        for order, (group, event_ids) in enumerate(members.items(), 1):
            written: Json = {"order": order, "results": event_ids}
            if group in more and found.end is not None:
                written["next_batch"] = str(Token(found.end, (key, group)))
            groups[group] = written
        return groups

    async def _states(self, results: Sequence[Result]) -> Json:
        """The present state of each room, or the last that the user may see."""
        states: Json = {}
        for may in {
            result.access.room.nid: result.access for result in results
        }.values():
            state = await may.state(self._ctx.live)
            sights = await state_sights(self._ctx.live, state.values())
            states[may.room.room_id] = self._shown.all(sights)
        return states
