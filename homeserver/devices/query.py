"""Identity and cross-signing keys of anybody, asked of all servers at once.

Spec: client-server-api#post_matrixclientv3keysquery
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import ServerName, UserId, server_of
from federation.query_bodies import UserKeys
from federation.wire.calls_queries import query_user_encryption_keys
from federation.wire.errors import WireError
from homeserver.accounts.store.device_lists import own_signatures, signed
from homeserver.context import Context
from homeserver.devices import bridged, checks
from homeserver.devices.elsewhere import ask_all
from homeserver.devices.following import fetch
from homeserver.devices.store import query as store
from homeserver.devices.store import remote, sharing
from homeserver.devices.store.query import FoundKeys

Wanted = Mapping[UserId, Sequence[str]]  # no device IDs mean all

_AT_ONCE: Final = 10  # requests to one server


async def query(
    ctx: Context, wanted: Wanted, viewer: UserId, seconds: float
) -> tuple[FoundKeys, JsonObject]:
    """The keys as the viewer may see them, and servers that did not answer in time."""
    ours = {u: ids for u, ids in wanted.items() if server_of(u) == ctx.server_name}
    others = [user_id for user_id in wanted if user_id not in ours]
    found = FoundKeys()
    failures: JsonObject = {}
    if ours:
        async with ctx.db.snapshot() as tx:
            found = await store.local_keys(tx, ours, viewer)
        await bridged.query(ctx, ours, found)
    if others:
        elsewhere = FoundKeys()
        failures = await _query_others(ctx, others, seconds, elsewhere)
        _keep_wanted(elsewhere, wanted)
        async with ctx.db.read() as tx:
            signatures = await own_signatures(tx, others, viewer)
        for user_id, key in elsewhere.master.items():
            public = checks.public_key_of(key, "master_key")
            added = signatures.get((user_id, public), ())
            elsewhere.master[user_id] = signed(key, added)
        found.add(elsewhere)
    return found, failures


def _keep_wanted(found: FoundKeys, wanted: Wanted) -> None:
    for user_id, device_ids in wanted.items():
        if device_ids and user_id in found.devices:
            found.devices[user_id] = {
                device_id: keys
                for device_id, keys in found.devices[user_id].items()
                if device_id in device_ids
            }


async def _query_others(
    ctx: Context,
    users: Sequence[UserId],
    seconds: float,
    found: FoundKeys,
) -> JsonObject:
    async with ctx.db.snapshot() as tx:
        shared = await sharing.shared_with_us(tx, users)
        found.add(await remote.good_keys(tx, list(shared)))
    missing: defaultdict[ServerName, list[UserId]] = defaultdict(list)
    for user_id in users:
        if user_id not in found.devices:
            missing[server_of(user_id)].append(user_id)

    async def ask(server: ServerName, of_server: list[UserId]) -> None:
        await _ask(ctx, server, of_server, shared, found)

    return await ask_all(ctx, missing, ask, seconds)


async def _ask(
    ctx: Context,
    server: ServerName,
    users: Sequence[UserId],
    shared: set[UserId],
    found: FoundKeys,
) -> None:
    """Ask one server. Raises: WireError, when any of the users could not be asked."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def follow(user_id: UserId) -> WireError | None:
        async with slots:
            try:
                found.add(await fetch(ctx, user_id))
            except WireError as error:
                return error
        return None

    strangers = [user_id for user_id in users if user_id not in shared]
    followed = [follow(user_id) for user_id in users if user_id in shared]
    problems = await asyncio.gather(*followed)
    if strangers:
        answer = await query_user_encryption_keys(
            ctx.wire, server, dict.fromkeys(strangers, ())
        )
        _take(found, answer, strangers)
    for problem in problems:
        if problem is not None:
            raise problem


def _take(found: FoundKeys, answer: UserKeys, asked: Sequence[UserId]) -> None:
    """What an answer says of those who were asked for, if it can be passed on."""
    for user_id in asked:
        devices = answer.device_keys.get(user_id)
        if devices is None:
            continue
        found.devices[user_id] = {}
        for device_id, keys in devices.items():
            if checks.is_device(keys, user_id, device_id):
                bare: JsonObject = {k: v for k, v in keys.items() if k != "unsigned"}
                found.devices[user_id][device_id] = bare
                name = _name_of(keys.get("unsigned"))
                if name is not None:
                    found.names[user_id, device_id] = name
        for keys_of, kept, usage in (
            (answer.master_keys, found.master, "master"),
            (answer.self_signing_keys, found.self_signing, "self_signing"),
        ):
            key = keys_of.get(user_id)
            if key is not None and checks.is_cross_signing_key(key, user_id, usage):
                kept[user_id] = key


def _name_of(unsigned: JsonValue) -> str | None:
    name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
    return name if isinstance(name, str) else None
