"""What encryption asks of a server: keys, and messages to devices.

The sizes are those of the issue: 500 devices, and 10,000 messages that wait for one.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from federation.canonical_json import JsonObject
from tests.bench.field import Contender
from tests.bench.load import Connection, percentile
from tests.bench.rows import Figure, Row, Scale
from tests.support.client import Client
from tests.support.encryption import OLM, Device

DEVICES: Final = 500
WAITING: Final = 10_000
KEYS: Final = 50  # that a client uploads at once
ROUND: Final = 20
_AT_ONCE: Final = 8

_V3: Final = "/_matrix/client/v3"
_numbers = itertools.count()


async def _together(work: list[Callable[[], Awaitable[object]]]) -> list[float]:
    """Do all of it, a few at a time; how long each took."""
    slots = asyncio.Semaphore(_AT_ONCE)
    took: list[float] = []

    async def one(job: Callable[[], Awaitable[object]]) -> None:
        async with slots:
            began = time.perf_counter()
            await job()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*map(one, work))
    return took


async def _post(client: Client, where: str, body: JsonObject) -> Any:
    async with Connection(client) as connection:
        reply = await connection.call("POST", _V3 + where, json.dumps(body).encode())
    return orjson.loads(reply)


async def _people_with_keys(contender: Contender) -> list[Device]:
    """500 users of one device each, with identity keys, who share a room."""

    async def make() -> list[Device]:
        devices: list[Device] = []
        slots = asyncio.Semaphore(_AT_ONCE)

        async def come(n: int) -> None:
            async with slots:
                who = await contender.server.registers(f"keeper{n}")
                device = Device(who)
                await device.uploads(device_keys=device.keys())
                devices.append(device)

        await asyncio.gather(*(come(n) for n in range(DEVICES)))
        return devices

    return await contender.once("keepers", make)


async def keys_upload(contender: Contender, scale: Scale) -> list[Figure]:
    """50 one-time keys of a device, uploaded by 500 devices, 8 at a time"""
    devices = await _people_with_keys(contender)
    jobs = [_upload(device) for device in devices]
    took, used = await contender.cost(lambda: _together(jobs))
    return [
        Figure("p50", percentile(took, 0.5) * 1000, "ms"),
        Figure("rate", len(took) / used.wall, "/s", more_is_better=True),
        Figure("server CPU", used.server_cpu / len(took) * 1000, "ms", judged=False),
    ]


def _upload(device: Device) -> Callable[[], Awaitable[object]]:
    names = [f"k{next(_numbers):08}" for _ in range(KEYS)]
    body: JsonObject = {"one_time_keys": device.one_time_keys(*names)}
    return lambda: _post(device.user, "/keys/upload", body)


async def keys_query(contender: Contender, scale: Scale) -> list[Figure]:
    """Keys of 500 devices in one query"""
    devices = await _people_with_keys(contender)
    body: JsonObject = {"device_keys": {d.user.user_id: [] for d in devices}}
    took = []
    for _ in range(ROUND):
        began = time.perf_counter()
        reply = await _post(devices[0].user, "/keys/query", body)
        took.append(time.perf_counter() - began)
        assert len(reply["device_keys"]) == DEVICES
    return [Figure("p50", percentile(took, 0.5) * 1000, "ms")]


async def keys_claim(contender: Contender, scale: Scale) -> list[Figure]:
    """A one-time key of each of 500 devices in one claim"""
    devices = await _people_with_keys(contender)
    await _together([_upload(device) for device in devices])
    body: JsonObject = {
        "one_time_keys": {d.user.user_id: {d.user.device_id: OLM} for d in devices}
    }
    took = []
    for _ in range(ROUND):
        began = time.perf_counter()
        reply = await _post(devices[0].user, "/keys/claim", body)
        took.append(time.perf_counter() - began)
        assert len(reply["one_time_keys"]) == DEVICES
    return [Figure("p50", percentile(took, 0.5) * 1000, "ms")]


async def _send(connection: Connection, messages: JsonObject) -> None:
    where = f"{_V3}/sendToDevice/m.room.encrypted/b{next(_numbers)}"
    await connection.call("PUT", where, json.dumps({"messages": messages}).encode())


def _content() -> JsonObject:
    """About as large as an encrypted room key."""
    return {"algorithm": "m.olm.v1.curve25519-aes-sha2", "body": "x" * 900}


async def send_to_device(contender: Contender, scale: Scale) -> list[Figure]:
    """One message for each of 500 devices, as a room key is shared"""
    devices = await _people_with_keys(contender)
    messages: JsonObject = {
        d.user.user_id: {d.user.device_id: _content()} for d in devices
    }
    took = []
    async with Connection(devices[0].user) as connection:
        for _ in range(ROUND):
            began = time.perf_counter()
            await _send(connection, messages)
            took.append(time.perf_counter() - began)
    return [Figure("p50", percentile(took, 0.5) * 1000, "ms")]


async def waiting_messages(contender: Contender, scale: Scale) -> list[Figure]:
    """The first sync of a device that 10,000 messages wait for, and all of them"""
    number = next(_numbers)
    (sender, reader) = await contender.people(f"waiting{number}n", 2)
    messages: JsonObject = {reader.user_id: {reader.device_id: _content()}}

    async def some(count: int) -> None:
        async with Connection(sender) as connection:
            for _ in range(count):
                await _send(connection, messages)

    await asyncio.gather(*(some(WAITING // _AT_ONCE) for _ in range(_AT_ONCE)))
    async with Connection(reader) as connection:
        began = time.perf_counter()
        reply = await connection.sync()
        first = time.perf_counter() - began
        got = len(reply["to_device"]["events"])
        while got < WAITING:
            reply = await connection.sync(reply["next_batch"])
            got += len(reply.get("to_device", {}).get("events", ()))
        everything = time.perf_counter() - began
    return [
        Figure("first", first * 1000, "ms"),
        Figure("all", everything * 1000, "ms"),
    ]


ROWS: Final[dict[str, Row]] = {
    "keys_upload": keys_upload,
    "keys_query": keys_query,
    "keys_claim": keys_claim,
    "send_to_device": send_to_device,
    "waiting_messages": waiting_messages,
}
