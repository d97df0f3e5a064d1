"""The primary dies, a standby takes over, and nobody restarts the server.

Two real PostgreSQL servers in streaming replication; what is committed is on both
before it is acknowledged (synchronous_standby_names).
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import place
from tests.faults.fleet import Fleet
from tests.faults.load import load
from tests.faults.postgres import NAME, Postgres
from tests.support.child import Child, ChildFailedError
from tests.support.homeserver import HOST, free_port

pytestmark = pytest.mark.timeout(180)
LONG = "HEARTH_SOAK" in os.environ


@dataclass
class Pair:
    """A primary and its standby."""

    directory: Path
    primary: Postgres
    standby: Postgres

    @property
    def dsn(self) -> str:
        """Both of them: whichever takes writes is meant."""
        hosts = f"{HOST}:{self.primary.port},{HOST}:{self.standby.port}"
        return f"postgresql://{NAME}@{hosts}/{NAME}?target_session_attrs=read-write"

    async def synchronous(self) -> None:
        """From now on commits wait for the standby."""
        connection = await asyncpg.connect(self.primary.dsn)
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await connection.execute("SELECT pg_reload_conf()")
        query = "SELECT sync_state FROM pg_stat_replication"
        while await connection.fetchval(query) != "sync":
            await asyncio.sleep(0.02)
        await connection.close()

    async def fails_over(self) -> None:
        """The primary dies without a word; the standby takes over."""
        await self.primary.kill()
        # What is standing by for the standby is none of this test.
        connection = await asyncpg.connect(self.standby.dsn)
        await connection.close()
        await self.standby.promote()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="hearth-pair-", dir=place()) as made:
        directory = Path(made)
        async with (
            await Postgres.made(directory / "a") as primary,
            await primary.standby(directory / "b") as standby,
        ):
            yield Pair(directory, primary, standby)


@dataclass
class Bouncer:
    """A pgbouncer, which can be led to another server."""

    directory: Path
    program: str
    mode: str
    port: int = field(default_factory=free_port)
    child: Child = field(init=False)

    def __post_init__(self) -> None:
        arguments = [self.program, "-q", str(self.directory / "pgbouncer.ini")]
        if os.geteuid() == 0:
            arguments[1:1] = ["-u", "nobody"]
        log = self.directory / "pgbouncer.log"
        self.child = Child(arguments, log=log, cwd=self.directory)

    @property
    def dsn(self) -> str:
        return f"postgresql://{NAME}@{HOST}:{self.port}/{NAME}"

    def leads_to(self, server: Postgres) -> None:
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(
            f"""
            [databases]
            {NAME} = host={HOST} port={server.port} user={NAME}
            [pgbouncer]
            listen_addr = {HOST}
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = any
            pool_mode = {self.mode}
            default_pool_size = 40
            admin_users = {NAME}
            server_login_retry = 1
            """
        )
        configuration.chmod(0o644)
        if self.child.is_running:
            os.kill(self.child.pid, signal.SIGHUP)
        else:
            self.child.start()


@pytest.fixture
async def bouncer(pair: Pair, request: pytest.FixtureRequest) -> AsyncIterator[Bouncer]:
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("no pgbouncer")
    made = Bouncer(pair.directory, program, request.param)
    made.leads_to(pair.primary)
    yield made
    await made.child.kill()


@pytest.mark.skipif(not LONG, reason="in `make soak`")
@pytest.mark.parametrize("bouncer", ["session"], indirect=True)
async def test_pgbouncer_in_front(pair: Pair, bouncer: Bouncer) -> None:
    """It is led to the standby that has taken over."""
    async with Fleet(pair.directory, 1, bouncer.dsn) as fleet:
        await pair.synchronous()
        async with load(fleet, talkers=3) as people:
            await pair.fails_over()
            bouncer.leads_to(pair.standby)
            await people.goes_on()
        fleet.assert_said("the database answers again")


@pytest.mark.skipif(not LONG, reason="in `make soak`")
@pytest.mark.parametrize("bouncer", ["transaction"], indirect=True)
async def test_pooling_by_transaction_is_refused(pair: Pair, bouncer: Bouncer) -> None:
    fleet = Fleet(pair.directory, 1, bouncer.dsn)
    with pytest.raises(ChildFailedError, match="pool_mode = session"):
        await fleet[0].start()


async def test_a_standby_takes_over_and_nothing_is_lost(pair: Pair) -> None:
    async with Fleet(pair.directory, 1, pair.dsn) as fleet:
        await pair.synchronous()
        async with load(fleet, talkers=3) as people:
            await pair.fails_over()
            took = await people.goes_on(1)
        sys.stdout.write(f"\n{took:.1f} s from the promotion until all went on\n")
        fleet.assert_said("the database fails", "the database answers again")


@pytest.mark.skipif(not LONG, reason="in `make soak`")
async def test_a_standby_that_lacks_something_is_noticed(pair: Pair) -> None:
    """Without synchronous replication the last is lost; nobody goes on as if not."""
    async with Fleet(pair.directory, 1, pair.dsn) as fleet:
        alice = await fleet.registers("alice")
        room = await alice.creates_room()
        await alice.syncs()
        connection = await asyncpg.connect(pair.primary.dsn)
        arrived = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) <= 0"
        while not await connection.fetchval(f"{arrived} FROM pg_stat_replication"):
            await asyncio.sleep(0.02)
        await connection.close()
        await pair.standby.restart_with(primary_conninfo="")
        for n in range(10):
            await alice.sends(room, f"lost {n}")
        await alice.syncs()
        await pair.fails_over()
        async with asyncio.timeout(60):
            while not started_anew(fleet.logs()):
                await asyncio.sleep(0.05)
        await fleet[0].answers()
        await fleet[0].close_connections()
        kept = await alice.sends(room, "kept")
        # Her token is of what is lost; what is new comes after it.
        await alice.sees_id(room, kept)
        shown = [e["content"].get("body") for e in await alice.history(room)]
        assert [body for body in shown if body] == ["kept"]


def started_anew(logs: str) -> bool:
    _, found, after = logs.partition("the database has lost what it had acknowledged")
    return bool(found) and "http.server: listening" in after
