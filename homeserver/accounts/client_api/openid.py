"""Endpoints by which other services learn who somebody is, without their access token.

Spec: client-server-api#openid
"""

from datetime import timedelta
from typing import Final

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.store import openid_tokens
from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import Limit, lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route

LIFETIME: Final = timedelta(hours=1)
# Each is kept for as long.
tokens_made: Final = Limit("openid_tokens", per_second=0.2, burst=50)


@route(
    "POST",
    "/_matrix/client/v3/user/{userId}/openid/request_token",
    auth=by_access_token,
    limit=tokens_made,
)
async def request_open_id_token(ctx: Context, request: ClientRequest) -> Answer:
    """A token that tells another service who the user is. Raises: M_FORBIDDEN.

    Spec: client-server-api#post_matrixclientv3useruseridopenidrequest_token
    """
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("Only users themselves can say who they are.")
    request.json_object(empty_ok=True)
    token = tokens.new_token(tokens.OPENID)
    async with ctx.db.transaction() as tx:
        await openid_tokens.add(tx, tokens.hash_of(token), request.user_id, LIFETIME)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": ctx.server_name,
        "expires_in": int(LIFETIME.total_seconds()),
    }


@route("GET", "/_matrix/federation/v1/openid/userinfo", auth=nobody, limit=lookups)
async def exchange_open_id_token(ctx: Context, request: Request) -> Answer:
    """Whose token it is. Raises: M_UNKNOWN_TOKEN, M_MISSING_PARAM.

    Spec: server-server-api#get_matrixfederationv1openiduserinfo
    """
    token = request.query_required("access_token")
    user_id = None
    if token.startswith(tokens.OPENID) and tokens.is_well_formed(token):
        async with ctx.db.read() as tx:
            user_id = await openid_tokens.owner(tx, tokens.hash_of(token))
    if user_id is None:
        raise errors.unknown_token("The token is not known, or has run out.")
    return {"sub": user_id}
