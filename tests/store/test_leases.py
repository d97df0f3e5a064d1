"""One holder at a time, whatever happens."""

import asyncio

from homeserver.db import leases


async def test_a_lease_has_one_holder_until_it_ends(database):
    async with database.transaction() as tx:
        assert await leases.claim(tx, "send", "one", 60)
    async with database.transaction() as tx:
        assert not await leases.claim(tx, "send", "two", 60)
        assert await leases.claim(tx, "send", "one", 0.01)  # ours: prolonged, cut short
        assert await leases.claim(tx, "other", "two", 60)
    await asyncio.sleep(0.02)
    async with database.transaction() as tx:
        assert await leases.holder_of(tx, "send") is None
        assert await leases.claim(tx, "send", "two", 60)
        assert await leases.holder_of(tx, "send") == "two"


async def test_claiming_at_once_gives_one_winner_and_never_waits(database):
    async def claim(holder):
        async with database.transaction() as tx:
            got = await leases.claim(tx, "send", holder, 60)
            await asyncio.sleep(0.05)
            return got

    for _ in range(3):
        won = await asyncio.gather(*(claim(f"h{n}") for n in range(5)))
        assert sum(won) <= 1
    async with database.read() as tx:
        assert await leases.holder_of(tx, "send") is not None


async def test_an_expired_lease_has_one_taker(database):
    async with database.transaction() as tx:
        await leases.claim(tx, "send", "dead", 0)

    async def claim(holder):
        async with database.transaction() as tx:
            got = await leases.claim(tx, "send", holder, 60)
            await asyncio.sleep(0.05)
            return got

    async with asyncio.timeout(5):
        won = await asyncio.gather(*(claim(f"h{n}") for n in range(5)))
    assert sum(won) == 1


async def test_renewing_prolongs_ours_and_tells_what_was_lost(database):
    async with database.transaction() as tx:
        await leases.claim(tx, "a", "one", 60)
        await leases.claim(tx, "b", "two", 60)
        await leases.claim(tx, "c", "one", -1)
        assert await leases.renew(tx, ["a", "b", "c"], "one", 60) == {"a"}


async def test_only_the_holder_gives_a_lease_back(database):
    async with database.transaction() as tx:
        await leases.claim(tx, "a", "one", 60)
        await leases.release(tx, ["a"], "two")
        assert await leases.holder_of(tx, "a") == "one"
        await leases.release(tx, ["a"], "one")
        assert await leases.holder_of(tx, "a") is None
