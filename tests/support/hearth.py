"""Our own server as a process, configured the way an operator would."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from homeserver.demo.certificates import CertificateAuthority
from tests.support.homeserver import HOST, Homeserver, repository


class Hearth(Homeserver):
    """One `hearth serve`, on its embedded PostgreSQL or on a database given."""

    kind = "hearth"

    def __init__(
        self, directory: Path, authority: CertificateAuthority, *, database: str = ""
    ) -> None:
        self._config = directory / "hearth.toml"
        # What processes of one server share: files, and the key that signs.
        self.data = directory / "data"
        # More keys of the configuration's top level.
        self.keys: dict[str, str] = {}
        super().__init__(directory, authority, database=database)

    def argv(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "homeserver",
            "--config",
            str(self._config),
            "serve",
        ]

    def working_directory(self) -> Path:
        # `-m homeserver` is found here also when the package is not installed.
        return repository()

    def write_configuration(self) -> None:
        self._config.write_text(
            f"""
server_name = "{self.name}"
data_dir = {_toml(self.data)}
database_url = {_toml(self.database)}
{chr(10).join(f"{key} = {value}" for key, value in self.keys.items())}
public_base_url = "{self.base_url}"

[[listen]]
bind = "{HOST}"
port = {self.client_port}
serves = ["client", "federation", "metrics"]

[[listen]]
bind = "{HOST}"
port = {self.federation_port}
serves = ["client", "federation"]
tls_certificate = {_toml(self.tls_certificate)}
tls_key = {_toml(self.tls_key)}

[appservices]
registrations = {json.dumps([str(file) for file in self.registrations])}

[registration]
mode = "closed"
shared_secret = "{self.shared_secret}"

[federation]
verify_certificates = true
ca_file = {_toml(self.ca_file)}
allow_addresses = ["127.0.0.0/8", "::1/128"]
trusted_key_servers = []

[limits]
enabled = false

[logging]
level = "info"
"""
        )

    def database_processes(self) -> list[psutil.Process]:
        """The embedded PostgreSQL, its main process first; empty without one."""
        family = [p for p in self.child.family()[1:] if p.is_running()]
        return [p for p in family if _is_postgres(p)]

    async def kill_with_database(self) -> None:
        """SIGKILL the server and its PostgreSQL at the same moment."""
        doomed = self.database_processes()
        os.kill(self.child.pid, signal.SIGKILL)
        _kill_all(doomed)
        await self.kill()
        await _ended(doomed)

    async def kill_database(self) -> None:
        """SIGKILL only the embedded PostgreSQL under the running server."""
        doomed = self.database_processes()
        _kill_all(doomed)
        await _ended(doomed)


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


async def _ended(processes: Sequence[psutil.Process]) -> None:
    """Wait until none runs; a zombie, which nobody may ever reap here, does not."""
    for _ in range(500):
        if not any(_runs(process) for process in processes):
            return
        await asyncio.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("postgres")
    except psutil.NoSuchProcess:
        return False


def _toml(value: object) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(str(value))
