"""A server of the demo: a real `hearth serve` in a process and directory of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiohttp

from homeserver.config.text import to_toml
from homeserver.db.os_user import of_uid
from homeserver.db.server_process import GuardedProcess, Launcher
from homeserver.demo.certificates import CertificateAuthority

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 90.0
LOG_TAIL: Final = 3_000
STOP_STEPS: Final = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))
_IMPORT_PATH: Final = str(Path(__file__).parents[2])

_CONFIGURATION: Final = """\
server_name = {name}
public_base_url = {url}

[[listen]]
bind = {host}
port = {port}
serves = ["client", "federation"]
tls_certificate = {certificate}
tls_key = {key}

[registration]
mode = "open"

[federation]
ca_file = {ca}
allow_addresses = ["127.0.0.0/8", "::1/128"]
"""


class DidNotStart(Exception):  # noqa: N818 - reads as a sentence at the raise
    """A server of the demo did not come up; the text ends with what it said."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class DemoServer:
    """A server named `localhost:PORT`, so that no DNS is needed to find it."""

    directory: Path
    name: str
    url: str
    process: GuardedProcess

    @classmethod
    async def start(cls, directory: Path, authority: CertificateAuthority) -> Self:
        """Start it; it ends with us, however we end. `answers` waits for it."""
        port = free_port()
        name, url = f"localhost:{port}", f"https://localhost:{port}"
        file = _prepare(directory, authority, name, url, port)
        command = [sys.executable, "-m", "homeserver", "serve", "--config", str(file)]
        path = os.pathsep.join([_IMPORT_PATH, *filter(None, [_inherited_path()])])
        launcher = Launcher(
            of_uid(os.geteuid()), environment={**os.environ, "PYTHONPATH": path}
        )
        with (directory / "server.log").open("ab") as log:
            process = await launcher.start(command, log.fileno())
        return cls(directory, name, url, process)

    async def answers(self, http: aiohttp.ClientSession) -> None:
        """Wait until clients are answered. Raises: DidNotStart."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.running and time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(f"{self.url}/_matrix/client/versions") as reply:
                    if reply.status == 200:
                        return
            await asyncio.sleep(0.05)
        raise DidNotStart(f"{self.name} did not start:\n{self.log_tail()}")

    async def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        await self.process.stop(STOP_STEPS)

    def log_tail(self) -> str:
        """The end of what it said."""
        log = (self.directory / "server.log").read_bytes()
        return log[-LOG_TAIL:].decode("utf-8", "replace")


def _inherited_path() -> str:
    return os.environ.get("PYTHONPATH", "")


def _prepare(
    directory: Path, authority: CertificateAuthority, name: str, url: str, port: int
) -> Path:
    """Make the server's directory, certificate and configuration; answers the last."""
    directory.mkdir()
    # The user that runs PostgreSQL has to get through.
    directory.chmod(0o711)
    certificate, key = authority.issue(directory, "localhost", HOST)
    authority.write_ca(directory / "ca.pem")
    values = {
        "name": name,
        "url": url,
        "host": HOST,
        "port": port,
        "certificate": str(certificate),
        "key": str(key),
        "ca": "ca.pem",
    }
    file = directory / "hearth.toml"
    file.write_text(
        _CONFIGURATION.format_map({k: to_toml(v) for k, v in values.items()})
    )
    return file


def trusting(directory: Path, authority: CertificateAuthority) -> ssl.SSLContext:
    """TLS for clients of the demo's servers."""
    return ssl.create_default_context(
        cafile=str(authority.write_ca(directory / "ca.pem"))
    )
