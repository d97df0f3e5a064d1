"""The endpoints that take reports."""

from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.reports import store
from homeserver.reports.store import Report
from homeserver.rooms.viewing import Reader, visible

reports: Final = Limit("reports", per_second=0.1, burst=30)
_V3: Final = "/_matrix/client/v3/"
_UNSTABLE: Final = "/_matrix/client/unstable/"
_MOST_CHARACTERS: Final = 10_000


@route(
    "POST",
    f"{_V3}rooms/{{roomId}}/report/{{eventId}}",
    auth=by_access_token,
    limit=reports,
)
async def report_event(ctx: Context, request: ClientRequest) -> Answer:
    """Report an event that one sees. Raises: M_NOT_FOUND, M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#post_matrixclientv3roomsroomidreporteventid
    """
    room_id = request.path(RoomId, "roomId")
    event_id = request.path(EventId, "eventId")
    body = request.json_object()
    reason, score = _reason(body, required=False), _score(body)
    sender = await _sender_of(ctx, request.user_id, room_id, event_id)
    await _keep(ctx, Report(request.user_id, room_id, event_id, sender, reason, score))
    return {}


async def _sender_of(
    ctx: Context, user_id: UserId, room_id: RoomId, event_id: EventId
) -> UserId:
    """Who sent the event, which the user sees. Raises: M_NOT_FOUND."""
    missing = errors.not_found("There is no such event, or you are not in this room.")
    try:
        room = await ctx.live.require_joined(room_id, user_id)
    except errors.MatrixError:
        raise missing from None
    event = await ctx.live.events.by_id(event_id)
    if event is None or event.room_nid != room.nid:
        raise missing
    reader = Reader(user_id, room.members.get(user_id))
    # Whom one ignores one may report.
    if not await visible(ctx.live, reader, (event,), with_ignored=True):
        raise missing
    return event.pdu.sender


@route(
    "POST",
    f"{_V3}rooms/{{roomId}}/report",
    auth=by_access_token,
    limit=reports,
    since="1.13",
)
@route(
    "POST",
    f"{_UNSTABLE}org.matrix.msc4151/rooms/{{roomId}}/report",
    auth=by_access_token,
    limit=reports,
    flag="org.matrix.msc4151",
)
async def report_room(ctx: Context, request: ClientRequest) -> Answer:
    """Report a room, whether one is in it or not. Raises: M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#post_matrixclientv3roomsroomidreport
    """
    room_id = request.path(RoomId, "roomId")
    reason = _reason(request.json_object(), required=True)
    await _keep(ctx, Report(request.user_id, room_id, None, None, reason))
    return {}


@route(
    "POST",
    f"{_V3}users/{{userId}}/report",
    auth=by_access_token,
    limit=reports,
    since="1.14",
)
@route(
    "POST",
    f"{_UNSTABLE}org.matrix.msc4260/users/{{userId}}/report",
    auth=by_access_token,
    limit=reports,
    flag="org.matrix.msc4260",
)
async def report_user(ctx: Context, request: ClientRequest) -> Answer:
    """Report a user, of whatever server. Raises: M_BAD_JSON, M_TOO_LARGE.

    Spec: client-server-api#post_matrixclientv3usersuseridreport
    """
    user_id = request.path(UserId, "userId")
    reason = _reason(request.json_object(), required=True)
    await _keep(ctx, Report(request.user_id, None, None, user_id, reason))
    return {}


async def _keep(ctx: Context, report: Report) -> None:
    async with ctx.db.transaction() as tx:
        await store.insert_report(tx, report)


def _reason(body: JsonObject, *, required: bool) -> str:
    reason = body.get("reason", None if required else "")
    if not isinstance(reason, str):
        raise errors.bad_json("reason: a string is needed, which may be empty.")
    if len(reason) > _MOST_CHARACTERS:
        raise errors.too_large(f"reason: at most {_MOST_CHARACTERS} characters.")
    return reason


def _score(body: JsonObject) -> int | None:
    # COMPAT(clients from before v1.18)
    score = body.get("score")
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int):
        raise errors.bad_json("score: an integer is needed.")
    return min(max(score, -100), 0)
