"""The endpoint /sync."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from homeserver import errors
from homeserver.accounts.filters import find_filter
from homeserver.context import Context
from homeserver.events.client_format import Viewer
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer, Stream
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.live import Live
from homeserver.presence.attendance import syncing
from homeserver.presence.states import RANKS
from homeserver.rooms.timeline import Point, parse_point
from homeserver.sync import people, v2
from homeserver.sync.lazy import LazyMembers
from homeserver.sync.request import Sources, SyncRequest

MAX_TIMEOUT_MS: Final = 120_000
_PATIENCE_SECONDS: Final = 10.0  # for a token that another process gave
# What each device has got, for each server of this process.
_sent: "WeakKeyDictionary[Live, LazyMembers]" = WeakKeyDictionary()


@route("GET", "/_matrix/client/v3/sync", auth=by_access_token, long_poll=True)
async def sync(ctx: Context, request: ClientRequest) -> Answer:
    """Tell what moved since a token, or everything without one.

    Waits up to `timeout` milliseconds for something to move. Raises: M_INVALID_PARAM
    for a token or a filter that is none of ours; M_BAD_JSON, M_NOT_JSON for a filter.

    Spec: client-server-api#get_matrixclientv3sync
    """
    state = request.query_choice("set_presence", *RANKS)
    full_state = request.query_bool("full_state")
    state_after = request.query_bool("use_state_after")
    proposed = request.query_bool("org.matrix.msc4222.use_state_after")
    since = _since(request)
    wanted = SyncRequest(
        viewer=Viewer(request.user_id, request.device_id),
        since=since.position if since else None,
        inbox=_inbox(since),
        filter=await find_filter(ctx.db, request.user_id, request.query_str("filter")),
        full_state=full_state,
        use_state_after=state_after or proposed,
        says_unstable=proposed and not state_after,
        with_presence=ctx.config.presence.enabled,
    )
    timeout_ms = request.query_int("timeout", 0, at_most=MAX_TIMEOUT_MS)
    user = await ctx.live.user(request.user_id)
    devices = _sent.get(ctx.live)
    if devices is None:
        devices = _sent[ctx.live] = LazyMembers()
    sent = devices.of(request.user_id, request.device_id)
    sent.confirm(wanted.since)
    sources = Sources.of(ctx, sent)
    with syncing(ctx, request.user_id, request.device_id, state):
        if wanted.since is None:
            return Stream(v2.initial(sources, wanted, user, ctx.live.position))
        if not await ctx.live.view.wait_for_position(wanted.since, _PATIENCE_SECONDS):
            raise errors.invalid_param("since: this token is not one of this server's.")
        if full_state:
            timeout_ms = 0
        return await _news(sources, wanted, timeout_ms / 1000, request.identify)


async def _news(
    sources: Sources,
    request: SyncRequest,
    timeout_s: float,
    identify: Callable[[], Awaitable[None]],
) -> JsonObject:
    """What moved, waiting for it when nothing has yet."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    live = sources.live
    while True:
        # Anew each time: the view may have been loaded anew meanwhile.
        user = await live.user(request.viewer.user_id)
        upto = live.position
        answer = await v2.incremental(sources, request, user, upto)
        remaining = deadline - loop.time()
        if answer is not None:
            return answer
        if remaining <= 0 or live.is_stopping:
            return await v2.idle(sources, request, upto)
        await live.wait(user, upto, remaining, people=people.are_wanted(request))
        await identify()


def _inbox(since: Point | None) -> int:
    """How far the device has got its messages."""
    if since is None:
        return 0
    return since.position if since.inbox is None else min(since.inbox, since.position)


def _since(request: ClientRequest) -> Point | None:
    token = request.query_str("since")
    if not token:
        return None
    try:
        return parse_point(token)
    except Malformed as error:
        raise errors.invalid_param(f"since: {error}.") from None
