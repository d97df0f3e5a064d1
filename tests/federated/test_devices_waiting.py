"""A server that is away for a moment is waited for: its devices get their keys."""

import asyncio
from typing import Any

from tests.support.api import path
from tests.support.client import Client
from tests.support.encryption import OLM, Device
from tests.support.sites import Site, World


async def test_a_claim_waits_for_a_server_that_comes_back(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    await Device(bob).publishes("one")
    world.part(a, b)
    failed = asyncio.Event()
    for process in a.processes:
        wire: Any = process.ctx.wire
        wire._failed = lambda *args, f=wire._failed: (f(*args), failed.set())
    asked = {bob.user_id: {bob.device_id: OLM}}
    claim = asyncio.create_task(
        alice.post(path("keys", "claim"), {"one_time_keys": asked, "timeout": 30_000})
    )
    async with asyncio.timeout(20):
        await failed.wait()
        assert not claim.done()
        world.heal()
        claimed = await claim
    assert claimed["failures"] == {}
    assert list(claimed["one_time_keys"][bob.user_id][bob.device_id]) == [f"{OLM}:one"]


async def test_a_claim_does_not_wait_in_vain(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    world.part(a, b)
    asked = {bob.user_id: {bob.device_id: OLM}}
    body = {"one_time_keys": asked, "timeout": 1000}
    async with asyncio.timeout(10):
        claimed = await alice.post(path("keys", "claim"), body)
    assert set(claimed["failures"]) == {b.name}
