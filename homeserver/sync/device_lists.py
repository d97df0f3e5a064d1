"""Whose devices changed, and how many keys the own device has left.

Spec: client-server-api#e2e-extensions-to-sync
"""

from federation.canonical_json import JsonObject
from federation.ids import DeviceId
from homeserver.devices.key_counts import key_counts
from homeserver.devices.sharing import changed_lists
from homeserver.devices.store.keys import DeviceCounts
from homeserver.live.room import User
from homeserver.sync.request import Sources, SyncRequest


async def read(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> JsonObject:
    """The section `device_lists`; empty when nothing changed, and at first."""
    if request.since is None:
        return {}
    found = await changed_lists(sources.db, sources.live, user, request.since, upto)
    if not found.changed and not found.left:
        return {}
    return {"changed": list(found.changed), "left": list(found.left)}


async def counts(sources: Sources, request: SyncRequest) -> DeviceCounts:
    """The keys that the device has left, which every answer tells."""
    viewer = request.viewer
    if viewer.device_id is None:
        return DeviceCounts()
    counts_of = key_counts(sources.db, sources.live)
    return await counts_of.of(viewer.user_id, DeviceId(viewer.device_id))


def counts_sections(found: DeviceCounts) -> JsonObject:
    """The sections with the counts of keys."""
    return {
        "device_one_time_keys_count": dict(found.one_time_keys),
        "device_unused_fallback_key_types": list(found.unused_fallback_keys),
    }
