"""Endpoints about what the user keeps here. Spec: client-server-api#client-config."""

from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import RoomId, UserId
from homeserver import errors
from homeserver.accounts import tags
from homeserver.accounts.store import account_data as store
from homeserver.accounts.store.account_data import (
    OF_NO_ROOM,
    AccountData,
    Deletion,
    Edit,
)
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

USER: Final = "/_matrix/client/v3/user/{userId}"
FLAG: Final = "org.matrix.msc3391"
UNSTABLE: Final = f"/_matrix/client/unstable/{FLAG}/user/{{userId}}"
MAX_TYPE_BYTES: Final = 255
MAX_CONTENT: Final = 256 * 1024
# Set by the server alone, through endpoints of their own.
OURS: Final = frozenset({"m.fully_read", "m.push_rules"})


def _own_user(request: ClientRequest) -> UserId:
    """The user in the path. Raises: M_FORBIDDEN, when it is not the one who asks."""
    user_id = request.path(UserId, "userId")
    if user_id != request.user_id:
        raise errors.forbidden("What other users keep here is not yours.")
    return user_id


async def _room_nid(ctx: Context, request: ClientRequest) -> int:
    """The number of the room in the path, of which the user is or was a member.

    Raises: M_NOT_FOUND, so that nobody learns which rooms exist; M_INVALID_PARAM.
    """
    room_nid = await ctx.live.room_nid(request.path(RoomId, "roomId"))
    if room_nid is not None:
        if await ctx.live.membership(request.user_id, room_nid) is not None:
            return room_nid
        await ctx.live.follower.pull()  # another process may be a moment ahead
        if await ctx.live.membership(request.user_id, room_nid) is not None:
            return room_nid
    raise errors.not_found("You have never been in this room.")


def _type(request: ClientRequest) -> str:
    """The type in the path. Raises: M_INVALID_PARAM."""
    type_ = request.path(str, "type")
    if not type_ or len(type_.encode()) > MAX_TYPE_BYTES:
        raise errors.invalid_param(f"A type has 1 to {MAX_TYPE_BYTES} bytes.")
    return type_


def _change(user_id: UserId, room_nid: int) -> Change:
    return Change(
        Kind.ACCOUNT_DATA,
        user_id=user_id,
        room_nid=None if room_nid == OF_NO_ROOM else room_nid,
    )


def _settable_type(request: ClientRequest) -> str:
    """The type in the path, if users set it themselves. Raises: M_BAD_JSON."""
    type_ = _type(request)
    if type_ in OURS:
        raise errors.MatrixError(
            405, "M_BAD_JSON", f"{type_} cannot be set here, only read."
        )
    return type_


async def _put(ctx: Context, request: ClientRequest, room_nid: int) -> Answer:
    user_id, type_ = request.user_id, _settable_type(request)
    item = AccountData(user_id, room_nid, type_, request.json_object())
    await ctx.live.commit(store.put, item, _change(user_id, room_nid))
    return {}


async def _delete(ctx: Context, request: ClientRequest, room_nid: int) -> Answer:
    item = Deletion(request.user_id, room_nid, _settable_type(request))
    await ctx.live.commit(store.delete, item, _change(request.user_id, room_nid))
    return {}


async def _get(ctx: Context, request: ClientRequest, room_nid: int) -> Answer:
    user_id, type_ = request.user_id, _type(request)
    async with ctx.db.read() as tx:
        found = await store.content(tx, user_id, room_nid, type_)
    if found is None and room_nid == OF_NO_ROOM and type_ in ctx.account_data_defaults:
        return ctx.account_data_defaults[type_](user_id)
    if found is None:
        raise errors.not_found("Nothing has been set for this type.")
    return found


@route(
    "PUT",
    USER + "/account_data/{type}",
    auth=by_access_token,
    limit=writes,
    max_body=MAX_CONTENT,
)
async def set_account_data(ctx: Context, request: ClientRequest) -> Answer:
    """Set what the user keeps for a type.

    Spec: client-server-api#put_matrixclientv3useruseridaccount_datatype
    """
    _own_user(request)
    return await _put(ctx, request, OF_NO_ROOM)


