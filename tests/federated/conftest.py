"""Servers that federate, and people on them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.sites import Site, World
from tests.support.sites import world as a_world


@pytest.fixture
async def world(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> AsyncIterator[World]:
    async with a_world(tmp_path, new_dsn) as made:
        yield made


@pytest.fixture
async def a(world: World) -> Site:
    return await world.site()


@pytest.fixture
async def b(world: World) -> Site:
    return await world.site()


@pytest.fixture
async def c(world: World) -> Site:
    return await world.site()


@pytest.fixture
async def alice(a: Site) -> Client:
    return await a.person("alice")


@pytest.fixture
async def bob(b: Site) -> Client:
    return await b.person("bob")


@pytest.fixture
async def carol(c: Site) -> Client:
    return await c.person("carol")


@pytest.fixture
async def peer(world: World) -> Peer:
    return await world.peer()
