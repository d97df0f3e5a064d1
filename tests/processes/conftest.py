"""Two processes' worth of one server, in the tests' own process."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import asyncpg
import pytest

from homeserver.db.embedded import EmbeddedPostgres
from tests.conftest import dsn_of
from tests.support.app import Running, User, configuration, running

_DATABASE = "pair_of_processes"


@dataclass
class Pair:
    """Two instances on one database."""

    one: Running
    two: Running
    dsn: str

    def at_two(self, user: User) -> User:
        """The same user and token, at the other process."""
        session = self.two.session
        return replace(user, http=lambda: session, base_url=self.two.base_url)


@pytest.fixture(scope="module")
async def pair(
    postgres: EmbeddedPostgres,
    administrator: asyncpg.Connection,
    database_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Pair]:
    await administrator.execute(
        f"CREATE DATABASE {_DATABASE} TEMPLATE {database_template}"
    )
    dsn = dsn_of(postgres, _DATABASE)
    config = configuration(tmp_path_factory.mktemp("pair"))
    async with running(config, dsn) as one, running(config, dsn) as two:
        yield Pair(one, two, dsn)
    await administrator.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
