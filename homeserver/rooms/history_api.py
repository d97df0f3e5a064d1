"""The endpoints that read a room's history."""

from dataclasses import replace
from typing import Final

from federation import canonical_json, signatures
from federation.errors import Malformed
from federation.ids import EventId, RoomId
from homeserver import errors
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.events.client_format import Sight
from homeserver.events.filters import RoomEventFilter, parse_room_event_filter
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.rooms import history
from homeserver.rooms.access import Access, access
from homeserver.rooms.backfill import backfill
from homeserver.rooms.bundles import bundled
from homeserver.rooms.client_api import ROOM, Shown, spliced
from homeserver.rooms.history import DEFAULT_LIMIT, MAX_LIMIT, Page, Range
from homeserver.rooms.posting import may_redact_others
from homeserver.rooms.timeline import Point, parse_point
from homeserver.rooms.viewing import visible

# How many events near a time are looked at for one that the user may see.
_NEAR: Final = 50
_NEAR_PAGES: Final = 4
_UNREDACTED: Final = "fi.mau.msc2815.include_unredacted_content"
# How often history is fetched from other servers for one page.
_FETCHES: Final = 2


def point_of(request: ClientRequest, name: str) -> Point | None:
    """The place that a query parameter names. Raises: M_INVALID_PARAM."""
    token = request.query_str(name)
    if token is None:
        return None
    try:
        return parse_point(token)
    except Malformed as error:
        raise errors.invalid_param(f"{name}: {error}.") from None


def _filter(request: ClientRequest) -> RoomEventFilter:
    text = request.query_str("filter")
    if text is None:
        return RoomEventFilter()
    try:
        given = canonical_json.parse_object(text)
        canonical_json.check(given, strict=False)
        return parse_room_event_filter(given)
    except Malformed as error:
        raise errors.invalid_param(f"filter: {error}.") from None


def _limit(request: ClientRequest, wanted: RoomEventFilter) -> int:
    default = DEFAULT_LIMIT if wanted.limit is None else wanted.limit
    return request.query_int("limit", min(default, MAX_LIMIT), at_most=MAX_LIMIT)


@route("GET", f"{ROOM}/messages", auth=by_access_token)
async def get_room_events(ctx: Context, request: ClientRequest) -> Answer:
    """A page of the room's history. Raises: M_FORBIDDEN, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv3roomsroomidmessages
    """
    room_id = request.path(RoomId, "roomId")
    request.query_required("dir")
    backwards = request.query_choice("dir", "b", "f") == "b"
    wanted = _filter(request)
    limit = _limit(request, wanted)
    start, stop = point_of(request, "from"), point_of(request, "to")
    may = await access(ctx.live, room_id, request.user_id)
    if start is None:
        ends = history.newest_point if backwards else history.oldest_point
        start = ends(ctx.live, may)
    start = history.bounded(start, may)

    where = Range(start, backwards, stop)
    page = await _read(ctx, may, where, limit, wanted)
    shown = Shown(ctx, request)
    sights = await bundled(ctx.db, ctx.live, may.reader, page.sights)
    answer: dict[str, object] = {
        "start": request.query_str("from") or str(start),
        "chunk": shown.all(sights),
    }
    if page.end is not None:
        answer["end"] = str(page.end)
    if wanted.lazy_load_members and page.sights:
        newest_event = page.sights[0 if backwards else -1].event
        root = newest_event.state_after or 0
        members = await history.members_for(ctx.live, root, page.sights)
        answer["state"] = shown.all(members)
    return spliced(answer)


async def _read(
    ctx: Context,
    may: Access,
    where: Range,
    limit: int,
    wanted: RoomEventFilter,
) -> Page:
    """A page; what is missing in it, or after it, is first fetched from others.

    Spec: server-server-api#backfilling-and-retrieving-missing-events
    """
    for _ in range(_FETCHES):
        page = await history.read_page(ctx.db, ctx.live, may, where, limit, wanted)
        if limit == 0 or not where.backwards or not may.reader.is_joined:
            return page
        # Where it ends for want of events, any gap may be the reason.
        ends_early = page.end is None and where.stop is None and not page.has_first
        lowest = 0 if ends_early else page.lowest
        is_near = ends_early or (page.gap is not None and page.gap >= (lowest or 0))
        if lowest is None or not is_near:
            return page
        if not await backfill(ctx, may.room, lowest, limit):
            return page
    return await history.read_page(ctx.db, ctx.live, may, where, limit, wanted)


