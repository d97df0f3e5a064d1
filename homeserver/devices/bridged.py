"""Keys that application services keep themselves: asked for when they are wanted.

Only a service that has reserved a user alone is asked. One that does not know the path
is not asked again for a while. MSC3983, MSC3984.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import orjson
import structlog

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import DeviceId, UserId
from homeserver.appservices.calls import ServiceFailed
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.bounded import KIB, LruCache, Worth
from homeserver.context import Context
from homeserver.devices import checks
from homeserver.devices.store import keys as store
from homeserver.devices.store.query import FoundKeys

_SECONDS: Final = 5.0
_UNKNOWN_SECONDS: Final = 600.0
_SERVICES: Final = 256 * KIB
_CLAIM: Final = "org.matrix.msc3983"
_QUERY: Final = "org.matrix.msc3984"

log = structlog.get_logger(__name__)
# When services that did not know a path may be asked again, by the process's clock.
_unknown: "WeakKeyDictionary[Services, LruCache[tuple[str, str], float]]" = (
    WeakKeyDictionary()
)


async def _ask(
    ctx: Context, service: Service, proposal: str, what: str, question: object
) -> JsonObject:
    """What a service answers; empty when it has no answer."""
    services = ctx.parts.get(Services)
    unknown = _unknown.get(services)
    if unknown is None:
        unknown = _unknown[services] = LruCache(
            "services without keys", _SERVICES, 150, Worth.NEEDED
        )
    key, now = (service.service_id, proposal), ctx.clock.monotonic()
    if service.url is None or (unknown.get(key) or 0) > now:
        return {}
    try:
        answer = await services.calls.ask(
            service,
            "POST",
            "keys",
            what,
            body=orjson.dumps(question),
            seconds=_SECONDS,
            base=f"/_matrix/app/unstable/{proposal}",
        )
    except ServiceFailed as error:
        log.info("a service gives no keys", service=service.service_id, reason=error)
        return {}
    if answer.status in (404, 405):
        unknown.put(key, now + _UNKNOWN_SECONDS)
    found = answer.json
    return found if answer.status == 200 and isinstance(found, dict) else {}


def _owned(ctx: Context, users: Iterable[UserId]) -> list[tuple[Service, list[UserId]]]:
    """The services that have reserved some of these users, with those."""
    wanted = list(users)
    found = []
    for service in ctx.parts.get(Services).all:
        own = [user_id for user_id in wanted if service.owns_user(user_id)]
        if own:
            found.append((service, own))
    return found


# ── Claiming ─────────────────────────────────────────────────────────────────────────


async def claim(
    ctx: Context, wanted: Mapping[UserId, Mapping[DeviceId, str]]
) -> dict[UserId, JsonObject]:
    """Keys of devices that have none left here, by user and device. MSC3983."""
    found: dict[UserId, JsonObject] = {}

    async def ask(service: Service, users: Sequence[UserId]) -> None:
        lacking = await _lacking(ctx, users, wanted)
        if not lacking:
            return
        question = {
            user_id: {device_id: [name] for device_id, name in devices.items()}
            for user_id, devices in lacking.items()
        }
        answer = await _ask(ctx, service, _CLAIM, "claim", question)
        for user_id, devices in lacking.items():
            for device_id, name in devices.items():
                key = _key_in(answer, user_id, device_id, name)
                if key is not None:
                    found.setdefault(user_id, {})[device_id] = key

    await asyncio.gather(*(ask(*each) for each in _owned(ctx, wanted)))
    return found


async def _lacking(
    ctx: Context,
    users: Sequence[UserId],
    wanted: Mapping[UserId, Mapping[DeviceId, str]],
) -> dict[UserId, dict[DeviceId, str]]:
    """Devices of which no one-time key is left here."""
    found: dict[UserId, dict[DeviceId, str]] = {}
    async with ctx.db.read() as tx:
        for user_id in users:
            for device_id, name in wanted[user_id].items():
                counts = await store.one_time_key_counts(tx, user_id, device_id)
                if not counts.get(name):
                    found.setdefault(user_id, {})[device_id] = name
    return found


def _key_in(
    answer: JsonObject, user_id: UserId, device_id: DeviceId, name: str
) -> JsonObject | None:
    """The first key of that kind which the service gave for the device."""
    devices = answer.get(user_id)
    keys = devices.get(device_id) if isinstance(devices, dict) else None
    for key_id, key in keys.items() if isinstance(keys, dict) else ():
        if key_id.startswith(f"{name}:") and isinstance(key, dict | str):
            return {key_id: key}
    return None


# ── Asking for identity keys ─────────────────────────────────────────────────────────


async def query(
    ctx: Context, wanted: Mapping[UserId, Sequence[str]], found: FoundKeys
) -> None:
    """Put what services say of their users over what is known here. MSC3984."""

    async def ask(service: Service, users: Sequence[UserId]) -> None:
        question = {user_id: list(wanted[user_id]) for user_id in users}
        answer = await _ask(ctx, service, _QUERY, "query", question)
        for user_id in users:
            _merge(answer, user_id, wanted[user_id], found)

    await asyncio.gather(*(ask(*each) for each in _owned(ctx, wanted)))


def _merge(
    answer: JsonObject, user_id: UserId, device_ids: Sequence[str], found: FoundKeys
) -> None:
    devices = _of(answer, "device_keys", user_id)
    for device_id, keys in devices.items():
        if device_ids and device_id not in device_ids:
            continue
        if isinstance(keys, dict) and checks.is_device(keys, user_id, device_id):
            found.devices.setdefault(user_id, {})[device_id] = keys
    for name, kept, usage in (
        ("master_keys", found.master, "master"),
        ("self_signing_keys", found.self_signing, "self_signing"),
    ):
        key = _of(answer, name, user_id)
        if key and checks.is_cross_signing_key(key, user_id, usage):
            kept[user_id] = key


def _of(answer: JsonObject, name: str, user_id: UserId) -> JsonObject:
    section: JsonValue = answer.get(name)
    value = section.get(user_id) if isinstance(section, dict) else None
    return value if isinstance(value, dict) else {}
