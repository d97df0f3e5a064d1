"""Endpoints about the user's devices. Spec: client-server-api#device-management."""

import msgspec

from federation.canonical_json import JsonObject
from federation.ids import DeviceId
from homeserver import errors
from homeserver.accounts import uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.sessions import check_device, end_sessions
from homeserver.accounts.store import devices
from homeserver.accounts.store.devices import Device
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

V3 = "/_matrix/client/v3"
MAX_AT_ONCE = 1000


def _shown(device: Device) -> JsonObject:
    shown: JsonObject = {"device_id": device.device_id}
    if device.display_name is not None:
        shown["display_name"] = device.display_name
    if device.last_seen_ms is not None:
        shown["last_seen_ts"] = device.last_seen_ms
    if device.last_seen_ip is not None:
        shown["last_seen_ip"] = device.last_seen_ip
    return shown


def _no_such_device() -> errors.MatrixError:
    return errors.not_found("You have no such device.")


def _device_id(request: ClientRequest) -> DeviceId:
    device_id = request.path(DeviceId, "deviceId")
    if "\0" in device_id:
        raise _no_such_device()
    return device_id


@route("GET", V3 + "/devices", auth=by_access_token)
async def get_devices(ctx: Context, request: ClientRequest) -> Answer:
    """All devices of the user. Spec: client-server-api#get_matrixclientv3devices."""
    async with ctx.db.read() as tx:
        found = await devices.devices(tx, request.user_id)
    return {"devices": [_shown(device) for device in found]}


@route("GET", V3 + "/devices/{deviceId}", auth=by_access_token)
async def get_device(ctx: Context, request: ClientRequest) -> Answer:
    """One device of the user.

    Spec: client-server-api#get_matrixclientv3devicesdeviceid
    """
    async with ctx.db.read() as tx:
        found = await devices.device(tx, request.user_id, _device_id(request))
    if found is None:
        raise _no_such_device()
    return _shown(found)


class _Update(msgspec.Struct):
    display_name: str | None = None


@route("PUT", V3 + "/devices/{deviceId}", auth=by_access_token, limit=writes)
async def update_device(ctx: Context, request: ClientRequest) -> Answer:
    """Give a device a name. An application service makes devices with it.

    Spec: client-server-api#put_matrixclientv3devicesdeviceid
    Spec: application-service-api#creating-devices
    """
    update = request.body(_Update)
    check_device(None, update.display_name)
    user_id, device_id = request.user_id, _device_id(request)
    async with ctx.db.read() as tx:
        found = await devices.device(tx, user_id, device_id)
    if found is None and request.who.service_id is not None:
        check_device(device_id, update.display_name)
        new = devices.NewDevice(user_id, device_id, update.display_name)
        change = Change(Kind.TOKENS, user_id=user_id)
        await ctx.live.commit(devices.create, new, change)
        return Reply(201, {})
    if found is None:
        raise _no_such_device()
    if update.display_name is not None:
        rename = devices.Rename(user_id, device_id, update.display_name)
        change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=rename.reach)
        await ctx.live.commit(devices.rename, rename, change)
    return {}


async def _delete(
    ctx: Context, request: ClientRequest, auth: object, ids: tuple[DeviceId, ...]
) -> None:
    """Delete devices once the user has shown the password.

    Application services need none. Spec: application-service-api#deleting-devices
    """
    if request.who.service_id is not None:
        await end_sessions(ctx.live, request.user_id, ids)
        return
    operation = await confirmation(ctx, request, "delete_devices", request.user_id)
    session = await operation.authenticate(ctx.db, auth, request.user_id)
    await end_sessions(ctx.live, request.user_id, ids)
    await uia.finish(ctx.db, session)


@route("DELETE", V3 + "/devices/{deviceId}", auth=by_access_token, limit=writes)
async def delete_device(ctx: Context, request: ClientRequest) -> Answer:
    """Delete a device; its access tokens end.

    Spec: client-server-api#delete_matrixclientv3devicesdeviceid
    """
    # Not every client can send a body with DELETE, and at first there is none.
    auth = request.json_object(empty_ok=True).get("auth")
    await _delete(ctx, request, auth, (_device_id(request),))
    return {}


class _Deletion(msgspec.Struct):
    devices: list[str]
    auth: dict[str, object] | None = None


@route("POST", V3 + "/delete_devices", auth=by_access_token, limit=writes)
async def delete_devices(ctx: Context, request: ClientRequest) -> Answer:
    """Delete several devices; their access tokens end.

    Spec: client-server-api#post_matrixclientv3delete_devices
    """
    deletion = request.body(_Deletion)
    if len(deletion.devices) > MAX_AT_ONCE:
        raise errors.invalid_param(f"At most {MAX_AT_ONCE} devices can go at once.")
    ids = tuple(DeviceId(each) for each in deletion.devices if "\0" not in each)
    await _delete(ctx, request, deletion.auth, ids)
    return {}
