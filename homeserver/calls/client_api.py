"""The endpoints by which clients learn what their calls go over."""

from typing import Final

from homeserver.calls.transports import transports
from homeserver.calls.turn import credentials
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

_TRANSPORTS: Final = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"


@route(
    "GET",
    _TRANSPORTS,
    auth=by_access_token,
    limit=lookups,
    # COMPAT(matrix-rust-sdk): it asks under the name that the proposal will get.
    aliases=("/_matrix/client/v1/rtc/transports",),
    flag="org.matrix.msc4143",
)
async def get_rtc_transports(ctx: Context, _request: ClientRequest) -> Answer:
    """The transports for calls of many, the preferred one first. MSC4143."""
    return {"rtc_transports": transports(ctx.config)}


@route("GET", "/_matrix/client/v3/voip/turnServer", auth=by_access_token, limit=lookups)
async def get_turn_server(ctx: Context, request: ClientRequest) -> Answer:
    """A name and a password for TURN servers; nothing when there are none.

    Spec: client-server-api#get_matrixclientv3voipturnserver
    """
    return credentials(ctx.config.calls, request.user_id, ctx.clock.ms() // 1000)
