"""Events, states and history for servers in the room.

Spec: server-server-api#backfilling-and-retrieving-missing-events,
server-server-api#retrieving-events
"""

import heapq
from collections.abc import AsyncIterator, Sequence
from typing import Final

from federation import bodies
from federation.bodies import EventAtTime, Transaction
from federation.errors import Malformed
from federation.ids import EventId, parse_event_id
from homeserver import errors
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer, Stream
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.live.room import Room
from homeserver.rooms import acl
from homeserver.rooms.history import read_near_time
from homeserver.rooms.server_api.admission import Asker, admitted_asker, find_asker
from homeserver.rooms.server_visibility import shown_to
from homeserver.rooms.written import written_events, written_ids

_V1: Final = "/_matrix/federation/v1"
MAX_BACKFILL: Final = 100
MAX_MISSING: Final = 50
MAX_TS: Final = 2**53 - 1
_MAX_STARTS: Final = 50
_BATCH: Final = 50


# ── Single events ────────────────────────────────────────────────────────────────────


@route("GET", f"{_V1}/event/{{eventId}}", auth=by_server, limit=federation)
async def get_event(ctx: Context, request: FederationRequest) -> Answer:
    """One event. Raises: M_NOT_FOUND, also when the server is not in its room.

    Spec: server-server-api#get_matrixfederationv1eventeventid
    """
    event = await ctx.live.events.by_id(request.path(EventId, "eventId"))
    room = None if event is None else await ctx.live.view.room(event.room_nid)
    asker = None
    if room is not None and await acl.is_allowed(ctx.live, room, request.origin):
        asker = await find_asker(ctx, room, request.origin)
    if event is None or asker is None or not asker.may_ask_about(event):
        raise errors.not_found("Your server may see no such event.")
    shown = await shown_to(ctx, asker.room, request.origin, (event,))
    return Transaction(ctx.server_name, ctx.clock.ms(), tuple(shown)).json


@route(
    "GET", f"{_V1}/event_auth/{{roomId}}/{{eventId}}", auth=by_server, limit=federation
)
async def get_event_auth(ctx: Context, request: FederationRequest) -> Answer:
    """The auth chain of an event. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1event_authroomideventid
    """
    asker = await admitted_asker(ctx, request)
    event = await _event(ctx, asker, request.path(EventId, "eventId"))
    chain = await ctx.live.events.auth_chain((event.nid,))
    return Stream(_auth_chain(ctx, asker.room, sorted(chain)))


async def _auth_chain(
    ctx: Context, room: Room, chain: Sequence[int]
) -> AsyncIterator[bytes]:
    yield b'{"auth_chain":['
    async for part in written_events(ctx, room, chain):
        yield part
    yield b"]}"


async def _event(ctx: Context, asker: Asker, event_id: EventId) -> StoredEvent:
    """An event of the room. Raises: M_NOT_FOUND."""
    event = await ctx.live.events.by_id(event_id)
    if event is None or not asker.may_ask_about(event):
        raise errors.not_found("There is no such event in the room.")
    return event


@route(
    "GET",
    f"{_V1}/timestamp_to_event/{{roomId}}",
    auth=by_server,
    limit=federation,
    since="1.6",
)
async def get_event_by_timestamp(ctx: Context, request: FederationRequest) -> Answer:
    """The event closest to a time, in one direction from it.

    Raises: M_FORBIDDEN, M_NOT_FOUND when there is none.

    Spec: server-server-api#get_matrixfederationv1timestamp_to_eventroomid
    """
    asker = await admitted_asker(ctx, request)
    request.query_required("ts")
    request.query_required("dir")
    ts = request.query_int("ts", 0, at_most=MAX_TS)
    backwards = request.query_choice("dir", "f", "b") == "b"
    async with ctx.db.read() as tx:
        nids = await read_near_time(
            tx, asker.room.nid, ts, backwards=backwards, limit=1, skip=0
        )
    event = await ctx.live.events.by_nid(nids[0]) if nids else None
    if event is None or not asker.may_ask_about(event):
        raise errors.not_found("There is no event in that direction.")
    return EventAtTime(event.event_id, event.pdu.origin_server_ts).json


# ── States ───────────────────────────────────────────────────────────────────────────


@route("GET", f"{_V1}/state/{{roomId}}", auth=by_server, limit=federation)
async def get_room_state(ctx: Context, request: FederationRequest) -> Answer:
    """The state before an event, and its auth chain. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1stateroomid
    """
    room, nids, chain = await _state_before(ctx, request)
    return Stream(_room_state(ctx, room, nids, chain))


async def _room_state(
    ctx: Context, room: Room, nids: Sequence[int], chain: Sequence[int]
) -> AsyncIterator[bytes]:
    yield b'{"pdus":['
    async for part in written_events(ctx, room, nids):
        yield part
    yield b'],"auth_chain":['
    async for part in written_events(ctx, room, chain):
        yield part
    yield b"]}"


