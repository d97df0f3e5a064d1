"""What the tests need of any homeserver that runs as a process: ours or Synapse."""

import asyncio
import contextlib
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import aiohttp

from tests.support.certificates import CertificateAuthority
from tests.support.child import Child, ChildFailedError
from tests.support.client import Client, register

HOST: Final = "127.0.0.1"
_REPOSITORY: Final = Path(__file__).parents[2]


# Below those that systems give to outgoing connections: a port that is free now would
# else be somebody's by the time it is listened on.
_PORTS: Final = range(11_000, 32_000)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


class Homeserver(ABC):
    """A homeserver named `localhost:PORT` with its own directory and certificate.

    The name carries its port, so no DNS is needed: `PORT` speaks TLS to other servers
    and `base_url` plain HTTP to clients. Everything it knows is under `directory` (and
    in `database`, when one is given), so it can be stopped, killed and started again.
    """

    kind: str
    start_seconds: float = 60
    # Files of application services.
    registrations: Sequence[Path] = ()

    def __init__(
        self, directory: Path, authority: CertificateAuthority, *, database: str = ""
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.database = database
        self.federation_port = free_port()
        self.client_port = free_port()
        self.name = f"localhost:{self.federation_port}"
        self.base_url = f"http://{HOST}:{self.client_port}"
        self.shared_secret = secrets.token_urlsafe(16)
        self.ca_file = directory / "ca.pem"
        authority.write_ca(self.ca_file)
        self.tls_certificate, self.tls_key = authority.issue(
            directory, "localhost", HOST
        )
        self.child = Child(
            self.argv(), log=directory / "server.log", cwd=self.working_directory()
        )
        self._http: aiohttp.ClientSession | None = None

    @abstractmethod
    def argv(self) -> list[str]:
        """The command that runs this server in the foreground."""

    @abstractmethod
    def write_configuration(self) -> None:
        """Write what `argv` reads; called before each start."""

    def working_directory(self) -> Path:
        return self.directory

    @property
    def http(self) -> aiohttp.ClientSession:
        """Connections to this server, shared by its clients."""
        if self._http is None or self._http.closed:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=120),
            )
        return self._http

    async def start(self) -> Self:
        """Start the process and return when it answers clients."""
        self.write_configuration()
        self.child.start()
        await self.answers()
        return self

    async def answers(self) -> None:
        """Wait until clients are answered. Raises: ChildFailedError with the log."""
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if not self.child.is_running:
                raise ChildFailedError(f"{self.kind} ended\n{self.child.tail()}")
            try:
                async with self.http.get(
                    f"{self.base_url}/_matrix/client/versions",
                    timeout=aiohttp.ClientTimeout(total=5),
                ) as reply:
                    if reply.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)
        raise ChildFailedError(f"{self.kind} does not answer\n{self.child.tail()}")

    async def stop(self) -> None:
        """Ask it to end and wait until it has."""
        await self.close_connections()
        await self.child.stop()

    async def kill(self) -> None:
        """SIGKILL the server process."""
        await self.child.kill()
        await self.close_connections()

    async def close_connections(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def registers(self, localpart: str, *, admin: bool = False) -> Client:
        """A new user of this server, logged in."""
        return await register(
            lambda: self.http, self.base_url, self.shared_secret, localpart, admin=admin
        )

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def repository() -> Path:
    """The checkout that the tests belong to."""
    return _REPOSITORY
