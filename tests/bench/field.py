"""The two servers that are measured, on one PostgreSQL, never at the same time."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import asyncpg
import psutil

from homeserver.db.embedded import EmbeddedPostgres
from tests.support.certificates import CertificateAuthority
from tests.support.child import cpu_seconds, resident_bytes
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.homeserver import Homeserver
from tests.support.synapse import Synapse

T = TypeVar("T")

_COUNTED: Final = 1.5  # seconds until PostgreSQL tells what its sessions did

KINDS: Final[dict[str, type[Homeserver]]] = {"hearth": Hearth, "synapse": Synapse}


class Cluster:
    """One private PostgreSQL with the durable settings that our server uses itself."""

    def __init__(self, directory: Path) -> None:
        self._server = EmbeddedPostgres(directory)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def dsn(self, database: str) -> str:
        return self._server.dsn.replace("@/hearth?", f"@/{database}?")

    async def version(self) -> str:
        return str(await self._ask("SHOW server_version"))

    async def create(self, database: str) -> str:
        """A new, empty database; how to reach it."""
        await self._ask(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        await self._ask(f'CREATE DATABASE "{database}" TEMPLATE template0')
        return self.dsn(database)

    async def _ask(self, statement: str) -> object:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def processes(self) -> list[psutil.Process]:
        main = psutil.Process(self._server.pid)
        return [main, *main.children(recursive=True)]


@dataclass
class Used:
    """What some work cost, in seconds."""

    wall: float = 0
    server_cpu: float = 0
    database_cpu: float = 0
    load_cpu: float = 0


@dataclass
class Contender:
    """One kind of server: its main instance, and what rows have prepared on it.

    A row prepares once (rooms, users) and finds it again in later rounds.
    """

    kind: str
    directory: Path
    cluster: Cluster
    authority: CertificateAuthority
    server: Homeserver = field(init=False)
    prepared: dict[str, Any] = field(default_factory=dict)
    others: int = 0

    async def make(self) -> None:
        self.server = await self.another("main")

    async def another(self, name: str) -> Homeserver:
        """A further server of this kind with a new database, not started."""
        self.others += 1
        database = await self.cluster.create(f"{self.kind}_{name}_{self.others}")
        directory = self.directory / f"{self.kind}-{name}-{self.others}"
        shutil.rmtree(directory, ignore_errors=True)
        return KINDS[self.kind](directory, self.authority, database=database)

    async def once(self, what: str, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` made in the first round."""
        if what not in self.prepared:
            self.prepared[what] = await make()
        kept: T = self.prepared[what]
        return kept

    async def people(self, label: str, count: int) -> list[Client]:
        """New users of the main server."""
        return [await self.server.registers(f"{label}{n}") for n in range(count)]

    async def cost(self, work: Callable[[], Awaitable[T]]) -> tuple[T, Used]:
        """Do something and say what it used."""
        server, database = self.server.child.family(), self.cluster.processes()
        me = [psutil.Process()]
        before = [cpu_seconds(group) for group in (server, database, me)]
        began = time.perf_counter()
        result = await work()
        wall = time.perf_counter() - began
        after = [cpu_seconds(group) for group in (server, database, me)]
        used = [now - then for now, then in zip(after, before, strict=True)]
        return result, Used(wall, *used)

    async def transactions(self) -> int:
        """How many the main server's database has seen."""
        await asyncio.sleep(_COUNTED)
        connection = await asyncpg.connect(self.server.database)
        try:
            counted = await connection.fetchval(
                """
                SELECT xact_commit + xact_rollback FROM pg_stat_database
                 WHERE datname = current_database()
                """
            )
        finally:
            await connection.close()
        return int(counted)

    def resident(self) -> int:
        return resident_bytes(self.server.child.family())


class Field:
    """Everything a run needs; what it started is gone when it ends."""

    def __init__(self, directory: Path, kinds: list[str]) -> None:
        self._directory = directory
        self._kinds = kinds
        self._stack = AsyncExitStack()
        self.contenders: list[Contender] = []
        self.cluster = Cluster(directory / "cluster")

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.cluster)
        authority = CertificateAuthority.create()
        for kind in self._kinds:
            contender = Contender(kind, self._directory, self.cluster, authority)
            await contender.make()
            self.contenders.append(contender)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def write_json(file: Path, results: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
