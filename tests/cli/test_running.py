"""Starting and stopping: in order, on every signal, with PostgreSQL and without."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]

# A server that does nothing but say what happens to it.
SCRIPT = """
import asyncio, contextlib, sys
from pathlib import Path
from homeserver.cli import running
from homeserver.config import Config
import asyncpg

mode, file = sys.argv[1], Path(sys.argv[2])

@contextlib.asynccontextmanager
async def serve(config, dsn):
    if mode == "fails":
        raise OSError("the port is taken")
    connection = await asyncpg.connect(dsn)
    rooms = await connection.fetchval("SELECT count(*) FROM rooms")
    print("entered with", rooms, "rooms", flush=True)
    try:
        yield dsn
    finally:
        if mode == "slow":
            await asyncio.sleep(60)
        # The database is still there.
        print("left with", await connection.fetchval("SELECT count(*) FROM rooms"))
        await connection.close()

async def greet(server):
    print("greeted", flush=True)

running.run(Config.load(file), serve, greet)
print("ended", flush=True)
"""


class Running:
    """The script, run with a configuration in the directory."""

    def __init__(self, directory, mode="serves", config="", environment=None):
        file = directory / "hearth.toml"
        if not file.exists():
            file.write_text(config)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, mode, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self.said = []

    def says(self, text):
        """Wait for a line that holds the text."""
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if text in line:
                return
        raise AssertionError("\n".join(self.said))

    def ends(self, seconds=30):
        rest, _ = self.process.communicate(timeout=seconds)
        self.said += rest.splitlines()
        return self.process.returncode

    def postgres(self):
        family = psutil.Process(self.process.pid).children()
        return next(p for p in family if p.name().startswith("postgres"))


@pytest.fixture
def run(tmp_path):
    started = []

    def start(*args, **options):
        started.append(Running(tmp_path, *args, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def stopped_cleanly(data_dir):
    log = (data_dir / "postgres.log").read_text()
    return log.rstrip().endswith("database system is shut down")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_then_the_database_and_all_comes_up_again(
    run, number
):
    first = run()
    first.says("greeted")
    database = first.postgres()
    first.process.send_signal(number)
    assert first.ends() == 0
    assert not database.is_running()
    order = [
        *("making the database", "starting PostgreSQL", "making the tables"),
        *("starting the server for localhost", "entered with 0 rooms", "greeted"),
        *("stopping (Ctrl-C again", "left with 0", "stopping PostgreSQL", "ended"),
    ]
    places = [
        next(n for n, line in enumerate(first.said) if text in line) for text in order
    ]
    assert places == sorted(places)
    again = run()
    again.says("greeted")
    assert not any("making" in line for line in again.said)
    again.process.terminate()
    assert again.ends() == 0


def test_a_second_interrupt_ends_it_at_once_and_the_database_cleanly(run, tmp_path):
    one = run("slow")
    one.says("greeted")
    database = one.postgres()
    one.process.send_signal(signal.SIGINT)
    one.says("stopping")
    one.process.send_signal(signal.SIGINT)
    before = time.monotonic()
    assert one.ends() == 130
    assert time.monotonic() - before < 5
    psutil.wait_procs([database], timeout=10)
    assert not database.is_running()
    assert stopped_cleanly(tmp_path / "data")


def test_a_signal_during_the_start_stops_it(run):
    one = run()
    one.says("starting PostgreSQL")
    one.process.terminate()
    assert one.ends() == 0
    assert not any("greeted" in line for line in one.said)


def test_a_server_that_cannot_start_takes_the_database_down_with_it(run, tmp_path):
    one = run("fails")
    assert one.ends() == 1
    assert any("the port is taken" in line for line in one.said)
    assert stopped_cleanly(tmp_path / "data")


def test_a_killed_database_comes_back_while_serving(run):
    one = run()
    one.says("greeted")
    one.postgres().kill()
    one.says("PostgreSQL runs again")
    assert one.postgres().is_running()
    one.process.terminate()
    # The fake server's connection is lost, and it says so.
    assert one.ends() == 1


async def test_a_database_that_is_given_is_used_and_none_is_started(
    run, new_dsn, tmp_path
):
    dsn = await new_dsn()
    # asyncio would not notice lines of the child: it is a thread's work.
    one = run(config=f'database_url = "{dsn}"\n')
    one.says("entered with 0 rooms")
    one.says("greeted")
    assert psutil.Process(one.process.pid).children() == []
    one.process.terminate()
    assert one.ends() == 0
    assert not (tmp_path / "data").exists()


def test_a_service_manager_is_told(run, tmp_path):
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(30)
        one = run(environment={"NOTIFY_SOCKET": str(address)})
        assert listener.recv(100) == b"READY=1"
        one.process.terminate()
        assert listener.recv(100) == b"STOPPING=1"
        assert one.ends() == 0
