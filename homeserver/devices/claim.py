"""Claiming one key of each device, here and on all other servers at once.

Spec: client-server-api#post_matrixclientv3keysclaim
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import DeviceId, ServerName, UserId, server_of
from federation.wire.calls_queries import claim_user_encryption_keys
from homeserver.context import Context
from homeserver.devices import bridged
from homeserver.devices.elsewhere import ask_all
from homeserver.devices.store import keys as store
from homeserver.devices.store.keys import Claim
from homeserver.live.changes import Change, Kind

Wanted = Mapping[UserId, Mapping[DeviceId, str]]

_AT_ONCE: Final = 256


async def claim(
    ctx: Context, wanted: Wanted, seconds: float
) -> tuple[JsonObject, JsonObject]:
    """Keys by user, device and name, and servers that did not answer in time."""
    by_server: defaultdict[ServerName, dict[UserId, Mapping[DeviceId, str]]]
    by_server = defaultdict(dict)
    for user_id, devices in wanted.items():
        by_server[server_of(user_id)][user_id] = devices
    ours = by_server.pop(ctx.server_name, {})
    found = await claim_here(ctx, ours)

    async def ask(server: ServerName, users: Wanted) -> None:
        question = {
            user_id: {str(device_id): name for device_id, name in devices.items()}
            for user_id, devices in users.items()
        }
        answer = await claim_user_encryption_keys(ctx.wire, server, question)
        for user_id, devices in answer.items():
            # Of the devices that were asked for, and nobody else's.
            found[user_id] = {
                device_id: dict(keys)
                for device_id, keys in devices.items()
                if DeviceId(device_id) in users.get(user_id, ())
            }

    failures = await ask_all(ctx, by_server, ask, seconds)
    return {user_id: keys for user_id, keys in found.items() if keys}, failures


async def claim_here(ctx: Context, wanted: Wanted) -> JsonObject:
    """Keys of devices of ours; devices without any are left out."""
    given = await bridged.claim(ctx, wanted)
    found: JsonObject = {user_id: {**keys} for user_id, keys in given.items()}
    claims = []
    for user_id, devices in wanted.items():
        had = given.get(user_id, {})
        left = {each: name for each, name in devices.items() if each not in had}
        if left:
            claims.append(Claim(user_id, left))
    for start in range(0, len(claims), _AT_ONCE):
        some = claims[start : start + _AT_ONCE]
        await asyncio.gather(
            *(
                ctx.live.commit(
                    store.claim, each, Change(Kind.DEVICE_KEYS, user_id=each.user_id)
                )
                for each in some
            )
        )
        for each in some:
            if each.found:
                found[each.user_id] = {
                    **given.get(each.user_id, {}),
                    **{
                        device_id: {name: orjson.loads(key)}
                        for device_id, (name, key) in each.found.items()
                    },
                }
    return found
