"""The endpoint that finds people. Spec: client-server-api#user-directory."""

from typing import Final

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.people.search import search
from homeserver.people.store import Found

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 50
MAX_TERM: Final = 255
# Clients ask with each letter that is typed.
searches: Final = Limit("user_directory", per_second=5, burst=50)


class _Search(msgspec.Struct):
    search_term: str
    limit: int = DEFAULT_LIMIT


@route(
    "POST",
    "/_matrix/client/v3/user_directory/search",
    auth=by_access_token,
    limit=searches,
)
async def search_user_directory(ctx: Context, request: ClientRequest) -> Answer:
    """Find people by name or ID. Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3user_directorysearch
    """
    body = request.body(_Search)
    if body.limit < 0:
        raise errors.invalid_param("limit: it cannot be negative.")
    limit = min(body.limit, MAX_LIMIT)
    term = body.search_term[:MAX_TERM]
    found, limited = await search(ctx, request.user_id, term, limit)
    results: list[JsonValue] = [_shown(each) for each in found]
    return {"results": results, "limited": limited}


def _shown(found: Found) -> JsonObject:
    shown: JsonObject = {"user_id": found.user_id}
    if found.display_name is not None:
        shown["display_name"] = found.display_name
    if found.avatar_url is not None:
        shown["avatar_url"] = found.avatar_url
    return shown
