"""The private PostgreSQL: it survives kills, loses nothing, and never lives alone."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest

from homeserver.db import binaries, embedded, os_user, owner, postmaster
from homeserver.db.cluster import memory_bytes, settings, shared_buffers_mib
from homeserver.db.embedded import EmbeddedPostgres
from homeserver.db.errors import DatabaseError
from homeserver.db.log_file import LogFile

REPOSITORY = Path(__file__).parents[2]
ON_LINUX = sys.platform.startswith("linux")
AS_ROOT = os.geteuid() == 0
PREFER = os.environ.get("HEARTH_TEST_POSTGRES", "wheel")

# A process of its own that runs the server and writes rows until it is killed.
OWNER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from homeserver.db.embedded import EmbeddedPostgres

async def main():
    data_dir, prefer, watcher = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "watcher"
    async with EmbeddedPostgres(data_dir, prefer=prefer, watcher=watcher) as server:
        print(server.pid, flush=True)
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        n = 0
        while True:
            n += 1
            await connection.execute("INSERT INTO t VALUES ($1)", n)
            print(n, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def data_dir():
    # Others may pass, unlike in pytest's own: what is closed is tested on its own.
    directory = Path(tempfile.mkdtemp(prefix="hearth-test-"))
    directory.chmod(0o711)
    yield directory / "data"
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
async def made():
    """A database that has been made once, for copies."""
    directory = Path(tempfile.mkdtemp(prefix="hearth-test-"))
    directory.chmod(0o711)
    async with EmbeddedPostgres(directory / "data", prefer=PREFER):
        pass
    yield directory / "data"
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ready_dir(data_dir, made):
    """A data directory whose database has been made already."""
    subprocess.run(["cp", "-a", made, data_dir], check=True)
    return data_dir


def server(data_dir, **options):
    return EmbeddedPostgres(data_dir, **{"prefer": PREFER, **options})


async def value(running, sql, *args):
    connection = await asyncpg.connect(running.dsn)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


async def gone(pid, seconds=20):
    async with asyncio.timeout(seconds):
        while psutil.pid_exists(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return
            await asyncio.sleep(0.02)


class Owner:
    """The process above: `rows` it has had acknowledged, `server_pid`."""

    def __init__(self, data_dir, *, watcher=False):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", OWNER, str(data_dir), PREFER),
                "watcher" if watcher else "direct",
            ],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        self.server_pid = int(self.process.stdout.readline())

        self.acknowledged = 0

    def writes(self, rows):
        for _ in range(rows):
            self.acknowledged = int(self.process.stdout.readline())

    def ends_by(self, number):
        self.process.send_signal(number)
        told = self.process.stdout.read().split()
        self.process.wait(20)
        return int(told[-1]) if told else self.acknowledged


async def test_it_is_made_started_and_started_again_with_its_data(data_dir):
    said = []
    async with server(data_dir, report=said.append) as running:
        await value(running, "CREATE TABLE t AS SELECT 42 AS n")
        first = running.pid
        assert owner.running(data_dir) == owner.Owner(
            os.getpid(), running.dsn, str(data_dir / "postgres")
        )
    assert any(line.startswith("making the database") for line in said)
    assert not psutil.pid_exists(first)
    assert owner.running(data_dir) is None
    said.clear()
    async with server(data_dir, report=said.append) as running:
        assert await value(running, "SELECT n FROM t") == 42
    assert not any("making" in line for line in said)


async def test_it_is_durable_private_and_what_we_need(ready_dir):
    async with server(ready_dir) as running:
        connection = await asyncpg.connect(running.dsn)
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in (
                *("fsync", "synchronous_commit", "full_page_writes", "data_checksums"),
                *("jit", "listen_addresses", "server_encoding", "lc_collate"),
            )
            if name != "lc_collate" or PREFER == "system"
        }
        collation = await connection.fetchval(
            "SELECT datcollate FROM pg_database WHERE datname = 'hearth'"
        )
        await connection.close()
    assert collation == "C"
    assert shown.pop("lc_collate", "C") == "C"
    assert shown.pop("server_encoding") == "UTF8"
    assert shown.pop("jit") == "off"
    assert shown.pop("listen_addresses") == ""
    assert set(shown.values()) == {"on"}
    assert (ready_dir / "postgres").stat().st_mode & 0o777 == 0o700
    assert (ready_dir / "postgres.log").stat().st_mode & 0o777 == 0o600


async def test_the_log_names_no_values(ready_dir):
    async with server(ready_dir) as running:
        connection = await asyncpg.connect(running.dsn)
        await connection.execute("CREATE TABLE t (n text PRIMARY KEY)")
        await connection.execute("INSERT INTO t VALUES ('a secret')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO t VALUES ('a secret')")
        await connection.close()
    log = (ready_dir / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "secret" not in log


@pytest.mark.parametrize("watcher", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_server_ends_with_its_owner_and_no_row_is_lost(
    ready_dir, watcher, number
):
    if not (watcher or ON_LINUX):
        pytest.skip("needs Linux's death signal")
    held = Owner(ready_dir, watcher=watcher)
    held.writes(200)
    acknowledged = held.ends_by(number)
    await gone(held.server_pid)
    async with server(ready_dir) as running:
        assert await value(running, "SELECT count(*) FROM t") >= acknowledged >= 200


async def test_both_killed_at_once_recovers(ready_dir):
    held = Owner(ready_dir)
    held.writes(200)
    os.kill(held.server_pid, signal.SIGKILL)
    acknowledged = held.ends_by(signal.SIGKILL)
    async with server(ready_dir) as running:
        assert await value(running, "SELECT max(n) FROM t") >= acknowledged


async def test_a_killed_server_is_started_again_at_the_same_place(ready_dir):
    said = []
    async with server(ready_dir, report=said.append) as running:
        await value(running, "CREATE TABLE t AS SELECT 42 AS n")
        dsn, first = running.dsn, running.pid
        watch = asyncio.create_task(running.watch())
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(30):
            while "PostgreSQL runs again" not in said:
                await asyncio.sleep(0.02)
        assert running.pid != first
        assert running.dsn == dsn
        assert await value(running, "SELECT n FROM t") == 42
        assert not watch.done()
        watch.cancel()
    assert any("ended by SIGKILL" in line for line in said)


async def test_a_server_that_does_not_stay_up_is_given_up(ready_dir, monkeypatch):
    monkeypatch.setattr(embedded, "MAX_FAILURES", 1)
    async with server(ready_dir) as running:
        os.kill(running.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(DatabaseError, match="stopped 1 times"):
                await running.watch()


async def test_a_ready_directory_has_one_owner(ready_dir, monkeypatch):
    monkeypatch.setattr(embedded, "OWNER_PATIENCE", 0.2)
    async with server(ready_dir):
        said = []
        with pytest.raises(DatabaseError, match=f"in use by process {os.getpid()}"):
            async with server(ready_dir, report=said.append):
                pass
        assert said == [f"waiting for process {os.getpid()} to leave {ready_dir}"]


def sleeping_as(user):
    return subprocess.Popen(["sleep", "60"], user=user.uid if AS_ROOT else None)


@pytest.mark.skipif(not ON_LINUX, reason="needs /proc")
async def test_a_pid_file_that_names_somebody_else_does_not_keep_it_from_starting(
    ready_dir,
):
    async with server(ready_dir):
        pass
    user = os_user.choose(ready_dir / "postgres")
    sleeper = sleeping_as(user)
    try:
        pid_file = ready_dir / "postgres" / "postmaster.pid"
        pid_file.write_text(
            f"{sleeper.pid}\n{ready_dir}/postgres\n1\n5432\n\n\n\nready\n"
        )
        os.chown(pid_file, user.uid, user.gid)
        async with server(ready_dir) as running:
            assert await value(running, "SELECT 1") == 1
    finally:
        sleeper.kill()
        sleeper.wait()


async def test_it_is_interrupted_while_being_made_and_then_made_whole(data_dir):
    making = asyncio.Event()

    async def start():
        async with server(data_dir, report=lambda _: making.set()):
            await asyncio.sleep(60)

    task = asyncio.create_task(start())
    await making.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not (data_dir / "postgres" / "PG_VERSION").exists()
    async with server(data_dir) as running:
        assert await value(running, "SELECT 1") == 1


async def test_a_data_directory_may_have_any_name(data_dir):
    name = "b l, a&b=c?d#e 'q\"uote ünï %20cödé"
    async with server(data_dir / name) as running:
        assert await value(running, "SELECT 1") == 1


async def test_a_data_directory_may_have_blanks(ready_dir):
    blank = ready_dir.with_name("with blanks %20")
    ready_dir.rename(blank)
    async with server(blank) as running:
        assert await value(running, "SELECT 1") == 1
        assert owner.running(blank).socket_directory == str(blank / "postgres")


async def test_a_data_directory_that_cannot_be_written_is_explained(data_dir):
    data_dir.mkdir()
    (data_dir / "postgres.lock").mkdir()
    with pytest.raises(DatabaseError, match=r"postgres\.lock: Is a directory"):
        async with server(data_dir):
            pass


async def test_a_deep_data_directory_gets_a_short_private_socket(data_dir):
    deep = data_dir / ("d" * 100) / ("e" * 30)
    async with server(deep) as running:
        assert await value(running, "SELECT 1") == 1
        directory = Path(owner.running(deep).socket_directory)
        assert directory.name.startswith("hearth-")
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()


@pytest.mark.skipif(not (ON_LINUX and AS_ROOT), reason="needs root on Linux")
@pytest.mark.parametrize("prefer", ["wheel", "system"])
async def test_root_uses_a_directory_that_is_closed_to_the_servers_user(
    data_dir, prefer
):
    closed = data_dir / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    async with server(closed / "data", prefer=prefer) as running:
        assert psutil.Process(running.pid).uids().real != 0
        await value(running, "CREATE TABLE t AS SELECT 42 AS n")
    async with server(closed / "data", prefer=prefer) as running:
        assert await value(running, "SELECT n FROM t") == 42
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
async def test_programs_that_the_servers_user_cannot_read_are_copied(
    data_dir, monkeypatch
):
    wheel = binaries.find(None, prefer="wheel")
    if wheel.wheel_root is None:
        pytest.skip("no wheel for this platform")
    package = wheel.wheel_root.parent
    monkeypatch.setattr(os_user.OsUser, "can_read", can_read_outside(package))
    async with server(data_dir, prefer="wheel") as running:
        assert await value(running, "SELECT 1") == 1
        exe = Path(psutil.Process(running.pid).exe())
        assert exe.relative_to(data_dir).parts[0].startswith("postgresql-")


def can_read_outside(closed):
    honest = os_user.OsUser.can_read
    return lambda user, file: not file.is_relative_to(closed) and honest(user, file)


@pytest.mark.skipif(AS_ROOT, reason="root may")
async def test_a_directory_of_another_user_is_explained(data_dir):
    with pytest.raises(DatabaseError, match="cannot make data_dir"):
        async with server(Path("/proc/nowhere")):
            pass


async def test_something_else_in_its_place_is_left_alone(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(DatabaseError, match="not a PostgreSQL data directory"):
        async with server(data_dir):
            pass
    assert (data_dir / "postgres" / "letter.txt").read_text() == "dear"


async def test_a_data_directory_of_a_version_that_is_not_here_is_explained(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        DatabaseError, match=r"made by PostgreSQL 9.*HEARTH_POSTGRES_BIN"
    ):
        async with server(data_dir):
            pass


def test_an_override_without_programs_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARTH_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(DatabaseError, match=f"HEARTH_POSTGRES_BIN={tmp_path} holds no"):
        binaries.find(None)


def test_the_existing_data_decides_the_version():
    versions = {found.major for found in binaries._of_wheel()}
    for major in versions:
        assert binaries.find(major, prefer="wheel").major == major


def test_sizes_are_modest_and_bounded():
    gib = 1024**3
    assert shared_buffers_mib(gib // 2) == 128
    assert shared_buffers_mib(2 * gib) == 256
    assert shared_buffers_mib(64 * gib) == 512
    assert 0 < memory_bytes() <= psutil.virtual_memory().total
    assert settings("/a,b", gib)["unix_socket_directories"] == '"/a,b"'


def test_the_log_keeps_its_end_and_one_older_piece(tmp_path):
    log = LogFile(tmp_path / "log", max_bytes=100)
    descriptor = log.open()
    os.write(descriptor, b"x" * 90 + b"\n")
    assert not log.shorten()
    os.write(descriptor, b"end of the first\n")
    assert log.shorten()
    os.write(descriptor, b"second\n")  # the writer has not noticed
    os.close(descriptor)
    assert log.path.read_text() == "second\n"
    assert (tmp_path / "log.1").read_text().endswith("end of the first\n")
    assert log.since(0) == "second\n"


def test_a_pid_file_half_written_or_of_a_zombie_proves_nothing(tmp_path):
    assert postmaster.read_pid_file(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("")
    assert postmaster.read_pid_file(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("12\n/x\n")
    assert postmaster.read_pid_file(tmp_path) == postmaster.PidFile(12, "")
    zombie = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / "postmaster.pid").write_text(f"{zombie.pid}\n")
        if ON_LINUX:
            assert postmaster.lingering(tmp_path) is None
            assert postmaster.forget_stale_pids(tmp_path)
            assert not (tmp_path / "postmaster.pid").exists()
    finally:
        zombie.wait()


def test_an_announcement_of_a_dead_owner_does_not_count(tmp_path):
    (tmp_path / "postgres.lock").write_text(
        json.dumps({"pid": 1, "dsn": "x", "socket_directory": "y"})
    )
    assert owner.running(tmp_path) is None
    lock = owner.OwnerLock(tmp_path)
    assert lock.take()
    assert not owner.OwnerLock(tmp_path).take()
    lock.announce(owner.Owner(7, "dsn", "dir"))
    assert owner.running(tmp_path) == owner.Owner(7, "dsn", "dir")
    lock.release()
    assert owner.running(tmp_path) is None


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_the_owner_of_the_data_decides_as_whom_it_runs(tmp_path):
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    assert os_user.choose(tmp_path).name == "nobody"
    assert os_user.choose(tmp_path / "new").uid != 0
