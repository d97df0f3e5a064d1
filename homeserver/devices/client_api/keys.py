"""Endpoints about device keys. Spec: client-server-api#key-management-api."""

from typing import Final

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import DeviceId, UserId, parse_user_id
from homeserver import errors
from homeserver.context import Context
from homeserver.devices import checks
from homeserver.devices.claim import claim
from homeserver.devices.query import Wanted, query
from homeserver.devices.sharing import Shares, changed_lists
from homeserver.devices.store import keys as store
from homeserver.http.auth import by_access_token
from homeserver.http.limits import lookups, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.rooms.timeline import parse_point

KEYS: Final = "/_matrix/client/v3/keys"
DEFAULT_TIMEOUT_MS: Final = 10_000
MAX_TIMEOUT_MS: Final = 60_000
MAX_USERS: Final = 10_000


def own_device(request: ClientRequest) -> DeviceId:
    """The device that asks. Raises: M_FORBIDDEN, when the token belongs to none."""
    if request.device_id is None:
        raise errors.forbidden("This access token belongs to no device.")
    return request.device_id


@route("POST", KEYS + "/upload", auth=by_access_token, limit=writes)
async def upload_keys(ctx: Context, request: ClientRequest) -> Answer:
    """Publish identity, one-time and fallback keys of the device: all or none.

    The same key may come again; another key under the name of one that waits is
    refused (MSC4420).

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE.

    Spec: client-server-api#post_matrixclientv3keysupload
    """
    body = request.json_object()
    device_id = own_device(request)
    item = store.Upload(request.user_id, device_id)
    if body.get("device_keys") is not None:
        keys = checks.device_keys(body["device_keys"], request.user_id, device_id)
        item.device_keys = checks.stored(keys, "device_keys")
    item.one_time_keys = checks.one_time_keys(
        body.get("one_time_keys"), "one_time_keys"
    )
    item.fallback_keys = checks.one_time_keys(
        body.get("fallback_keys"), "fallback_keys"
    )
    if len({key.algorithm for key in item.fallback_keys}) < len(item.fallback_keys):
        raise errors.invalid_param("fallback_keys: one key for each algorithm.")
    kind = Kind.DEVICE_KEYS if item.device_keys is None else Kind.DEVICE_LIST
    change = Change(kind, user_id=request.user_id, reach=item.reach)
    await ctx.live.commit(store.upload, item, change)
    if item.is_gone:
        raise errors.unknown_token()
    if item.is_full:
        raise errors.too_large(
            f"A device has at most {store.MAX_ONE_TIME_KEYS} one-time keys."
        )
    if item.refused is not None:
        raise errors.duplicate_one_time_key(item.refused.name)
    counts: JsonObject = dict(item.counts)
    return {"one_time_key_counts": counts}


class _Query(msgspec.Struct):
    device_keys: dict[str, list[str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class _Claim(msgspec.Struct):
    one_time_keys: dict[str, dict[str, str]]
    timeout: int = DEFAULT_TIMEOUT_MS


def _seconds(timeout_ms: int) -> float:
    return max(0, min(timeout_ms, MAX_TIMEOUT_MS)) / 1000


def user_of(text: str) -> UserId:
    """A user ID that stands in a body. Raises: M_INVALID_PARAM."""
    try:
        return parse_user_id(text)
    except Malformed as error:
        raise errors.invalid_param(f"{text[:64]!r}: {error}.") from None


def _check_size(users: dict[str, object]) -> None:
    if len(users) > MAX_USERS:
        raise errors.too_large(f"At most {MAX_USERS} users at once.")


@route("POST", KEYS + "/query", auth=by_access_token, limit=lookups)
async def query_keys(ctx: Context, request: ClientRequest) -> Answer:
    """Identity and cross-signing keys of users, here and elsewhere.

    Servers that do not answer in time stand in `failures`.

    Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3keysquery
    """
    body = request.body(_Query)
    _check_size(dict(body.device_keys))
    wanted: Wanted = {
        user_of(user_id): tuple(device_ids)
        for user_id, device_ids in body.device_keys.items()
    }
    found, failures = await query(ctx, wanted, request.user_id, _seconds(body.timeout))
    answer: JsonObject = {
        "device_keys": found.devices_json(),
        "failures": failures,
    }
    for name, keys in (
        ("master_keys", found.master),
        ("self_signing_keys", found.self_signing),
        ("user_signing_keys", found.user_signing),
    ):
        if keys:
            answer[name] = dict[str, JsonValue](keys)
    return answer


@route("POST", KEYS + "/claim", auth=by_access_token, limit=writes)
async def claim_keys(ctx: Context, request: ClientRequest) -> Answer:
    """One key of each device: a one-time key, else its fallback key.

    Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3keysclaim
    """
    body = request.body(_Claim)
    _check_size(dict(body.one_time_keys))
    wanted = {
        user_of(user_id): {
            DeviceId(device_id): algorithm for device_id, algorithm in devices.items()
        }
        for user_id, devices in body.one_time_keys.items()
    }
    found, failures = await claim(ctx, wanted, _seconds(body.timeout))
    return {"one_time_keys": found, "failures": failures}


@route("GET", KEYS + "/changes", auth=by_access_token, limit=lookups)
async def get_keys_changes(ctx: Context, request: ClientRequest) -> Answer:
    """Whose keys have changed between two syncs, of those who share a room.

    Raises: M_MISSING_PARAM, M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv3keyschanges
    """
    since, upto = (_position(request, name) for name in ("from", "to"))
    await ctx.live.view.wait_for_position(upto, 10)
    user = await ctx.live.user(request.user_id)
    upto = min(upto, ctx.live.position)
    found = Shares((), ())
    if since < upto:
        found = await changed_lists(ctx.db, ctx.live, user, since, upto)
    return {"changed": list(found.changed), "left": list(found.left)}


def _position(request: ClientRequest, name: str) -> int:
    try:
        return parse_point(request.query_required(name)).position
    except Malformed as error:
        raise errors.invalid_param(f"{name}: {error}.") from None
