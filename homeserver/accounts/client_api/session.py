"""Endpoints about being logged in: whoami, logout."""

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import registration_tokens
from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import logins
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route

V3 = "/_matrix/client/v3"


@route("GET", V3 + "/account/whoami", auth=by_access_token)
async def get_token_owner(_ctx: Context, request: ClientRequest) -> Answer:
    """Whose access token this is.

    Spec: client-server-api#get_matrixclientv3accountwhoami
    """
    owner: JsonObject = {"user_id": request.user_id, "is_guest": request.is_guest}
    if request.device_id is not None:
        owner["device_id"] = request.device_id
    return owner


@route("POST", V3 + "/logout", auth=by_access_token)
async def logout(ctx: Context, request: ClientRequest) -> Answer:
    """End this session; its device goes with it.

    Spec: client-server-api#post_matrixclientv3logout
    """
    if request.device_id is None:
        raise errors.forbidden("This access token belongs to no device.")
    await end_sessions(ctx.live, request.user_id, (request.device_id,))
    return {}


@route("POST", V3 + "/logout/all", auth=by_access_token)
async def logout_all(ctx: Context, request: ClientRequest) -> Answer:
    """End all sessions of the user.

    Spec: client-server-api#post_matrixclientv3logoutall
    """
    await end_sessions(ctx.live, request.user_id, None)
    return {}


@route(
    "GET",
    "/_matrix/client/v1/register/m.login.registration_token/validity",
    auth=nobody,
    limit=logins,  # tokens may be short enough to be guessed
    since="1.2",
)
async def registration_token_validity(ctx: Context, request: Request) -> Answer:
    """Whether somebody could register with this token now.

    Spec: client-server-api#get_matrixclientv1registermloginregistration_tokenvalidity
    """
    token = request.query_required("token")
    if ctx.config.registration.mode == "closed":
        raise errors.forbidden("Nobody can register on this server.")
    if "\0" in token:
        return {"valid": False}
    async with ctx.db.read() as tx:
        return {"valid": await registration_tokens.is_valid(tx, token)}
