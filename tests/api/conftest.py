"""One server for the whole run of these tests; each makes users of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from homeserver.db.embedded import EmbeddedPostgres
from tests.conftest import dsn_of
from tests.support.app import Running, configuration, running
from tests.support.client import Client

_DATABASE = "api_tests"


@pytest.fixture(scope="session")
async def hearth_dsn(
    postgres: EmbeddedPostgres,
    administrator: asyncpg.Connection,
    database_template: str,
) -> str:
    """The database of the server that all share."""
    await administrator.execute(
        f"CREATE DATABASE {_DATABASE} TEMPLATE {database_template}"
    )
    return dsn_of(postgres, _DATABASE)


@pytest.fixture(scope="session")
async def hearth(
    hearth_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """The server that all share."""
    config = configuration(tmp_path_factory.mktemp("hearth"))
    async with running(config, hearth_dsn) as server:
        yield server


@pytest.fixture
async def another_process(hearth: Running, hearth_dsn: str) -> AsyncIterator[Running]:
    """A second process of the same server, as far as one test process can have it."""
    config = hearth.ctx.config
    async with running(config, hearth_dsn) as server:
        yield server


@pytest.fixture
async def another(
    new_dsn: Callable[[], Awaitable[str]], tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Starts servers configured for one test."""
    stack: list[object] = []

    async def start(dsn: str = "", **changes: object) -> Running:
        context = running(configuration(tmp_path, **changes), dsn or await new_dsn())
        stack.append(context)
        return await context.__aenter__()

    yield start
    for context in reversed(stack):
        await context.__aexit__(None, None, None)  # type: ignore[attr-defined]
        await asyncio.sleep(0)


NewPerson = Callable[..., Awaitable[Client]]


@pytest.fixture
def person(hearth: Running) -> NewPerson:
    """Makes people with a client in their hands, on the shared server or another."""

    async def make(server: Running = hearth) -> Client:
        user = await server.registers()
        return Client(
            user.http,
            user.base_url,
            user.access_token,
            user_id=user.user_id,
            device_id=user.device_id,
        )

    return make


@pytest.fixture
async def alice(person: NewPerson) -> Client:
    return await person()


@pytest.fixture
async def bob(person: NewPerson) -> Client:
    return await person()


@pytest.fixture
async def carol(person: NewPerson) -> Client:
    return await person()
