"""The endpoints of delayed events. MSC4140.

What makes one with a query parameter is in homeserver/rooms/client_api.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import RoomId
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.delayed import store
from homeserver.delayed.deliver import CLAIM_SECONDS, deliver
from homeserver.delayed.schedule import schedule
from homeserver.delayed.store import DelayedEvent
from homeserver.http.auth import by_access_token, optional_access_token
from homeserver.http.limits import Limit, lookups, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.rooms.client_api import txn_of
from homeserver.rooms.posting import Post

FLAG: Final = "org.matrix.msc4140"
_BASE: Final = "/_matrix/client/unstable/org.matrix.msc4140"
_EVENTS: Final = f"{_BASE}/delayed_events"
# A call puts its end off every few seconds, and an SFU does so for many calls.
_manages: Final = Limit("delayed_events", per_second=50, burst=500)
_MAX_DELAY_ID: Final = 255
_PAUSE_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 10.0


class Action(StrEnum):
    """What can be done with a scheduled event."""

    SEND = "send"
    CANCEL = "cancel"
    RESTART = "restart"


@route(
    "PUT",
    f"{_BASE}/rooms/{{roomId}}/delayed_event/{{eventType}}/{{txnId}}",
    auth=by_access_token,
    limit=writes,
    flag=FLAG,
)
async def schedule_delayed_event(ctx: Context, request: ClientRequest) -> Answer:
    """Schedule an event to be sent later. MSC4140.

    Raises: M_BAD_JSON, M_FORBIDDEN for a longer delay than may be, M_LIMIT_EXCEEDED.
    """
    body = request.event_content()
    delay_ms, content = body.get("delay_ms"), body.get("content")
    state_key = body.get("state_key")
    if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or delay_ms <= 0:
        raise errors.bad_json("delay_ms: a positive integer is needed.")
    if not isinstance(content, dict):
        raise errors.bad_json("content: an object is needed.")
    if state_key is not None and not isinstance(state_key, str):
        raise errors.bad_json("state_key: a string is needed.")
    post = Post(
        room_id=request.path(RoomId, "roomId"),
        type=request.path(str, "eventType"),
        content=content,
        state_key=state_key,
        txn=txn_of(request),
    )
    return {"delay_id": await schedule(ctx, request.user_id, post, delay_ms)}


@route("GET", _EVENTS, auth=by_access_token, limit=lookups, flag=FLAG)
async def get_delayed_events(ctx: Context, request: ClientRequest) -> Answer:
    """The user's scheduled events, what is due first at the beginning. MSC4140."""
    async with ctx.db.read() as tx:
        found = await store.scheduled(tx, request.user_id)
    return {"delayed_events": [event.shown() for event in found]}


@route("GET", f"{_EVENTS}/{{delayId}}", auth=by_access_token, limit=lookups, flag=FLAG)
async def get_delayed_event(ctx: Context, request: ClientRequest) -> Answer:
    """One of the user's events, scheduled or finalised. MSC4140.

    Raises: M_NOT_FOUND.
    """
    return (await _find(ctx, request)).shown()


@route(
    "POST",
    f"{_EVENTS}/{{delayId}}/{{action}}",
    # COMPAT(lk-jwt-service): an SFU that was told the ID manages the event with that
    # alone; nobody can guess one.
    auth=optional_access_token,
    limit=_manages,
    flag=FLAG,
)
async def manage_delayed_event(ctx: Context, request: ClientRequest) -> Answer:
    """Send a scheduled event now, cancel it, or let its delay begin anew. MSC4140.

    Raises: M_NOT_FOUND, M_INVALID_PARAM; 409 M_UNKNOWN when it is too late for that;
    what sending raises.
    """
    return await _manage(ctx, request, request.path(Action, "action"))


@route(
    "POST",
    f"{_EVENTS}/{{delayId}}",
    auth=optional_access_token,
    limit=_manages,
    flag=FLAG,
)
async def update_delayed_event(ctx: Context, request: ClientRequest) -> Answer:
    """Manage a scheduled event as clients before 2026 do: the body says how. MSC4140.

    Raises: as `manage_delayed_event`; M_BAD_JSON.
    """
    wanted = request.json_object().get("action")
    if not isinstance(wanted, str) or wanted not in [*Action]:
        raise errors.bad_json(f"action: one of {', '.join(Action)} is needed.")
    return await _manage(ctx, request, Action(wanted))


async def _find(ctx: Context, request: ClientRequest) -> DelayedEvent:
    """The event in the path, of the user who asks, if anybody says who asks."""
    delay_id = request.path(str, "delayId")
    found = None
    if len(delay_id) <= _MAX_DELAY_ID and "\0" not in delay_id:
        async with ctx.db.read() as tx:
            found = await store.find(tx, delay_id)
    asker = request.requester
    if found is None or (asker is not None and asker.user_id != found.user_id):
        raise errors.not_found("There is no such delayed event.")
    return found


async def _manage(ctx: Context, request: ClientRequest, action: Action) -> JsonObject:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_SECONDS
    while True:
        event = await _find(ctx, request)
        if event.finalised_ms is not None:
            _check_outcome(event, action)
            return {}
        if await _ACTIONS[action](ctx, event):
            return {}
        if loop.time() > deadline:
            raise errors.unavailable("The event is just being sent.")
        await asyncio.sleep(_PAUSE_SECONDS)  # it is being sent: how does it go?


def _check_outcome(event: DelayedEvent, action: Action) -> None:
    """Raise unless the event has ended as the action would have it end."""
    wanted = {Action.SEND: True, Action.CANCEL: False, Action.RESTART: None}[action]
    was_sent = event.event_id is not None
    if was_sent != wanted:
        end = "has been sent" if was_sent else "has been cancelled"
        raise errors.unknown(f"The event {end} already.", status=409)


async def _send(ctx: Context, event: DelayedEvent) -> bool:
    async with ctx.db.transaction() as tx:
        if not await store.claim(tx, event.delay_id, CLAIM_SECONDS):
            return False
    try:
        await deliver(ctx, event)
    except BaseException:
        async with ctx.db.transaction() as tx:
            await store.let_go(tx, (event.delay_id,))
        raise
    return True


async def _changed(
    ctx: Context, event: DelayedEvent, change: Callable[[Tx, str], Awaitable[bool]]
) -> bool:
    async with ctx.db.transaction() as tx:
        return await change(tx, event.delay_id)


async def _cancel(ctx: Context, event: DelayedEvent) -> bool:
    return await _changed(ctx, event, store.cancel)


async def _restart(ctx: Context, event: DelayedEvent) -> bool:
    return await _changed(ctx, event, store.restart)


_ACTIONS: Final = {
    Action.SEND: _send,
    Action.CANCEL: _cancel,
    Action.RESTART: _restart,
}
