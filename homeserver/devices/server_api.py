"""What other servers may ask about devices of ours.

Spec: server-server-api#end-to-end-encryption
"""

from typing import Final

from federation import query_bodies
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import DeviceId, UserId, server_of
from federation.query_bodies import UserDevice, UserDevices, UserKeys
from homeserver import errors
from homeserver.context import Context
from homeserver.devices import bridged
from homeserver.devices.claim import claim_here
from homeserver.devices.store import query as store
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route

V1: Final = "/_matrix/federation/v1/user"


@route("GET", V1 + "/devices/{userId}", auth=by_server, limit=federation)
async def get_user_devices(ctx: Context, request: FederationRequest) -> Answer:
    """All devices of a user of ours that have keys, and where their list stands.

    Raises: M_NOT_FOUND; M_INVALID_PARAM, when it is not a user of ours.

    Spec: server-server-api#get_matrixfederationv1userdevicesuserid
    """
    user_id = request.path(UserId, "userId")
    if server_of(user_id) != ctx.server_name:
        raise errors.invalid_param("userId: the user is not of this server.")
    async with ctx.db.snapshot() as tx:
        found = await store.local_keys(tx, {user_id: ()}, None)
        stream_id = await store.stream_id_of(tx, user_id)
    if user_id not in found.devices:
        raise errors.not_found("There is no such user.")
    return UserDevices(
        user_id=user_id,
        stream_id=stream_id,
        devices=tuple(
            UserDevice(device_id, keys, found.names.get((user_id, device_id)))
            for device_id, keys in found.devices[user_id].items()
        ),
        master_key=found.master.get(user_id),
        self_signing_key=found.self_signing.get(user_id),
    ).json


@route("POST", V1 + "/keys/query", auth=by_server, limit=federation)
async def query_user_encryption_keys(
    ctx: Context, request: FederationRequest
) -> Answer:
    """Identity and cross-signing keys of users of ours; of others, nothing.

    Raises: M_BAD_JSON.

    Spec: server-server-api#post_matrixfederationv1userkeysquery
    """
    try:
        asked = query_bodies.parse_device_keys_query(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    wanted = {u: ids for u, ids in asked.items() if server_of(u) == ctx.server_name}
    async with ctx.db.snapshot() as tx:
        found = await store.local_keys(tx, wanted, None)
    await bridged.query(ctx, wanted, found)
    answer = UserKeys({}, _by_user(found.master), _by_user(found.self_signing)).json
    return {**answer, "device_keys": found.devices_json()}


def _by_user(keys: dict[str, JsonObject]) -> dict[UserId, JsonObject]:
    return {UserId(user_id): key for user_id, key in keys.items()}


@route("POST", V1 + "/keys/claim", auth=by_server, limit=federation)
async def claim_user_encryption_keys(
    ctx: Context, request: FederationRequest
) -> Answer:
    """One key for each of those devices of ours. Raises: M_BAD_JSON.

    Spec: server-server-api#post_matrixfederationv1userkeysclaim
    """
    try:
        asked = query_bodies.parse_one_time_keys_claim(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    wanted = {
        user_id: {DeviceId(device_id): name for device_id, name in devices.items()}
        for user_id, devices in asked.items()
        if server_of(user_id) == ctx.server_name
    }
    return {"one_time_keys": await claim_here(ctx, wanted)}
