"""Endpoints by which administrators look after accounts.

Spec: client-server-api#server-administration
"""

from typing import Final

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId, server_of
from homeserver import errors
from homeserver.accounts.store import devices
from homeserver.accounts.store import moderation as store
from homeserver.accounts.store.moderation import Moderation, Standing
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

FLAG: Final = "uk.timedout.msc4323"
LOCK: Final = "/_matrix/client/v1/admin/lock/{userId}"
SUSPEND: Final = "/_matrix/client/v1/admin/suspend/{userId}"
UNSTABLE: Final = f"/_matrix/client/unstable/{FLAG}/admin"


async def _target(ctx: Context, request: ClientRequest) -> tuple[UserId, Standing]:
    """The account in the path, which an administrator asks about.

    Raises: M_FORBIDDEN before anything is looked up, and for other administrators;
    M_INVALID_PARAM for users of other servers; M_NOT_FOUND.
    """
    if not request.who.is_admin:
        raise errors.forbidden("Only administrators of this server may do this.")
    user_id = request.path(UserId, "userId")
    if server_of(user_id) != ctx.server_name:
        raise errors.invalid_param("userId: the user is not of this server.")
    async with ctx.db.read() as tx:
        found = await store.standing(tx, user_id)
    if found is None:
        raise errors.not_found("There is no such account, or it is deactivated.")
    if found.is_admin and user_id != request.user_id:
        raise errors.forbidden("This is another administrator.")
    return user_id, found


async def _moderate(ctx: Context, request: ClientRequest, change: Moderation) -> None:
    if change.user_id == request.user_id:
        raise errors.forbidden("Administrators cannot do this to themselves.")
    await ctx.live.commit(
        store.moderate, change, Change(Kind.TOKENS, user_id=change.user_id)
    )


class _Lock(msgspec.Struct):
    locked: bool


class _Suspend(msgspec.Struct):
    suspended: bool


@route("GET", UNSTABLE + "/lock/{userId}", auth=by_access_token, flag=FLAG)
@route("GET", LOCK, auth=by_access_token, since="1.18")
async def get_admin_lock_user(ctx: Context, request: ClientRequest) -> Answer:
    """Whether an account is locked.

    Spec: client-server-api#get_matrixclientv1adminlockuserid
    """
    _, found = await _target(ctx, request)
    return {"locked": found.is_locked}


@route("PUT", UNSTABLE + "/lock/{userId}", auth=by_access_token, flag=FLAG)
@route("PUT", LOCK, auth=by_access_token, since="1.18")
async def set_admin_lock_user(ctx: Context, request: ClientRequest) -> Answer:
    """Lock an account, or unlock it. Its sessions stay.

    Spec: client-server-api#put_matrixclientv1adminlockuserid
    """
    user_id, _ = await _target(ctx, request)
    locked = request.body(_Lock).locked
    await _moderate(ctx, request, Moderation(user_id, locked=locked))
    return {"locked": locked}


@route("GET", UNSTABLE + "/suspend/{userId}", auth=by_access_token, flag=FLAG)
@route("GET", SUSPEND, auth=by_access_token, since="1.18")
async def get_admin_suspend_user(ctx: Context, request: ClientRequest) -> Answer:
    """Whether an account is suspended.

    Spec: client-server-api#get_matrixclientv1adminsuspenduserid
    """
    _, found = await _target(ctx, request)
    return {"suspended": found.is_suspended}


@route("PUT", UNSTABLE + "/suspend/{userId}", auth=by_access_token, flag=FLAG)
@route("PUT", SUSPEND, auth=by_access_token, since="1.18")
async def set_admin_suspend_user(ctx: Context, request: ClientRequest) -> Answer:
    """Suspend an account, or let it go on.

    Spec: client-server-api#put_matrixclientv1adminsuspenduserid
    """
    user_id, _ = await _target(ctx, request)
    suspended = request.body(_Suspend).suspended
    await _moderate(ctx, request, Moderation(user_id, suspended=suspended))
    return {"suspended": suspended}


@route("GET", "/_matrix/client/v3/admin/whois/{userId}", auth=by_access_token)
async def get_who_is(ctx: Context, request: ClientRequest) -> Answer:
    """When and whence a user's devices were last seen: for them and administrators.

    Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3adminwhoisuserid
    """
    user_id = request.path(UserId, "userId")
    if user_id != request.user_id:
        if not request.who.is_admin:
            raise errors.forbidden("Only administrators may look at other users.")
        async with ctx.db.read() as tx:
            if await store.standing(tx, user_id) is None:
                raise errors.not_found("There is no such account here.")
    async with ctx.db.read() as tx:
        found = await devices.devices(tx, user_id)
    shown: dict[str, JsonValue] = {
        each.device_id: {"sessions": [{"connections": _connections(each)}]}
        for each in found
    }
    return {"user_id": user_id, "devices": shown}


def _connections(device: devices.Device) -> list[JsonValue]:
    connection: JsonObject = {}
    if device.last_seen_ip is not None:
        connection["ip"] = device.last_seen_ip
    if device.last_seen_ms is not None:
        connection["last_seen"] = device.last_seen_ms
    return [connection] if connection else []
