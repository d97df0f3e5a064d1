"""Endpoints about filters. Spec: client-server-api#filtering."""

from typing import Final

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.filters import check_filter, read_filter
from homeserver.accounts.store import filters as store
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

USER: Final = "/_matrix/client/v3/user/{userId}"
MAX_BYTES: Final = 64 * 1024


@route(
    "POST",
    USER + "/filter",
    auth=by_access_token,
    limit=writes,
    max_body=MAX_BYTES,
)
async def define_filter(ctx: Context, request: ClientRequest) -> Answer:
    """Keep a filter, to be named by its ID.

    Spec: client-server-api#post_matrixclientv3useruseridfilter
    """
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("Filters can be made only for yourself.")
    given = request.json_object()
    check_filter(given)
    async with ctx.db.transaction() as tx:
        filter_id = await store.add_filter(tx, request.user_id, given)
    return {"filter_id": str(filter_id)}


@route("GET", USER + "/filter/{filterId}", auth=by_access_token)
async def get_filter(ctx: Context, request: ClientRequest) -> Answer:
    """A filter as it was defined.

    Spec: client-server-api#get_matrixclientv3useruseridfilterfilterid
    """
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("The filters of other users are not yours.")
    given = await read_filter(ctx.db, request.user_id, request.path(str, "filterId"))
    if given is None:
        raise errors.not_found("There is no such filter.")
    return given
