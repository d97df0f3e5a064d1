"""The endpoints by which users follow threads. MSC4306, MSC4308.

Push rules ask for it where `[push] thread_subscriptions` is on; `/versions` says so.
"""

from typing import Final

from federation.errors import Malformed
from federation.ids import EventId, RoomId, parse_event_id
from homeserver import errors
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.events.relations import relation_of
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.receipts.threads import root_of
from homeserver.relations import subscriptions
from homeserver.relations.client_api import readable
from homeserver.relations.subscriptions import Subscription, Wish
from homeserver.rooms.history_api import point_of

SUBSCRIPTION: Final = (
    "/_matrix/client/unstable/io.element.msc4306"
    "/rooms/{roomId}/thread/{eventId}/subscription"
)
FLAG: Final = "org.matrix.msc4306"
MOST: Final = 100


@route("PUT", SUBSCRIPTION, auth=by_access_token, limit=writes, flag=FLAG)
async def put_thread_subscription(ctx: Context, request: ClientRequest) -> Answer:
    """Follow a thread. Raises: M_NOT_FOUND, and the proposal's two errors. MSC4306."""
    body = request.json_object(empty_ok=True)
    room_nid, thread_id = await _thread(ctx, request)
    cause = None
    if body.get("automatic") is not None:
        cause = await _cause(ctx, room_nid, thread_id, body["automatic"])
        known = await _subscription(ctx, request, room_nid, thread_id)
        if known is not None and not known.subscribed and known.position >= cause:
            raise MatrixError(
                409,
                "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION",
                "The user has unsubscribed since then.",
            )
    wish = Wish(request.user_id, room_nid, thread_id, subscribed=True, cause=cause)
    await _commit(ctx, wish)
    return {}


@route("DELETE", SUBSCRIPTION, auth=by_access_token, limit=writes, flag=FLAG)
async def delete_thread_subscription(ctx: Context, request: ClientRequest) -> Answer:
    """Follow a thread no longer. Raises: M_NOT_FOUND. MSC4306."""
    room_nid, thread_id = await _thread(ctx, request)
    known = await _subscription(ctx, request, room_nid, thread_id)
    if known is not None and known.subscribed:
        wish = Wish(request.user_id, room_nid, thread_id, subscribed=False)
        await _commit(ctx, wish)
    return {}


@route("GET", SUBSCRIPTION, auth=by_access_token, flag=FLAG)
async def get_thread_subscription(ctx: Context, request: ClientRequest) -> Answer:
    """How the user follows a thread. Raises: M_NOT_FOUND when not at all. MSC4306."""
    room_nid, thread_id = await _thread(ctx, request)
    known = await _subscription(ctx, request, room_nid, thread_id)
    if known is None or not known.subscribed:
        raise errors.not_found("You are not subscribed to this thread.")
    return {"automatic": known.automatic}


@route(
    "GET",
    "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
    auth=by_access_token,
)
async def get_thread_subscriptions(ctx: Context, request: ClientRequest) -> Answer:
    """A page of the user's changes, backwards. Raises: M_INVALID_PARAM. MSC4308."""
    request.query_required("dir")
    request.query_choice("dir", "b")
    limit = request.query_int("limit", MOST, minimum=1, at_most=MOST)
    start, stop = point_of(request, "from"), point_of(request, "to")
    upto = ctx.live.position if start is None else start.position
    since = 0 if stop is None else stop.position
    async with ctx.db.read() as tx:
        found = await subscriptions.read_changes(
            tx, request.user_id, since, upto, limit + 1
        )
    answer = subscriptions.sections(found[:limit])
    if len(found) > limit:
        answer["end"] = f"s{found[limit].position}"
    return answer


async def _thread(ctx: Context, request: ClientRequest) -> tuple[int, EventId]:
    """The thread's room and root, whether or not somebody has answered yet."""
    event_id = request.path(EventId, "eventId")
    may = await readable(ctx, request.path(RoomId, "roomId"), request, event_id)
    root = await ctx.live.events.by_id(event_id)
    if root is None or relation_of(root.shown) is not None:
        raise errors.not_found("There is no such thread.")
    return may.room.nid, event_id


async def _cause(ctx: Context, room_nid: int, thread_id: EventId, given: object) -> int:
    """The position of the event because of which a client subscribes."""
    if not isinstance(given, str):
        raise errors.bad_json("automatic: the ID of an event is needed.")
    try:
        event = await ctx.live.events.by_id(parse_event_id(given))
    except Malformed as error:
        raise errors.bad_json(f"automatic: {error}.") from None
    not_in_thread = MatrixError(
        400,
        "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD",
        "That event is not in this thread.",
    )
    if event is None or event.room_nid != room_nid or event.position is None:
        raise not_in_thread
    if await root_of(ctx.live.events, event) != thread_id:
        raise not_in_thread
    return event.position


async def _subscription(
    ctx: Context, request: ClientRequest, room_nid: int, thread_id: EventId
) -> Subscription | None:
    async with ctx.db.read() as tx:
        return await subscriptions.read_subscription(
            tx, request.user_id, room_nid, thread_id
        )


async def _commit(ctx: Context, wish: Wish) -> None:
    change = Change(Kind.THREADS, room_nid=wish.room_nid, user_id=wish.user_id)
    await ctx.live.commit(subscriptions.write_wishes, wish, change)
