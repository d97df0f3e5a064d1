"""What clients used before /sync, and for looking into rooms they are not in.

Spec: client-server-api#room-previews
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import orjson

from federation.ids import EventId, RoomId, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.events.client_format import Sight, Viewer
from homeserver.events.filters import RoomEventFilter, parse_filter
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer, Stream, encode
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.room import Member, User
from homeserver.push.store import extras_of
from homeserver.rooms import history
from homeserver.rooms.access import Access, access
from homeserver.rooms.aliases import is_published
from homeserver.rooms.client_api import ROOM, Shown, spliced
from homeserver.rooms.history import Range
from homeserver.rooms.history_api import point_of
from homeserver.rooms.timeline import Point
from homeserver.rooms.viewing import Reader, state_sights, visible
from homeserver.sync import invites, people
from homeserver.sync.lazy import LazyMembers
from homeserver.sync.own import account_data_of, read_account_data
from homeserver.sync.peeking import Onlookers
from homeserver.sync.request import Sources, SyncRequest

V3: Final = "/_matrix/client/v3"
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
DEFAULT_TIMEOUT_MS: Final = 30_000
MAX_TIMEOUT_MS: Final = 120_000
_MAX_EVENTS: Final = 100  # of one answer of /events
_PATIENCE_SECONDS: Final = 10.0  # for a token that another process gave
_SHOWN: Final = frozenset(("join", "invite", "leave", "ban"))


# ── Snapshots ────────────────────────────────────────────────────────────────────────


@route("GET", f"{ROOM}/initialSync", auth=by_access_token)
async def room_initial_sync(ctx: Context, request: ClientRequest) -> Answer:
    """The state of a room and its last messages. Raises: M_FORBIDDEN.

    Spec: client-server-api#get_matrixclientv3roomsroomidinitialsync
    """
    room_id = request.path(RoomId, "roomId")
    limit = request.query_int("limit", DEFAULT_LIMIT, at_most=MAX_LIMIT)
    may = await access(ctx.live, room_id, request.user_id)
    return spliced(await _snapshot(ctx, request, may, limit))


async def _snapshot(
    ctx: Context, request: ClientRequest, may: Access, limit: int
) -> dict[str, object]:
    """A room as its reader sees it."""
    shown = Shown(ctx, request)
    room = may.room
    start = history.newest_point(ctx.live, may)
    where = Range(start, backwards=True)
    page = await history.read_page(
        ctx.db, ctx.live, may, where, limit, RoomEventFilter()
    )
    state = await may.state(ctx.live)
    async with ctx.db.read() as tx:
        is_public = await is_published(tx, room.nid)
        account_data = await account_data_of(tx, request.user_id, (room.nid,))
    snapshot: dict[str, object] = {
        "room_id": room.room_id,
        "messages": {
            "start": str(page.end or start),
            "end": str(start),
            "chunk": shown.all(reversed(page.sights)),
        },
        "state": shown.all(await state_sights(ctx.live, state.values())),
        "visibility": "public" if is_public else "private",
        "account_data": [each.event for each in account_data],
    }
    member = await ctx.live.membership(request.user_id, room.nid)
    if member is not None and member.membership in _SHOWN:
        snapshot["membership"] = member.membership
    return snapshot


@route("GET", f"{V3}/initialSync", auth=by_access_token)
async def initial_sync(ctx: Context, request: ClientRequest) -> Answer:
    """All of the user's rooms, as `/sync` replaced it.

    Spec: client-server-api#get_matrixclientv3initialsync
    """
    limit = request.query_int("limit", DEFAULT_LIMIT, at_most=MAX_LIMIT)
    archived = request.query_bool("archived")
    user = await ctx.live.user(request.user_id)
    return Stream(_everything(ctx, request, user, limit, archived=archived))


async def _everything(
    ctx: Context, request: ClientRequest, user: User, limit: int, *, archived: bool
) -> AsyncIterator[bytes]:
    """The answer, room by room; the token is fixed at the start."""
    upto = ctx.live.position
    async with ctx.db.read() as tx:
        account_data = await read_account_data(
            tx, user.user_id, 0, upto, extras_of(ctx.config.push)
        )
    head = {
        "end": str(Point(upto)),
        "presence": await _presence(ctx, request, user, upto),
        "account_data": account_data.get(0, []),
    }
    yield orjson.dumps(head)[:-1] + b',"rooms":['
    separator = b""
    hidden = await invites.hidden(ctx.live, user.user_id, user.rooms)
    for nid, member in list(user.rooms.items()):
        is_over = member.membership in ("leave", "ban")
        if member.membership not in _SHOWN or nid in hidden:
            continue
        if is_over and (member.forgotten or not archived):
            continue
        info = await _info(ctx, request, nid, member, limit)
        if info is not None:
            yield separator + encode(info)
            separator = b","
    yield b"]}"


async def _info(
    ctx: Context, request: ClientRequest, nid: int, member: Member, limit: int
) -> dict[str, object] | None:
    room = await ctx.live.view.room(nid)
    if room is None:
        return None
    if member.membership == "invite":
        event = await ctx.live.events.by_nid(member.event_nid)
        info: dict[str, object] = {"room_id": room.room_id, "membership": "invite"}
        if event is not None:
            info["invite"] = Shown(ctx, request).one(Sight(event, "invite"))
        return info
    try:
        may = await access(ctx.live, room.room_id, request.user_id)
    except errors.MatrixError:
        return None  # a refused invite, say: nothing of the room is here
    return {
        **await _snapshot(ctx, request, may, limit),
        "membership": member.membership,
    }


async def _presence(
    ctx: Context, request: ClientRequest, user: User, upto: int
) -> list[object]:
    wanted = SyncRequest(
        viewer=Viewer(request.user_id, request.device_id),
        since=None,
        filter=parse_filter({}),
        with_presence=ctx.config.presence.enabled,
    )
    sources = Sources.of(ctx, LazyMembers().of(request.user_id))
    sections = await people.sections(sources, wanted, user, upto)
    section = sections.get("presence")
    events = section.get("events") if isinstance(section, dict) else None
    return list(events) if isinstance(events, list) else []


# ── Events as they come ──────────────────────────────────────────────────────────────


@route("GET", f"{V3}/events", auth=by_access_token, long_poll=True)
async def get_events(ctx: Context, request: ClientRequest) -> Answer:
    """Events after a token; with `room_id` those of a room that one looks into.

    Raises: M_INVALID_PARAM; M_FORBIDDEN for a room that the user may not read.

    Spec: client-server-api#get_matrixclientv3events
    """
    point = point_of(request, "from")
    timeout_ms = request.query_int(
        "timeout", DEFAULT_TIMEOUT_MS, at_most=MAX_TIMEOUT_MS
    )
    room_id = request.query(RoomId, "room_id")
    since = ctx.live.position if point is None else point.position
    if not await ctx.live.view.wait_for_position(since, _PATIENCE_SECONDS):
        raise errors.invalid_param("from: this token is not one of this server's.")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_ms / 1000
    while True:
        may = None
        if room_id is not None:
            may = await access(ctx.live, room_id, request.user_id)
        upto = ctx.live.position
        sights, end = await _news(ctx, request.user_id, may, since, upto)
        left = deadline - loop.time()
        if sights or left <= 0 or ctx.live.is_stopping:
            return spliced(
                {
                    "start": str(Point(since)),
                    "end": str(Point(end)),
                    "chunk": Shown(ctx, request).all(sights),
                }
            )
        await _wait(ctx, request.user_id, may, upto, left)
        await request.identify()


async def _wait(
    ctx: Context, user_id: UserId, may: Access | None, upto: int, seconds: float
) -> None:
    user = await ctx.live.user(user_id)
    waits = [asyncio.ensure_future(ctx.live.wait(user, upto, seconds))]
    if may is not None:
        onlookers = ctx.parts.get(Onlookers)
        waits.append(asyncio.ensure_future(onlookers.wait(may.room.nid)))
    try:
        if ctx.live.position == upto:  # nothing came while we got here
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait


async def _news(
    ctx: Context, user_id: UserId, may: Access | None, since: int, upto: int
) -> tuple[Sequence[Sight], int]:
    """Events of the user's rooms that came after `since`, and how far was read."""
    user = await ctx.live.user(user_id)
    members = dict(user.rooms)
    joined = [nid for nid, each in members.items() if each.membership == "join"]
    pulses = await ctx.live.pulses(joined)
    moved = [nid for nid in joined if nid in pulses and pulses[nid].events > since]
    if may is not None and may.room.nid not in joined:
        moved.append(may.room.nid)
    places, end = await _read(ctx, moved, since, upto)
    hidden = await invites.hidden(ctx.live, user_id, members)
    # Of rooms that the user is not in: that they were invited, or have left.
    own = {
        each.event_nid: (each.position, nid)
        for nid, each in members.items()
        if each.membership != "join"
        and nid not in hidden
        and since < each.position <= end
    }
    events = await ctx.live.events.by_nids([*places, *own])
    by_room: dict[int, list[StoredEvent]] = {}
    for nid in places:
        if nid in events:
            by_room.setdefault(events[nid].room_nid, []).append(events[nid])
    sights: list[tuple[int, Sight]] = []
    for room_nid, listed in by_room.items():
        reader = Reader(user_id, members.get(room_nid))
        sights += [
            (sight.event.position or 0, sight)
            for sight in await visible(ctx.live, reader, listed)
        ]
    sights += _own_sights(own, members, events.values(), set(by_room))
    sights.sort(key=lambda each: each[0])
    return [sight for _, sight in sights], end