@route("GET", USER + "/account_data/{type}", auth=by_access_token)
async def get_account_data(ctx: Context, request: ClientRequest) -> Answer:
    """What the user keeps for a type.

    Spec: client-server-api#get_matrixclientv3useruseridaccount_datatype
    """
    _own_user(request)
    return await _get(ctx, request, OF_NO_ROOM)


@route(
    "PUT",
    USER + "/rooms/{roomId}/account_data/{type}",
    auth=by_access_token,
    limit=writes,
    max_body=MAX_CONTENT,
)
async def set_account_data_per_room(ctx: Context, request: ClientRequest) -> Answer:
    """Set what the user keeps for a room and type.

    Spec: client-server-api#put_matrixclientv3useruseridroomsroomidaccount_datatype
    """
    _own_user(request)
    return await _put(ctx, request, await _room_nid(ctx, request))


@route("GET", USER + "/rooms/{roomId}/account_data/{type}", auth=by_access_token)
async def get_account_data_per_room(ctx: Context, request: ClientRequest) -> Answer:
    """What the user keeps for a room and type.

    Spec: client-server-api#get_matrixclientv3useruseridroomsroomidaccount_datatype
    """
    _own_user(request)
    return await _get(ctx, request, await _room_nid(ctx, request))


@route(
    "DELETE",
    UNSTABLE + "/account_data/{type}",
    auth=by_access_token,
    limit=writes,
    flag=FLAG,
)
async def delete_account_data(ctx: Context, request: ClientRequest) -> Answer:
    """Set nothing for a type any more; other devices get it as empty. MSC3391."""
    _own_user(request)
    return await _delete(ctx, request, OF_NO_ROOM)


@route(
    "DELETE",
    UNSTABLE + "/rooms/{roomId}/account_data/{type}",
    auth=by_access_token,
    limit=writes,
    flag=FLAG,
)
async def delete_account_data_per_room(ctx: Context, request: ClientRequest) -> Answer:
    """Set nothing for a room and type any more. MSC3391."""
    _own_user(request)
    return await _delete(ctx, request, await _room_nid(ctx, request))


# ── Tags ─────────────────────────────────────────────────────────────────────────────


@route("GET", USER + "/rooms/{roomId}/tags", auth=by_access_token)
async def get_room_tags(ctx: Context, request: ClientRequest) -> Answer:
    """The user's tags on a room.

    Spec: client-server-api#get_matrixclientv3useruseridroomsroomidtags
    """
    user_id = _own_user(request)
    room_nid = await _room_nid(ctx, request)
    async with ctx.db.read() as tx:
        content = await store.content(tx, user_id, room_nid, tags.TYPE)
    return {"tags": tags.tags_of(content)}


@route("PUT", USER + "/rooms/{roomId}/tags/{tag}", auth=by_access_token, limit=writes)
async def set_room_tag(ctx: Context, request: ClientRequest) -> Answer:
    """Put a tag on a room.

    Spec: client-server-api#put_matrixclientv3useruseridroomsroomidtagstag
    """
    user_id = _own_user(request)
    name, tag = request.path(str, "tag"), request.json_object()
    tags.check_tag(name, tag)
    room_nid = await _room_nid(ctx, request)

    def add(content: JsonObject) -> JsonObject:
        return tags.with_tag(content, name, tag)

    edit = Edit(user_id, room_nid, tags.TYPE, add)
    await ctx.live.commit(store.edit, edit, _change(user_id, room_nid))
    return {}


@route(
    "DELETE", USER + "/rooms/{roomId}/tags/{tag}", auth=by_access_token, limit=writes
)
async def delete_room_tag(ctx: Context, request: ClientRequest) -> Answer:
    """Take a tag off a room.

    Spec: client-server-api#delete_matrixclientv3useruseridroomsroomidtagstag
    """
    user_id = _own_user(request)
    name = request.path(str, "tag")
    room_nid = await _room_nid(ctx, request)

    def remove(content: JsonObject) -> JsonObject:
        return tags.without_tag(content, name)

    edit = Edit(user_id, room_nid, tags.TYPE, remove)
    await ctx.live.commit(store.edit, edit, _change(user_id, room_nid))
    return {}
