"""Endpoints about profiles. Spec: client-server-api#profiles."""

from typing import Final

from federation.canonical_json import JsonObject, JsonValue, encode
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.store import profiles
from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import lookups, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.profile import fields, telling
from homeserver.profile.find import find_profile

PROFILE: Final = "/_matrix/client/v3/profile/{userId}"
FLAG: Final = "uk.tcpip.msc4133"
UNSTABLE: Final = f"/_matrix/client/unstable/{FLAG}/profile/{{userId}}"
# So long a change waits for the user's rooms to be told: few are told at once.
_TELLING_SECONDS: Final = 0.15
# A field, and the object around it.
MAX_BODY: Final = fields.MAX_PROFILE_BYTES * 2


@route("GET", UNSTABLE, auth=nobody, limit=lookups, flag=FLAG)
@route("GET", PROFILE, auth=nobody, limit=lookups)
async def get_user_profile(ctx: Context, request: Request) -> Answer:
    """All that a user says. Spec: client-server-api#get_matrixclientv3profileuserid."""
    return await find_profile(ctx, request.path(UserId, "userId"))


@route("GET", UNSTABLE + "/{keyName}", auth=nobody, limit=lookups, flag=FLAG)
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


async def change_field(
    ctx: Context, user_id: UserId, name: str, value: JsonValue
) -> None:
    """Set the field, or remove it when the value is None; tell the user's rooms.

    Of many rooms some are told later: the caller does not wait for them.
    """
    async with ctx.db.read() as tx:
        profile: JsonObject = await profiles.profile(tx, user_id)
    if encode(profile.get(name)) == encode(value):
        return
    if value is not None:
        fields.check_size({**profile, name: value})
    tell_rooms = name in fields.IN_MEMBER_EVENTS
    edit = profiles.Edit(user_id, name, value, fields.check_size, tell_rooms)
    change = Change(Kind.PROFILE, user_id=user_id, reach=edit.reach)
    await ctx.live.commit(profiles.edit, edit, change)
    if tell_rooms and edit.reach.rooms:
        await telling.wait_a_moment(ctx, user_id, _TELLING_SECONDS)


@route(
    "PUT",
    UNSTABLE + "/{keyName}",
    auth=by_access_token,
    limit=writes,
    max_body=MAX_BODY,
    flag=FLAG,
)
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
    await change_field(ctx, request.user_id, name, None if removal else value)
    return {}


@route(
    "DELETE",
    UNSTABLE + "/{keyName}",
    auth=by_access_token,
    limit=writes,
    flag=FLAG,
)
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
    await change_field(ctx, request.user_id, _own_field(request), None)
    return {}