@route("GET", f"{ROOM}/event/{{eventId}}", auth=by_access_token)
async def get_one_room_event(ctx: Context, request: ClientRequest) -> Answer:
    """One event. Raises: M_NOT_FOUND, also when the user may not see it.

    Spec: client-server-api#get_matrixclientv3roomsroomideventeventid
    """
    room_id = request.path(RoomId, "roomId")
    event_id = request.path(EventId, "eventId")
    try:
        may = await access(ctx.live, room_id, request.user_id)
    except MatrixError:
        raise _no_such_event() from None
    sight = await _sight(ctx, may, event_id)
    if sight.event.redaction and request.query_bool(_UNREDACTED):
        sight = await _unredacted(ctx, request, may, sight)
    (sight,) = await bundled(ctx.db, ctx.live, may.reader, (sight,))
    return spliced(Shown(ctx, request).one(sight))


async def _unredacted(
    ctx: Context, request: ClientRequest, may: Access, sight: Sight
) -> Sight:
    """The event with what a redaction took from it, for moderators. MSC2815.

    Raises: M_FORBIDDEN; the codes of the proposal when the content is not here: its
    sender had it erased, or it came here without it.
    """
    is_moderator = may.reader.is_joined and await may_redact_others(
        ctx, may.room, request.user_id
    )
    if not (is_moderator or request.who.is_admin):
        raise errors.forbidden("You have too little power to see redacted content.")
    if not _is_whole(sight.event):
        stored = await ctx.live.events.by_nid(sight.event.nid)
        was_deleted = stored is not None and _is_whole(stored)
        raise errors.unredacted_content(was_deleted=was_deleted)
    event = replace(sight.event, _shown=sight.event.pdu, shared_json=None)
    return replace(sight, event=event)


def _is_whole(event: StoredEvent) -> bool:
    """Whether it has the content that its sender gave it."""
    pdu = event.pdu
    strict = pdu.version.strict_canonical_json
    return signatures.has_valid_content_hash(pdu.json, strict=strict)


def _no_such_event() -> MatrixError:
    return errors.not_found("There is no such event, or you may not see it.")


async def _sight(ctx: Context, may: Access, event_id: EventId) -> Sight:
    """An event of the room as the reader may see it. Raises: M_NOT_FOUND."""
    event = await ctx.live.events.by_id(event_id)
    if event is None or event.room_nid != may.room.nid:
        raise _no_such_event()
    sights = await visible(ctx.live, may.reader, (event,))
    if not sights:
        raise _no_such_event()
    return sights[0]


@route("GET", f"{ROOM}/context/{{eventId}}", auth=by_access_token)
async def get_event_context(ctx: Context, request: ClientRequest) -> Answer:
    """What was said around an event. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3roomsroomidcontexteventid
    """
    room_id = request.path(RoomId, "roomId")
    event_id = request.path(EventId, "eventId")
    wanted = _filter(request)
    limit = _limit(request, wanted)
    may = await access(ctx.live, room_id, request.user_id)
    sight = await _sight(ctx, may, event_id)
    around = await history.read_surroundings(
        ctx.db, ctx.live, may, sight, wanted, limit
    )
    shown = Shown(ctx, request)
    sights = [*around.events_before, sight, *around.events_after]
    sights = await bundled(ctx.db, ctx.live, may.reader, sights)
    at = len(around.events_before)
    return spliced(
        {
            "start": str(around.start),
            "end": str(around.end),
            "events_before": shown.all(sights[:at]),
            "event": shown.one(sights[at]),
            "events_after": shown.all(sights[at + 1 :]),
            "state": shown.all(around.state),
        }
    )


@route(
    "GET",
    "/_matrix/client/v1/rooms/{roomId}/timestamp_to_event",
    auth=by_access_token,
    limit=lookups,
    since="1.6",
)
async def get_event_by_timestamp(ctx: Context, request: ClientRequest) -> Answer:
    """The event closest to a time. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
    """
    room_id = request.path(RoomId, "roomId")
    request.query_required("ts")
    ts = request.query_int("ts", 0, minimum=-(2**53))
    request.query_required("dir")
    backwards = request.query_choice("dir", "f", "b") == "b"
    may = await access(ctx.live, room_id, request.user_id)
    for page in range(_NEAR_PAGES):
        async with ctx.db.read() as tx:
            nids = await history.read_near_time(
                tx,
                may.room.nid,
                ts,
                backwards=backwards,
                limit=_NEAR,
                skip=page * _NEAR,
            )
        events = await ctx.live.events.by_nids(nids)
        sights = await visible(ctx.live, may.reader, list(events.values()))
        if sights:
            found = sights[0].event
            return {
                "event_id": found.event_id,
                "origin_server_ts": found.pdu.origin_server_ts,
            }
        if len(nids) < _NEAR:
            break
    raise errors.not_found("There is no event on that side of this time.")
