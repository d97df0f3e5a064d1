"""What other servers may ask about profiles."""

from federation.errors import Malformed
from federation.ids import parse_user_id, server_of
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.profile.find import our_profile


@route(
    "GET",
    "/_matrix/federation/v1/query/profile",
    auth=by_server,
    limit=federation,
)
async def query_profile(ctx: Context, request: FederationRequest) -> Answer:
    """The profile of a user of ours, or one field of it; absent when it is not set.

    Raises: M_NOT_FOUND, M_INVALID_PARAM, when it is not a user of ours.

    Spec: server-server-api#get_matrixfederationv1queryprofile
    """
    try:
        user_id = parse_user_id(request.query_required("user_id"))
    except Malformed as error:
        raise errors.invalid_param(f"user_id: {error}.") from None
    if server_of(user_id) != ctx.server_name:
        raise errors.invalid_param("user_id: the user is not of this server.")
    profile = await our_profile(ctx, user_id)
    field = request.query_str("field")
    if field is None:
        return profile
    return {field: profile[field]} if field in profile else {}
