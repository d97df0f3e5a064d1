"""Endpoints about profiles. Spec: client-server-api#profiles."""

from typing import Final

from federation.canonical_json import JsonValue, encode
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.store import profiles, users
from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import lookups, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.profile import fields
from homeserver.profile.find import find_profile
from homeserver.rooms import membership

PROFILE: Final = "/_matrix/client/v3/profile/{userId}"
# A field, and the object around it.
MAX_BODY: Final = fields.MAX_PROFILE_BYTES * 2


@route("GET", PROFILE, auth=nobody, limit=lookups)
async def get_user_profile(ctx: Context, request: Request) -> Answer:
    """All that a user says. Spec: client-server-api#get_matrixclientv3profileuserid."""
    return await find_profile(ctx, request.path(UserId, "userId"))


@route("GET", PROFILE + "/{keyName}", auth=nobody, limit=lookups)
async def get_profile_field(ctx: Context, request: Request) -> Answer:
    """One thing that a user says.

    Spec: client-server-api#get_matrixclientv3profileuseridkeyname
    """
    user_id, name = request.path(UserId, "userId"), request.path(str, "keyName")
    return await find_profile(ctx, user_id, name)


def _own_field(request: ClientRequest) -> str:
    """The field in the path, of the user who asks.

    Raises: M_FORBIDDEN, M_INVALID_PARAM, M_KEY_TOO_LARGE.
    """
    if request.path(UserId, "userId") != request.user_id:
        raise errors.forbidden("The profiles of other users are not yours.")
    name = request.path(str, "keyName")
    fields.check_name(name)
    return name


async def _change(ctx: Context, user_id: UserId, name: str, value: JsonValue) -> None:
    """Set the field, or remove it when the value is None; tell the user's rooms."""
    async with ctx.db.transaction() as tx:
        # One change of a profile at a time, so that its size holds.
        await users.lock(tx, user_id)
        profile = await profiles.profile(tx, user_id)
        if encode(profile.get(name)) == encode(value):
            return
        if value is None:
            await profiles.delete_field(tx, user_id, name)
        else:
            fields.check_size({**profile, name: value})
            await profiles.put_field(tx, user_id, name, value)
    if name in fields.IN_MEMBER_EVENTS:
        await membership.update_profile(ctx, user_id)


@route(
    "PUT",
    PROFILE + "/{keyName}",
    auth=by_access_token,
    limit=writes,
    max_body=MAX_BODY,
)
async def set_profile_field(ctx: Context, request: ClientRequest) -> Answer:
    """Say one thing of oneself.

    Spec: client-server-api#put_matrixclientv3profileuseridkeyname
    """
    name = _own_field(request)
    body = request.json_object()
    if name not in body:
        raise errors.missing_param(f"{name}: the value is missing from the body.")
    value = body[name]
    fields.check_value(name, value)
    removal = fields.is_removal(name, value)
    await _change(ctx, request.user_id, name, None if removal else value)
    return {}


@route(
    "DELETE",
    PROFILE + "/{keyName}",
    auth=by_access_token,
    limit=writes,
    since="1.16",
)
async def delete_profile_field(ctx: Context, request: ClientRequest) -> Answer:
    """Say it no longer.

    Spec: client-server-api#delete_matrixclientv3profileuseridkeyname
    """
    await _change(ctx, request.user_id, _own_field(request), None)
    return {}
