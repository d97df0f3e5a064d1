"""PostgreSQL servers that a test starts, kills, copies, promotes and fills up.

    primary = await Postgres.made(directory / "a")
    standby = await primary.standby(directory / "b")

They listen on 127.0.0.1, write what is committed to the operating system before they
say so, and do not wait for the disk: no test here pulls the plug of the machine.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import asyncpg
import psutil

from homeserver.db import binaries, os_user
from homeserver.db.os_user import OsUser
from tests.conftest import preferred_postgres
from tests.support.child import cpu_seconds, die_with_parent
from tests.support.homeserver import HOST, free_port

NAME: Final = "hearth"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
}
_START_SECONDS: Final = 30


class Postgres:
    """One server: its directory, its port, and its process while it runs."""

    def __init__(
        self, directory: Path, programs: Path, user: OsUser, settings: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory.with_suffix(".log")
        self.settings = dict(_SETTINGS) | dict(settings)
        self.environment: dict[str, str] = {}
        self._programs = programs
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    async def made(
        cls, directory: Path, environment: Mapping[str, str] = {}, **settings: str
    ) -> Self:
        """A new one, running, with a database for us."""
        found = binaries.find(None, prefer=preferred_postgres())
        user = os_user.choose(directory)
        directory.mkdir(parents=True, exist_ok=True)
        opened = [p for p in directory.parents if p.stat().st_uid == os.geteuid()]
        for parent in opened[:3]:  # of the test's own directory
            parent.chmod(0o711)
        found = binaries.readable_by(found, user, directory.parent)
        server = cls(directory, found.directory, user, settings)
        server.environment.update(environment)
        server._owned()
        await server._runs(
            "initdb", "-U", NAME, "-E", "UTF8", "--locale=C", "-A", "trust", "-N"
        )
        await server.start()
        connection = await asyncpg.connect(server.dsn_of("postgres"))
        await connection.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
        await connection.close()
        return server

    async def standby(self, directory: Path, **settings: str) -> "Postgres":
        """A second server that follows this one by streaming replication."""
        directory.mkdir(parents=True)
        copy = Postgres(directory, self._programs, self._user, settings)
        copy._owned()
        connection = await asyncpg.connect(self.dsn)
        await connection.execute("CHECKPOINT")
        await connection.close()
        program = self._programs / "pg_basebackup"
        if not program.exists():  # copied without it
            program = binaries.find(None, prefer=preferred_postgres()).directory
            program = program / "pg_basebackup"
        options = ("-X", "stream", "-c", "fast", "--no-sync", "-R")
        where = ("-D", str(directory), "-d", self.dsn)
        await _ends_well([str(program), *where, *options])
        copy._owned()
        name = f"application_name={directory.name}"
        conninfo = f"host={HOST} port={self.port} user={NAME} {name}"
        copy.settings["primary_conninfo"] = conninfo
        await copy.start()
        return copy

    @property
    def dsn(self) -> str:
        return self.dsn_of(NAME)

    def dsn_of(self, database: str, port: int | None = None) -> str:
        return f"postgresql://{NAME}@{HOST}:{port or self.port}/{database}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it lets us in."""
        arguments = [str(self._programs / "postgres"), "-D", str(self.directory)]
        for name, value in (self.settings | {"port": str(self.port)}).items():
            arguments += ["-c", f"{name}={value}"]
        with self.log.open("ab") as out:
            self._process = self._popen(arguments, out)
        async with asyncio.timeout(_START_SECONDS):
            while True:
                if not self.is_running:
                    raise AssertionError(f"no PostgreSQL:\n{self.log.read_text()}")
                try:
                    connection = await asyncpg.connect(self.dsn_of("postgres"))
                except (asyncpg.PostgresError, OSError):
                    await asyncio.sleep(0.02)
                else:
                    await connection.close()
                    return

    async def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT fast, SIGQUIT at once, SIGKILL without a word."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        while self.is_running:
            await asyncio.sleep(0.01)

    async def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        await self.stop(number)
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        await self.start()

    def cpu_seconds(self) -> float:
        """Processor time of all of its processes that are there now."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return cpu_seconds([main, *main.children(recursive=True)])

    async def restart_with(self, **settings: str) -> None:
        self.settings.update(settings)
        await self.restart()

    async def kill(self) -> None:
        """SIGKILL all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        await self.stop(signal.SIGKILL)

    async def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        connection = await asyncpg.connect(self.dsn)
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 30)")
        finally:
            await connection.close()

    def _owned(self) -> None:
        self.directory.chmod(0o700)
        if self._user.is_us:
            return
        for where, _, files in os.walk(self.directory):
            os.chown(where, self._user.uid, self._user.gid)
            for file in files:
                os.chown(Path(where, file), self._user.uid, self._user.gid)

    def _popen(self, arguments: list[str], out: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,  # type: ignore[arg-type] # a file
            stderr=subprocess.STDOUT,
            env=os.environ | self.environment,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - takes no lock
            cwd="/",
            **self._as_user(),
        )

    def _as_user(self) -> dict[str, int]:
        if self._user.is_us:
            return {}
        return {"user": self._user.uid, "group": self._user.gid}

    async def _runs(self, program: str, *arguments: str) -> None:
        await _ends_well(
            [str(self._programs / program), "-D", str(self.directory), *arguments],
            **self._as_user(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


async def _ends_well(arguments: list[str], **who: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        **who,  # type: ignore[arg-type] # user and group
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode(errors="replace")
