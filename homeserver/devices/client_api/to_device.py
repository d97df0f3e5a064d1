"""The endpoint by which devices send messages to devices.

Spec: client-server-api#send-to-device-messaging
"""

import secrets
from collections import defaultdict
from typing import Final

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.edu import DirectToDevice
from federation.ids import ServerName, UserId, server_of
from homeserver import errors
from homeserver.context import Context
from homeserver.devices.client_api.keys import user_of
from homeserver.devices.store import to_device as store
from homeserver.http.auth import by_access_token
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

# Sharing a room key with many devices takes many requests in a row.
messages: Final = Limit("to_device", per_second=100, burst=1000)
MAX_NAME: Final = 255
MAX_BODY: Final = 4 * 1024 * 1024

Contents = dict[UserId, dict[str, JsonObject]]


@route(
    "PUT",
    "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}",
    auth=by_access_token,
    limit=messages,
    max_body=MAX_BODY,
)
async def send_to_device(ctx: Context, request: ClientRequest) -> Answer:
    """Send a message to devices, here and on other servers; `*` means all of a user's.

    Each transaction ID of a device is good for one sending. A message that comes to a
    full inbox is left out; when all it is for are full, the sender hears of it.

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE.

    Spec: client-server-api#put_matrixclientv3sendtodeviceeventtypetxnid
    """
    event_type = request.path(str, "eventType")
    txn_id = request.path(str, "txnId")
    for name in (event_type, txn_id):
        if not 0 < len(name) <= MAX_NAME:
            raise errors.invalid_param(
                f"Types and transaction IDs have 1 to {MAX_NAME} characters."
            )
    contents = _contents(request.event_content())
    here = {
        user_id: {
            device_id: canonical_json.encode_strict(content).decode()
            for device_id, content in by_device.items()
        }
        for user_id, by_device in contents.items()
        if server_of(user_id) == ctx.server_name
    }
    message = store.Message(
        sender=request.user_id,
        type=event_type,
        seen=(request.device_id or "", f"{event_type} {txn_id}"),
        contents=here,
        edus=_edus(ctx, request.user_id, event_type, contents),
    )
    change = Change(Kind.TO_DEVICE, reach=message.reach)
    await ctx.live.commit(store.send, message, change)
    if message.full and not message.reach.users and not message.reach.servers:
        raise errors.too_large(
            "The inbox is full: the device has not fetched its messages for long."
        )
    return {}


def _contents(body: JsonObject) -> Contents:
    """The contents by user and device ID. Raises: M_BAD_JSON, M_INVALID_PARAM."""
    by_user = body.get("messages")
    if not isinstance(by_user, dict):
        raise errors.bad_json("messages: a JSON object is needed.")
    contents: Contents = {}
    for name, by_device in by_user.items():
        if not isinstance(by_device, dict):
            raise errors.bad_json("messages: each user has a JSON object.")
        of_user = contents.setdefault(user_of(name), {})
        for device_id, content in by_device.items():
            if not isinstance(content, dict):
                raise errors.bad_json("messages: each message is a JSON object.")
            if "\0" not in device_id:  # no device has such an ID
                of_user[device_id] = content
    return contents


def _edus(
    ctx: Context, sender: UserId, event_type: str, contents: Contents
) -> dict[ServerName, str]:
    """The EDU for each other server, as JSON."""
    by_server: defaultdict[ServerName, Contents] = defaultdict(dict)
    if ctx.config.federation.enabled:
        for user_id, by_device in contents.items():
            if server_of(user_id) != ctx.server_name and by_device:
                by_server[server_of(user_id)][user_id] = by_device
    return {
        server: canonical_json.encode(
            DirectToDevice(
                sender=sender,
                type=event_type,
                message_id=secrets.token_urlsafe(16),
                messages=of_server,
            )
            .to_edu()
            .json
        ).decode()
        for server, of_server in by_server.items()
    }