def _own_sights(
    own: dict[int, tuple[int, int]],
    members: dict[int, Member],
    events: Iterable[StoredEvent],
    read: set[int],
) -> list[tuple[int, Sight]]:
    return [
        (own[event.nid][0], Sight(event, members[own[event.nid][1]].membership))
        for event in events
        if event.nid in own and own[event.nid][1] not in read
    ]


async def _read(
    ctx: Context, room_nids: Sequence[int], since: int, upto: int
) -> tuple[list[int], int]:
    """Numbers of events in order; how far was read, when there are too many."""
    if not room_nids:
        return [], upto
    async with ctx.db.read() as tx:
        rows = await tx.fetch(
            """
            SELECT e.event_nid, e.position
              FROM unnest($1::bigint[]) AS r (room_nid)
             CROSS JOIN LATERAL (
                    SELECT event_nid, position FROM events
                     WHERE room_nid = r.room_nid AND position > $2 AND position <= $3
                     ORDER BY position LIMIT $4
                   ) AS e
             ORDER BY e.position LIMIT $4
            """,
            room_nids,
            since,
            upto,
            _MAX_EVENTS,
        )
    end = rows[-1]["position"] if len(rows) == _MAX_EVENTS else upto
    return [row["event_nid"] for row in rows], end


@route("GET", f"{V3}/events/{{eventId}}", auth=by_access_token)
async def get_one_event(ctx: Context, request: ClientRequest) -> Answer:
    """One event, by its ID alone. Raises: M_NOT_FOUND, also when it may not be seen.

    Spec: client-server-api#get_matrixclientv3eventseventid
    """
    not_there = errors.not_found("There is no such event, or you may not see it.")
    event = await ctx.live.events.by_id(request.path(EventId, "eventId"))
    room = None if event is None else await ctx.live.view.room(event.room_nid)
    if event is None or room is None:
        raise not_there
    try:
        may = await access(ctx.live, room.room_id, request.user_id)
    except errors.MatrixError:
        raise not_there from None
    is_there = may.upto is None or (event.position or 0) <= may.upto
    sights = await visible(ctx.live, may.reader, (event,)) if is_there else []
    if not sights:
        raise not_there
    return spliced(Shown(ctx, request).one(sights[0]))
