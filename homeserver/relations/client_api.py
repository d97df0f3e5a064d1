"""The endpoints that list an event's children, and the threads of a room."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from federation.ids import EventId, RoomId
from homeserver import errors
from homeserver.context import Context
from homeserver.events.client_format import Sight
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.relations import store
from homeserver.relations.store import MAX_DEPTH, Children, Threads, Window
from homeserver.rooms import history
from homeserver.rooms.access import Access, access
from homeserver.rooms.bundles import bundled
from homeserver.rooms.client_api import Shown, spliced
from homeserver.rooms.history import ALL, MAX_LIMIT, Range
from homeserver.rooms.history_api import point_of
from homeserver.rooms.timeline import Point, bound
from homeserver.rooms.viewing import visible

RELATIONS: Final = "rooms/{roomId}/relations/{eventId}"
_V1: Final = "/_matrix/client/v1/"
# COMPAT(clients from before v1.3)
_UNSTABLE: Final = "/_matrix/client/unstable/"
_RECURSE: Final = "org.matrix.msc3981.recurse"
_DEFAULT_LIMIT: Final = 20
_MOST_THREADS: Final = 100
# How often more is read for one page, when the reader may not see most of it.
_MAX_PAGES: Final = 8
_END: Final = (2**62, 2**62)


@route(
    "GET",
    _V1 + RELATIONS,
    auth=by_access_token,
    aliases=(_UNSTABLE + RELATIONS,),
)
async def get_relating_events(ctx: Context, request: ClientRequest) -> Answer:
    """The children of an event. Raises: M_NOT_FOUND, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv1roomsroomidrelationseventid
    """
    return await _relations(ctx, request)


@route(
    "GET",
    f"{_V1}{RELATIONS}/{{relType}}",
    auth=by_access_token,
    aliases=(f"{_UNSTABLE}{RELATIONS}/{{relType}}",),
)
async def get_relating_events_with_rel_type(
    ctx: Context, request: ClientRequest
) -> Answer:
    """Those of one kind. Raises: M_NOT_FOUND, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv1roomsroomidrelationseventidreltype
    """
    return await _relations(ctx, request, request.path(str, "relType"))


@route(
    "GET",
    f"{_V1}{RELATIONS}/{{relType}}/{{eventType}}",
    auth=by_access_token,
    aliases=(f"{_UNSTABLE}{RELATIONS}/{{relType}}/{{eventType}}",),
)
async def get_relating_events_with_rel_type_and_event_type(
    ctx: Context, request: ClientRequest
) -> Answer:
    """Those of one kind and type. Raises: M_NOT_FOUND, M_INVALID_PARAM.

    Spec: client-server-api#relationships-api
    """
    rel_type, event_type = request.path(str, "relType"), request.path(str, "eventType")
    return await _relations(ctx, request, rel_type, event_type)


async def _relations(
    ctx: Context,
    request: ClientRequest,
    rel_type: str | None = None,
    event_type: str | None = None,
) -> Answer:
    parent = request.path(EventId, "eventId")
    choice = request.query_choice("dir", "b", "f") or request.query_choice(
        "org.matrix.msc3715.dir", "b", "f"
    )
    backwards = choice != "f"
    limit = _limit(request, MAX_LIMIT)
    is_deep = request.query_bool("recurse") or request.query_bool(_RECURSE)
    given, stop = point_of(request, "from"), point_of(request, "to")
    may = await readable(ctx, request.path(RoomId, "roomId"), request, parent)
    ends = history.newest_point if backwards else history.oldest_point
    start = history.bounded(given or ends(ctx.live, may), may)
    wanted = Children(may.room.nid, parent, rel_type, event_type, is_deep)
    page = await _read_children(ctx, may, wanted, Range(start, backwards, stop), limit)
    sights = await bundled(ctx.db, ctx.live, may.reader, page.sights)
    answer: dict[str, object] = {"chunk": Shown(ctx, request).all(sights)}
    if page.end is not None:
        answer["next_batch"] = str(page.end)
    if given is not None:
        answer["prev_batch"] = str(given)
    if is_deep:
        answer["recursion_depth"] = MAX_DEPTH
        if request.query_str(_RECURSE) is not None:
            answer["org.matrix.msc3981.recursion_depth"] = MAX_DEPTH
    return spliced(answer)


def _limit(request: ClientRequest, most: int) -> int:
    return request.query_int("limit", _DEFAULT_LIMIT, minimum=1, at_most=most)


async def readable(
    ctx: Context, room_id: RoomId, request: ClientRequest, event_id: EventId
) -> Access:
    """The room of an event that the user may see. Raises: M_NOT_FOUND.

    What users say who are ignored is there all the same: others answer to it.
    """
    no_such_event = errors.not_found("There is no such event, or you may not see it.")
    try:
        may = await access(ctx.live, room_id, request.user_id)
    except errors.MatrixError:
        raise no_such_event from None
    event = await ctx.live.events.by_id(event_id)
    if event is None or event.room_nid != may.room.nid:
        raise no_such_event
    if not await visible(ctx.live, may.reader, (event,), with_ignored=True):
        raise no_such_event
    return may


async def _read_children(
    ctx: Context, may: Access, wanted: Children, where: Range, limit: int
) -> history.Page:
    """Up to `limit` children that the reader may see."""
    newest = history.newest_point(ctx.live, may)
    point, sights, is_end = where.start, list[Sight](), False
    for attempt in range(_MAX_PAGES):
        size = min((limit - len(sights) + 1) << attempt, MAX_LIMIT + 1)
        async with ctx.db.read() as tx:
            low, high = (where.stop, point) if where.backwards else (point, where.stop)
            window = Window(
                await bound(tx, may.room.nid, low),
                _END if high is None else await bound(tx, may.room.nid, high),
                point.position if where.backwards else newest.position,
            )
            places = await store.read_children(
                tx, wanted, window, size, backwards=where.backwards
            )
        found, last = await history.take(
            ctx.db, ctx.live, may, places, limit - len(sights), ALL
        )
        sights += found
        if last is not None:
            point = history.beyond(point if where.backwards else newest, last, where)
        is_end = len(places) < size and (last is None or last is places[-1])
        if is_end or len(sights) >= limit:
            break
    return history.Page(sights, None if is_end else point)


# ── Threads ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Roots:
    """Roots of threads, and the token after them when there may be more."""

    sights: Sequence[Sight]
    end: Point | None


@route(
    "GET",
    "/_matrix/client/v1/rooms/{roomId}/threads",
    auth=by_access_token,
    limit=lookups,
    since="1.4",
)
@route(
    "GET",
    "/_matrix/client/unstable/org.matrix.msc3856/rooms/{roomId}/threads",
    auth=by_access_token,
    limit=lookups,
    flag="org.matrix.msc3856",
)
async def get_thread_roots(ctx: Context, request: ClientRequest) -> Answer:
    """The threads of a room, last used first. Raises: M_FORBIDDEN, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv1roomsroomidthreads
    """
    room_id = request.path(RoomId, "roomId")
    include = request.query_choice("include", "all", "participated")
    limit = _limit(request, _MOST_THREADS)
    start = point_of(request, "from")
    may = await access(ctx.live, room_id, request.user_id)
    point = history.bounded(start or history.newest_point(ctx.live, may), may)
    of = request.user_id if include == "participated" else None
    wanted = Threads(may.room.nid, point.position, of)
    page = await _read_roots(ctx, may, wanted, point, limit)
    answer: dict[str, object] = {"chunk": Shown(ctx, request).all(page.sights)}
    if page.end is not None:
        answer["next_batch"] = str(page.end)
    return spliced(answer)


async def _read_roots(
    ctx: Context, may: Access, wanted: Threads, point: Point, limit: int
) -> _Roots:
    """Up to `limit` roots of threads of which the reader may see something."""
    shown: list[Sight] = []
    for attempt in range(_MAX_PAGES):
        high = _END if point.at is None else (point.depth or 0, point.at)
        size = min((limit - len(shown) + 1) << attempt, 2 * _MOST_THREADS)
        async with ctx.db.read() as tx:
            places = await store.read_threads(tx, wanted, high, size)
        roots = await _root_sights(ctx, may, [place.nid for place in places])
        for place in places:
            if len(shown) == limit:
                return _Roots(shown, point)
            if place.nid in roots:
                shown.append(roots[place.nid])
            point = history.before(point, place.depth, place.position)
        if len(places) < size:
            return _Roots(shown, None)
    return _Roots(shown, point)


async def _root_sights(
    ctx: Context, may: Access, nids: Sequence[int]
) -> dict[int, Sight]:
    """Roots that the reader may see, with what is told of their threads.

    Those of ignored users are shown as if they were redacted.
    """
    live = ctx.live
    events = await live.events.by_nids(nids)
    sights = await visible(live, may.reader, list(events.values()), with_ignored=True)
    ignored = await live.ignored.by(may.reader.user_id)
    return {
        sight.event.nid: sight
        if sight.event.pdu.sender not in ignored
        else replace(sight, event=_blank(sight.event))
        for sight in await bundled(ctx.db, live, may.reader, sights)
        if sight.bundle is not None and sight.bundle.thread is not None
    }


def _blank(event: StoredEvent) -> StoredEvent:
    """The event without what its sender said."""
    return replace(event, pdu=event.shown.redacted(), _shown=None, shared_json=None)
