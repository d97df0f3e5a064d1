"""Messages to the device that syncs.

Spec: client-server-api#send-to-device-messaging
"""

import orjson

from federation.canonical_json import JsonObject
from federation.ids import DeviceId
from homeserver.devices import inbox
from homeserver.devices.inbox import Inbox
from homeserver.live.room import User
from homeserver.sync.request import Sources, SyncRequest


async def read(sources: Sources, request: SyncRequest, user: User, upto: int) -> Inbox:
    """The messages that wait; those that the token acknowledges are deleted."""
    device_id = request.viewer.device_id
    if device_id is None:
        return Inbox()
    return await inbox.read(
        sources.db, sources.live, user, DeviceId(device_id), request.inbox, upto
    )


def section(found: Inbox) -> JsonObject:
    """The section `to_device`."""
    return {
        "events": [
            {
                "sender": each.sender,
                "type": each.type,
                "content": orjson.Fragment(each.content),  # type: ignore[dict-item]
            }
            for each in found.messages
        ]
    }
