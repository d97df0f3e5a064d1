"""Caches give back what they hold when the process is over its soft limit."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeserver import memory
from homeserver.bounded import MIB, LruCache, Memory


@dataclass
class Process:
    """A process whose caches hold what they say, beside something else."""

    held: Memory
    beside: int
    now: float = 0.0

    def resident(self) -> int:
        return self.beside + sum(each.bytes for each in self.held.held())


def made(beside: int) -> tuple[Process, LruCache[int, str], memory.Watch]:
    held = Memory()
    cache: LruCache[int, str] = LruCache("texts", 400 * MIB, MIB)
    held.add_cache(cache)
    process = Process(held, beside)
    watch = memory.Watch(
        300 * MIB, memory=held, resident=process.resident, now=lambda: process.now
    )
    return process, cache, watch


async def test_a_process_under_its_limit_is_left_alone() -> None:
    _, cache, watch = made(beside=100 * MIB)
    for number in range(190):
        cache.put(number, "")
    before = cache.cost
    await watch.look()
    assert cache.cost == before


async def test_caches_give_back_a_part_at_a_time_until_it_is_well_under() -> None:
    process, cache, watch = made(beside=100 * MIB)
    for number in range(350):
        cache.put(number, "")
    for _ in range(5):
        process.now += 1
        await watch.look()
    assert process.resident() <= 300 * MIB
    assert len(cache) >= 160  # no more than was needed
    assert 349 in cache


async def test_what_cannot_be_helped_is_not_tried_again_and_again() -> None:
    process, cache, watch = made(beside=500 * MIB)
    for number in range(100):
        cache.put(number, "")
    for _ in range(5):
        process.now += 1
        await watch.look()
        process.beside -= MIB  # nothing grows
    left = len(cache)
    assert 0 < left < 100
    process.now += 1
    cache.put(1000, "")
    await watch.look()
    assert 1000 in cache
    assert len(cache) == left + 1  # what is in use now may stay
    process.beside += 50 * MIB
    process.now += 1
    await watch.look()
    assert len(cache) <= left


async def test_no_limit_is_no_limit() -> None:
    held = Memory()
    cache: LruCache[int, str] = LruCache("texts", MIB, 100)
    held.add_cache(cache)
    cache.put(1, "")
    cache.put(2, "")
    await memory.Watch(0, memory=held, resident=lambda: 2**60).look()
    assert len(cache) == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells")
def test_what_a_real_process_frees_goes_back_to_the_system() -> None:
    program = """
import asyncio
from homeserver import memory
from homeserver.bounded import MIB, LruCache
memory.tame_allocator()
before = memory.resident_bytes()
cache = LruCache("texts", 400 * MIB, len)
for number in range(60_000):
    cache.put(number, bytes(2000))
full = memory.resident_bytes()
async def main():
    watch = memory.Watch(before + 40 * MIB)
    for _ in range(8):
        await watch.look()
asyncio.run(main())
print(before, full, memory.resident_bytes(), cache.cost)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    before, full, after, cost = map(int, done.stdout.split()[-4:])
    assert full > before + 110 * MIB
    assert after < before + 60 * MIB
    assert cost > 10 * MIB  # some of it may stay
