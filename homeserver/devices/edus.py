"""What other servers tell of their users' devices, and send to ours.

Spec: server-server-api#device-management, server-server-api#end-to-end-encryption,
server-server-api#send-to-device-messaging
"""

from dataclasses import replace
from typing import Final

from federation import canonical_json, edu
from federation.canonical_json import JsonObject
from federation.edu import DeviceListUpdate, SigningKeyUpdate
from federation.errors import Malformed
from federation.ids import ServerName, server_of
from homeserver import errors
from homeserver.context import Context
from homeserver.devices import checks
from homeserver.devices.client_api.to_device import MAX_NAME
from homeserver.devices.store import remote, sharing, to_device
from homeserver.live.changes import Change, Kind

# What a user of ours could send at most, in one request.
MAX_BYTES: Final = 2**20


async def receive_message(
    ctx: Context, origin: ServerName, content: JsonObject
) -> None:
    """Put a message into the inboxes of devices of ours, unless it came before.

    Raises: Malformed.
    """
    message = edu.parse_direct_to_device(content, origin)
    if not 0 < len(message.type) <= MAX_NAME:
        raise Malformed("the type is too long")
    contents = {
        user_id: {
            device_id: canonical_json.encode_checked(each, strict=False).decode()
            for device_id, each in by_device.items()
        }
        for user_id, by_device in message.messages.items()
        if server_of(user_id) == ctx.server_name
    }
    if any(len(each) > MAX_BYTES for by in contents.values() for each in by.values()):
        raise Malformed(f"a message has more than {MAX_BYTES} bytes")
    item = to_device.Message(
        sender=message.sender,
        type=message.type,
        seen=("", message.message_id),
        contents=contents,
    )
    change = Change(Kind.TO_DEVICE, reach=item.reach)
    await ctx.live.commit(to_device.send, item, change)


async def receive_device_list_update(
    ctx: Context, origin: ServerName, content: JsonObject
) -> None:
    """A user's device changed. Raises: Malformed."""
    update = edu.parse_device_list_update(content, origin)
    if update.keys is not None and not update.deleted:
        if not checks.is_device(update.keys, update.user_id, update.device_id):
            raise Malformed("these are no keys of the device")
    else:
        _check_device_id(update.device_id)
    await _tell(ctx, update)


async def receive_signing_key_update(
    ctx: Context, origin: ServerName, content: JsonObject
) -> None:
    """A user's cross-signing keys changed. Raises: Malformed."""
    update = edu.parse_signing_key_update(content, origin)
    for key, usage in (
        (update.master_key, "master"),
        (update.self_signing_key, "self_signing"),
    ):
        if key is not None and not checks.is_cross_signing_key(
            key, update.user_id, usage
        ):
            raise Malformed(f"this is no {usage} key")
    await _tell(ctx, update)


async def _tell(ctx: Context, update: DeviceListUpdate | SigningKeyUpdate) -> None:
    """Note it, if anybody here shares a room with the user."""
    user_id = update.user_id
    async with ctx.db.read() as tx:
        if user_id not in await sharing.shared_with_us(tx, (user_id,)):
            return
    if isinstance(update, DeviceListUpdate) and update.keys is not None:
        bare: JsonObject = {k: v for k, v in update.keys.items() if k != "unsigned"}
        update = replace(update, keys=bare)
    told = remote.Told(update)
    change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=told.reach)
    await ctx.live.commit(remote.apply, told, change)


def _check_device_id(device_id: str) -> None:
    try:
        checks.check_name(device_id, "device_id")
    except errors.MatrixError as error:
        raise Malformed(error.safe_message) from None