@route("GET", f"{_V1}/state_ids/{{roomId}}", auth=by_server, limit=federation)
async def get_room_state_ids(ctx: Context, request: FederationRequest) -> Answer:
    """The same, by event IDs. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#get_matrixfederationv1state_idsroomid
    """
    _, nids, chain = await _state_before(ctx, request)
    return Stream(_room_state_ids(ctx, nids, chain))


async def _room_state_ids(
    ctx: Context, nids: Sequence[int], chain: Sequence[int]
) -> AsyncIterator[bytes]:
    yield b'{"pdu_ids":['
    async for part in written_ids(ctx, nids):
        yield part
    yield b'],"auth_chain_ids":['
    async for part in written_ids(ctx, chain):
        yield part
    yield b"]}"


async def _state_before(
    ctx: Context, request: FederationRequest
) -> tuple[Room, list[int], list[int]]:
    """The numbers of the state's events, and of those of its auth chain."""
    asker = await admitted_asker(ctx, request)
    event = await _event(ctx, asker, _id_of(request.query_required("event_id")))
    if event.state_before is None:
        raise errors.not_found("This server does not know the state at that event.")
    nids = await ctx.live.states.event_nids(event.state_before)
    return asker.room, nids, sorted(await ctx.live.events.auth_chain(nids))


def _id_of(text: str) -> EventId:
    try:
        return parse_event_id(text)
    except Malformed as error:
        raise errors.of_caller(error) from None


# ── History ──────────────────────────────────────────────────────────────────────────


@route("GET", f"{_V1}/backfill/{{roomId}}", auth=by_server, limit=federation)
async def backfill_room(ctx: Context, request: FederationRequest) -> Answer:
    """Events and those before them, the deepest first. Raises: M_FORBIDDEN.

    Spec: server-server-api#get_matrixfederationv1backfillroomid
    """
    asker = await admitted_asker(ctx, request)
    limit = request.query_int("limit", MAX_BACKFILL, minimum=1, at_most=MAX_BACKFILL)
    starts = [_id_of(text) for text in request.query_list("v")[:_MAX_STARTS]]
    if not starts:
        raise errors.missing_param("The query parameter 'v' is required.")
    found = await ctx.live.events.by_ids(starts)
    events = await _walk_back(
        ctx, [e for e in found.values() if asker.may_ask_about(e)], limit
    )
    shown = await shown_to(ctx, asker.room, request.origin, events)
    return Transaction(ctx.server_name, ctx.clock.ms(), tuple(shown)).json


async def _walk_back(
    ctx: Context, starts: Sequence[StoredEvent], limit: int
) -> list[StoredEvent]:
    """Events of the room's history from these on backwards, deepest first."""
    heap = [(-event.pdu.depth, event.nid) for event in starts]
    heapq.heapify(heap)
    seen = {event.nid for event in starts}
    events: list[StoredEvent] = []
    while heap and len(events) < limit:
        batch = [heapq.heappop(heap)[1] for _ in range(min(len(heap), _BATCH))]
        before: set[int] = set()
        for event in (await ctx.live.events.by_nids(batch)).values():
            if event.rejected is None and event.state_before is not None:
                events.append(event)
            before.update(event.prev_nids)
        before -= seen
        seen |= before
        for event in (await ctx.live.events.by_nids(before)).values():
            heapq.heappush(heap, (-event.pdu.depth, event.nid))
    events.sort(key=lambda event: -event.pdu.depth)
    return events[:limit]


@route("POST", f"{_V1}/get_missing_events/{{roomId}}", auth=by_server, limit=federation)
async def get_missing_previous_events(
    ctx: Context, request: FederationRequest
) -> Answer:
    """Events between those that a server has and those that it got, oldest first.

    Raises: M_BAD_JSON, M_FORBIDDEN.

    Spec: server-server-api#post_matrixfederationv1get_missing_eventsroomid
    """
    asker = await admitted_asker(ctx, request)
    try:
        query = bodies.parse_missing_events_query(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    limit = min(query.limit, MAX_MISSING)
    had = set((await ctx.live.events.nids_of(query.earliest_events)).values())
    latest = await ctx.live.events.by_ids(query.latest_events)
    seen = had | {event.nid for event in latest.values()}
    level = [event for event in latest.values() if asker.may_ask_about(event)]
    events: list[StoredEvent] = []
    while level and len(events) < limit:
        before = {nid for event in level for nid in event.prev_nids} - seen
        seen |= before
        found = (await ctx.live.events.by_nids(before)).values()
        level = sorted(
            (event for event in found if event.pdu.depth >= query.min_depth),
            key=lambda event: -event.pdu.depth,
        )[: limit - len(events)]
        events += [event for event in level if event.rejected is None]
    events.sort(key=lambda event: event.pdu.depth)
    shown = await shown_to(ctx, asker.room, request.origin, events)
    return {"events": list(shown)}
