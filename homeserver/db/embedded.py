"""The private PostgreSQL of a data directory: made, started, kept running, stopped.

    async with EmbeddedPostgres(data_dir, report=print) as server:
        pool = await asyncpg.create_pool(server.dsn)

Under the data directory: `postgres/` (the database), `postgres.log`, `postgres.lock`.
It listens on a Unix socket only. It belongs to one process at a time and ends with it,
however that ends; when PostgreSQL itself is killed, it is started again.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self
from urllib.parse import quote

import asyncpg

from homeserver.db import binaries, cluster, guard, os_user, postmaster
from homeserver.db.errors import DatabaseError
from homeserver.db.log_file import LogFile
from homeserver.db.owner import Owner, OwnerLock
from homeserver.db.server_process import (
    CAN_FOLLOW_PARENT,
    GuardedProcess,
    Launcher,
    NotStarted,
    await_ready,
    describe,
)

Report = Callable[[str], None]

OWNER_PATIENCE: Final = 15.0  # for another process that is about to leave
LINGERER_PATIENCE: Final = 90.0  # for the server of a process that was killed
START_PATIENCE: Final = 900.0  # recovery after a crash may take its time
LEFTOVERS_PATIENCE: Final = 30.0  # for what a killed server leaves behind
INITDB_PATIENCE: Final = 300.0
MAX_FAILURES: Final = 8  # in a row; after that it is not kept running
LEAST_ROOM: Final = 32 * 1024 * 1024  # PostgreSQL needs two files of its log to start
STEADY_SECONDS: Final = 60.0  # a server that ran so long was not failing
TEMPORARY_PREFIX: Final = "hearth-"


def _say_nothing(_: str) -> None:
    pass


class EmbeddedPostgres:
    """A context manager around the data directory's own PostgreSQL.

    `report` is told each step in a few words. `settings` override the server's
    (tests); `prefer` says whose programs a new data directory gets, "system" or
    "wheel". `watcher` is the guard for systems where the kernel does not end a child
    with its parent.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        report: Report = _say_nothing,
        settings: Mapping[str, str] | None = None,
        prefer: str = "system",
        watcher: bool = not CAN_FOLLOW_PARENT,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._report = report
        self._settings = dict(settings or {})
        self._prefer = prefer
        self._watcher = watcher
        self._cluster = self._data_dir / "postgres"
        self._log = LogFile(self._data_dir / "postgres.log")
        self._lock = OwnerLock(self._data_dir)
        self._socket_directory: Path | None = None
        self._temporary: Path | None = None
        self._process: GuardedProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def dsn(self) -> str:
        """What to connect to; the same for as long as the context lasts."""
        return self._dsn_of(cluster.DATABASE)

    @property
    def pid(self) -> int:
        """The process of the server that runs now, or ran last."""
        if self._process is None:
            raise DatabaseError("PostgreSQL has not been started")
        return self._process.pid

    async def watch(self) -> NoReturn:
        """Wait for as long as PostgreSQL can be kept running.

        Raises: DatabaseError when it can no longer.
        """
        if self._supervisor is None:
            raise DatabaseError("PostgreSQL has not been started")
        await asyncio.shield(self._supervisor)
        raise DatabaseError("PostgreSQL has been stopped")

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except OSError as error:
            await self._stop()
            # Of another user, on a full disk, gone: what it is about says enough.
            raise DatabaseError(f"{error.filename}: {error.strerror}") from error
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    # ── Start ──

    async def _start(self) -> None:
        self._make_data_dir()
        await self._take_lock()
        user = os_user.choose(self._cluster)
        major = postmaster.major_version(self._cluster)
        programs = await asyncio.to_thread(binaries.find, major, prefer=self._prefer)
        if not user.can_read(programs.postgres):
            self._report(f"copying PostgreSQL where the user {user.name} can read it")
            programs = await asyncio.to_thread(
                binaries.readable_by, programs, user, self._data_dir
            )
        launcher = Launcher(user, self._watcher)
        await self._see_off_former_server()
        if major is None:
            self._report(f"making the database ({programs})")
            await self._make_cluster(programs, launcher)
        self._choose_socket_directory(launcher)
        self._report(f"starting {programs}")
        await self._launch(programs, launcher)
        await self._make_database()
        self._lock.announce(Owner(os.getpid(), self.dsn, str(self._socket_directory)))
        self._supervisor = asyncio.create_task(self._keep_running(programs, launcher))
        self._tasks = [self._supervisor, asyncio.create_task(self._log.keep_short())]

    def _make_data_dir(self) -> None:
        # Others may pass through (the user that runs PostgreSQL), not look around.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self._data_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"cannot make data_dir {self._data_dir}: {error.strerror}"
            ) from error

    async def _take_lock(self) -> None:
        deadline = time.monotonic() + OWNER_PATIENCE
        told = False
        while not self._lock.take():
            holder = self._lock.last()
            who = f"process {holder.pid}" if holder else "another process"
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"the data directory {self._data_dir} is in use by {who}"
                )
            if not told:
                self._report(f"waiting for {who} to leave {self._data_dir}")
                told = True
            await asyncio.sleep(0.1)

    async def _see_off_former_server(self) -> None:
        """Wait for the server of a killed process to end; it has been told to."""
        if not self._cluster.exists():
            return
        started = time.monotonic()
        asked = 0
        while (pid := postmaster.lingering(self._cluster)) is not None:
            waited = time.monotonic() - started
            if waited > LINGERER_PATIENCE:
                raise DatabaseError(
                    f"PostgreSQL (process {pid}) still runs on {self._cluster} and does"
                    " not stop: end it, then start again"
                )
            if waited > 2.0 and asked == 0:
                self._report(f"stopping a former PostgreSQL (process {pid})")
            # It was told to stop when its parent died; ask again in case it was not.
            if waited > 2.0 + 20.0 * asked:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGINT if asked == 0 else signal.SIGQUIT)
                asked += 1
            await asyncio.sleep(0.05)

    # ── Making the data directory ──

    async def _make_cluster(
        self, programs: binaries.Binaries, launcher: Launcher
    ) -> None:
        """Run initdb beside the final place and rename: complete or not there."""
        fresh = self._cluster.with_name("postgres.new")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._give_to(launcher, fresh)
        place, hold = self._place_for(launcher, fresh)
        options = [f"--pgdata={place}", *cluster.INITDB_OPTIONS]
        offset = self._log.size()
        output = self._log.open()
        try:
            process = await launcher.start(
                [str(programs.initdb), *options], output, hold
            )
        finally:
            os.close(output)
        try:
            code = await asyncio.wait_for(process.wait(), INITDB_PATIENCE)
        except TimeoutError:
            raise DatabaseError("PostgreSQL's initdb did not end in time") from None
        finally:
            await process.stop()
        if code != 0:
            raise DatabaseError(
                f"PostgreSQL's initdb failed ({describe(code)}):\n"
                f"{self._log.since(offset)}"
            )
        with contextlib.suppress(FileNotFoundError):
            self._cluster.rmdir()  # an empty one may be there
        fresh.rename(self._cluster)
        directory = os.open(self._data_dir, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @staticmethod
    def _give_to(launcher: Launcher, directory: Path) -> None:
        if not launcher.user.is_us:
            os.chown(directory, launcher.user.uid, launcher.user.gid)

    def _place_for(
        self, launcher: Launcher, directory: Path
    ) -> tuple[str, Path | None]:
        """The directory as the server's user can name it, and what must be held open.

        When a directory on the way is closed to that user (below /root, say), the guard
        opens it with our rights, and the server reaches it by the descriptor.
        """
        if launcher.user.can_enter(directory):
            return str(directory), None
        if sys.platform.startswith("linux"):
            return guard.HELD, directory
        raise DatabaseError(
            f"the user {launcher.user.name}, who runs PostgreSQL, cannot reach"
            f" {directory}: choose another data_dir"
        )

    def _choose_socket_directory(self, launcher: Launcher) -> None:
        """The data directory itself, or a private one where its path does not do."""
        former = self._lock.last()
        if former and Path(former.socket_directory).name.startswith(TEMPORARY_PREFIX):
            self._remove_temporary(Path(former.socket_directory), launcher.user.uid)
        reachable = launcher.user.can_enter(self._cluster)
        if reachable and self._fits(self._cluster):
            self._socket_directory = self._cluster
            return
        for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 - 0700
            made = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
            if self._fits(made) and launcher.user.can_enter(made.parent):
                self._give_to(launcher, made)
                self._socket_directory = self._temporary = made
                return
            made.rmdir()
        raise DatabaseError(
            f"the path of {self._cluster} is too long for a socket, and so is the"
            " temporary directory's: choose a shorter data_dir"
        )

    @staticmethod
    def _fits(directory: Path) -> bool:
        path = os.fsencode(directory / cluster.SOCKET_NAME)
        # In a DSN, a comma stands between hosts.
        return len(path) <= cluster.MAX_SOCKET_PATH and b"," not in path

    @staticmethod
    def _remove_temporary(directory: Path, owner: int) -> None:
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid == owner and not directory.is_symlink():
                shutil.rmtree(directory, ignore_errors=True)

    # ── Running ──

    async def _launch(self, programs: binaries.Binaries, launcher: Launcher) -> None:
        deadline = time.monotonic() + LEFTOVERS_PATIENCE
        while True:
            if await asyncio.to_thread(postmaster.forget_stale_pids, self._cluster):
                self._report("removed the lock files of a server that is gone")
            try:
                await self._launch_once(programs, launcher)
            except NotStarted as error:
                if not error.may_pass or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
            else:
                return

    async def _launch_once(
        self, programs: binaries.Binaries, launcher: Launcher
    ) -> None:
        place, hold = self._place_for(launcher, self._cluster)
        command = [
            str(programs.postgres),
            "-D",
            place,
            *cluster.server_arguments(str(self._socket_directory), self._settings),
        ]
        offset = self._log.size()
        output = self._log.open()
        try:
            self._process = await launcher.start(command, output, hold)
        finally:
            os.close(output)
        slow = asyncio.get_running_loop().call_later(
            5.0, self._report, "PostgreSQL recovers from a crash; this may take a while"
        )
        try:
            await await_ready(
                self._process, self._cluster, self._log, offset, START_PATIENCE
            )
        finally:
            slow.cancel()

    async def _make_database(self) -> None:
        """Make our database in a new cluster."""
        connection = await asyncpg.connect(self._dsn_of("postgres"), timeout=30)
        try:
            there = await connection.fetchval(
                "SELECT true FROM pg_database WHERE datname = $1", cluster.DATABASE
            )
            if not there:
                await connection.execute(
                    f"CREATE DATABASE {cluster.DATABASE} TEMPLATE template0"
                )
        finally:
            await connection.close(timeout=10)

    def _dsn_of(self, database: str) -> str:
        if self._socket_directory is None:
            raise DatabaseError("PostgreSQL has not been started")
        host = quote(str(self._socket_directory), safe="/")
        return (
            f"postgresql://{cluster.SUPERUSER}@/{database}"
            f"?host={host}&port={cluster.PORT}"
        )

    async def _keep_running(
        self, programs: binaries.Binaries, launcher: Launcher
    ) -> None:
        """Start the server again whenever it ends by itself, ever more slowly.

        Raises: DatabaseError when it does not stay up.
        """
        failures = 0
        started = time.monotonic()
        while self._process is not None:
            code = await self._process.wait()
            if time.monotonic() - started > STEADY_SECONDS:
                failures = 0
            self._report(
                f"PostgreSQL has stopped ({describe(code)}); starting it again"
            )
            await asyncio.sleep(min(30.0, 0.25 * 2**failures) if failures else 0.0)
            if self._is_full():
                self._report(f"the disk of {self._data_dir} is full")
                failures = min(failures, MAX_FAILURES - 2)  # room may be made
            failures += 1
            started = time.monotonic()
            try:
                await self._launch(programs, launcher)
            except NotStarted as error:
                if failures >= MAX_FAILURES:
                    raise
                self._report(str(error))
            else:
                if failures >= MAX_FAILURES:
                    raise DatabaseError(
                        f"PostgreSQL stopped {failures} times in a row; its log is"
                        f" {self._log.path}"
                    )
                self._report("PostgreSQL runs again")

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._data_dir).free < LEAST_ROOM

    # ── Stop ──

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._process is not None and self._process.running:
            self._report("stopping PostgreSQL")
            await self._process.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        self._lock.release()
