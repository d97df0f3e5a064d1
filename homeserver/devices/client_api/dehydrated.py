"""Endpoints about dehydrated devices, which receive while their user is away.

They are not in the specification yet (MSC3814).
"""

from typing import Final

import msgspec
import orjson

from federation.canonical_json import JsonObject
from federation.ids import DeviceId
from homeserver import errors
from homeserver.accounts.sessions import check_device, end_sessions
from homeserver.context import Context
from homeserver.devices import checks, inbox
from homeserver.devices.store import dehydrated as store
from homeserver.devices.store import to_device
from homeserver.devices.store.dehydrated import Dehydrated, NewDehydrated
from homeserver.devices.store.keys import Upload
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

DEHYDRATED: Final = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
EVENTS: Final = DEHYDRATED + "/{device_id}/events"
MAX_DATA: Final = 512 * 1024


class _New(msgspec.Struct):
    device_id: str
    device_data: dict[str, object]
    device_keys: dict[str, object]
    one_time_keys: dict[str, object] = {}
    fallback_keys: dict[str, object] = {}
    initial_device_display_name: str | None = None


@route("PUT", DEHYDRATED, auth=by_access_token, limit=writes)
async def put_dehydrated_device(ctx: Context, request: ClientRequest) -> Answer:
    """Leave a dehydrated device, instead of the one before.

    Raises: M_BAD_JSON; M_INVALID_PARAM, also when another device has its ID.
    """
    body = request.body(_New)
    raw = request.json_object()
    check_device(body.device_id, body.initial_device_display_name)
    device_id, user_id = DeviceId(body.device_id), request.user_id
    device_keys = checks.device_keys(raw["device_keys"], user_id, device_id)
    device_data = orjson.dumps(body.device_data)
    if len(device_data) > MAX_DATA:
        raise errors.too_large(f"device_data: at most {MAX_DATA} bytes.")
    upload = Upload(
        user_id,
        device_id,
        checks.stored(device_keys, "device_keys"),
        checks.one_time_keys(raw.get("one_time_keys"), "one_time_keys"),
        checks.one_time_keys(raw.get("fallback_keys"), "fallback_keys"),
    )
    if len({key.algorithm for key in upload.fallback_keys}) < len(upload.fallback_keys):
        raise errors.invalid_param("fallback_keys: one key for each algorithm.")
    new = NewDehydrated(upload, device_data.decode(), body.initial_device_display_name)
    async with ctx.db.read() as tx:
        old = await store.find(tx, user_id)
        if (old is None or old.device_id != device_id) and await store.is_device(
            tx, user_id, device_id
        ):
            raise _taken()
    change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=upload.reach)
    await ctx.live.commit(store.put, new, change)
    if new.is_taken:
        raise _taken()
    return {"device_id": device_id}


def _taken() -> errors.MatrixError:
    return errors.invalid_param("device_id: another device of yours has this ID.")


async def _find(ctx: Context, request: ClientRequest) -> Dehydrated:
    """The user's dehydrated device. Raises: M_NOT_FOUND."""
    async with ctx.db.read() as tx:
        found = await store.find(tx, request.user_id)
    if found is None:
        raise errors.not_found("You have no dehydrated device.")
    return found


@route("GET", DEHYDRATED, auth=by_access_token)
async def get_dehydrated_device(ctx: Context, request: ClientRequest) -> Answer:
    """The dehydrated device, to be brought back to life. Raises: M_NOT_FOUND."""
    found = await _find(ctx, request)
    return {
        "device_id": found.device_id,
        "device_data": orjson.loads(found.device_data),
    }


@route("DELETE", DEHYDRATED, auth=by_access_token, limit=writes)
async def delete_dehydrated_device(ctx: Context, request: ClientRequest) -> Answer:
    """Delete the dehydrated device. Raises: M_NOT_FOUND."""
    found = await _find(ctx, request)
    await end_sessions(ctx.live, request.user_id, (found.device_id,))
    return {"device_id": found.device_id}


@route("GET", EVENTS, auth=by_access_token)
async def get_dehydrated_device_events(ctx: Context, request: ClientRequest) -> Answer:
    """Messages to the dehydrated device, page by page; all of them stay.

    Raises: M_FORBIDDEN, when it is not the user's dehydrated device; M_INVALID_PARAM.
    """
    device_id = request.path(DeviceId, "device_id")
    async with ctx.db.read() as tx:
        found = await store.find(tx, request.user_id)
    if found is None or found.device_id != device_id:
        raise errors.forbidden("This is not your dehydrated device.")
    after = _after(request.query_str("from"))
    async with ctx.db.read() as tx:
        waiting = await to_device.take(
            tx, request.user_id, device_id, after, ctx.live.position, delete=False
        )
    page = inbox.portion(waiting)
    answer: JsonObject = {
        "events": [
            {
                "sender": each.sender,
                "type": each.type,
                "content": orjson.loads(each.content),
            }
            for each in page.messages
        ]
    }
    if page.upto is not None:
        answer["next_batch"] = str(page.upto)
    return answer


def _after(token: str | None) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) <= 18):
        raise errors.invalid_param("from: this is not a token of this server.")
    return int(token)
