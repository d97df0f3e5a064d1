"""A real IRC server, a person on IRC, and the bridge heisenbridge, all as processes.

None of them is a dependency of the project: ngircd comes from the system or from
Debian's archive, heisenbridge from PyPI, into `.venv-bridge`, made once.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.support.child import Child, ChildFailedError
from tests.support.homeserver import HOST, free_port, repository

HEISENBRIDGE: Final = "heisenbridge==1.15.4"
_DEBS: Final = ("ngircd", "libident")
_SECONDS: Final = 30.0


def _home() -> Path:
    home = repository() / ".venv-bridge"
    home.mkdir(exist_ok=True)
    return home


def install_heisenbridge() -> Path:
    """The Python that has heisenbridge. Installs it when needed."""
    home = _home()
    python = home / "bin" / "python"
    ready = home / "installed.txt"
    with (home / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists() and ready.read_text() == HEISENBRIDGE:
            return python
        if not python.exists():
            venv.create(home, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", HEISENBRIDGE],
            check=True,
            stdout=sys.stderr,
        )
        ready.write_text(HEISENBRIDGE)
    return python


def find_ngircd() -> tuple[Path, dict[str, str]] | None:
    """The IRC server, and the environment that it needs; None: it cannot be had."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    found = shutil.which("ngircd", path=places)
    if found is not None:
        return Path(found), {}
    folder = _home() / "debian"
    program = folder / "usr/sbin/ngircd"
    with (_home() / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists() and not _download(folder):
            return None
    libraries = {str(path.parent) for path in folder.rglob("libident.so*")}
    return program, {"LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}


def _download(folder: Path) -> bool:
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        return False
    archives = _home() / "archives"
    archives.mkdir(exist_ok=True)
    done = subprocess.run(
        ["apt-get", "download", *_DEBS],
        cwd=archives,
        check=False,
        stdout=sys.stderr,
        timeout=120,
    )
    if done.returncode:
        return False
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
    return (folder / "usr/sbin/ngircd").exists()


class IrcServer:
    """One ngircd."""

    def __init__(self, directory: Path) -> None:
        found = find_ngircd()
        if found is None:
            raise ChildFailedError("ngircd is not here and cannot be downloaded")
        program, environment = found
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "ngircd.conf"
        config.write_text(
            f"""
[Global]
Name = irc.test.local
Info = Tests
Listen = {HOST}
Ports = {self.port}
MotdPhrase = welcome
[Limits]
MaxConnectionsIP = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
"""
        )
        self.child = Child(
            [str(program), "-n", "-f", str(config)],
            log=directory / "ngircd.log",
            cwd=directory,
            environment=environment,
        )

    async def __aenter__(self) -> Self:
        self.child.start()
        await answers(self.port, self.child)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop()


async def answers(port: int, child: Child) -> None:
    """Wait until the port takes connections. Raises: ChildFailedError with the log."""
    for _ in range(600):
        if not child.is_running:
            raise ChildFailedError(f"{child.argv[0]} ended\n{child.tail()}")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise ChildFailedError(f"{child.argv[0]} does not answer\n{child.tail()}")


class IrcPerson:
    """Somebody with an IRC client: says things in channels and hears what is said."""

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.heard: list[tuple[str, str, str]] = []  # who, where, what
        self._news = asyncio.Event()
        self._names: dict[str, set[str]] = {}

    async def connects(self, server: IrcServer) -> None:
        self._reader, self._writer = await asyncio.open_connection(HOST, server.port)
        self._task = asyncio.create_task(self._read())
        self._send(f"NICK {self.nick}", f"USER {self.nick} 0 * :{self.nick}")

    async def leaves(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()

    def _send(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def _read(self) -> None:
        while line := (await self._reader.readline()).decode().rstrip("\r\n"):
            if line.startswith("PING"):
                self._send("PONG" + line[4:])
                continue
            source, _, rest = line.removeprefix(":").partition(" ")
            command, _, rest = rest.partition(" ")
            who = source.partition("!")[0]
            where, _, what = rest.partition(" ")
            match command:
                case "PRIVMSG":
                    self.heard.append((who, where, what.removeprefix(":")))
                case "JOIN":
                    self._names.setdefault(where.removeprefix(":"), set()).add(who)
                case "QUIT" | "PART":
                    for names in self._names.values():
                        names.discard(who)
            self._news.set()

    def joins(self, channel: str) -> None:
        self._send(f"JOIN {channel}")

    def says(self, channel: str, text: str) -> None:
        self._send(f"PRIVMSG {channel} :{text}")

    def texts(self, channel: str) -> list[str]:
        return [what for _, where, what in self.heard if where == channel]

    async def _until(self, is_there: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                while not is_there():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.nick} never heard {what}; last: {self.heard[-8:]}"
            ) from None

    async def hears(self, channel: str, text: str) -> None:
        await self._until(lambda: text in self.texts(channel), repr(text))

    async def sees_join(self, channel: str, nick: str) -> None:
        await self._until(
            lambda: nick in self._names.get(channel, ()), f"{nick} come to {channel}"
        )


class Heisenbridge:
    """The bridge, with the registration that it makes itself."""

    def __init__(self, directory: Path, base_url: str, owner: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        python = str(install_heisenbridge())
        self.port = free_port()
        self.file = directory / "heisenbridge.yaml"
        subprocess.run(
            [python, "-m", "heisenbridge", "-c", str(self.file), "--generate"],
            check=True,
            stdout=sys.stderr,
            timeout=60,
        )
        registration = yaml.safe_load(self.file.read_text())
        registration["url"] = f"http://{HOST}:{self.port}"
        self.file.write_text(yaml.safe_dump(registration))
        self.localpart = str(registration["sender_localpart"])
        self.child = Child(
            [
                *(python, "-m", "heisenbridge", "-v", "-c", str(self.file)),
                *("-o", owner, base_url),
            ],
            log=directory / "heisenbridge.log",
            cwd=directory,
        )

    async def start(self) -> None:
        self.child.start()
        await answers(self.port, self.child)

    def pauses(self) -> None:
        """Answer nobody until it goes on."""
        os.kill(self.child.pid, signal.SIGSTOP)

    def goes_on(self) -> None:
        os.kill(self.child.pid, signal.SIGCONT)

    async def stop(self) -> None:
        await self.child.stop()
