"""A real Synapse as the other server: installed from PyPI beside us, run as a process.

It is never a dependency of the project: it lives in `.venv-synapse`, made once.
"""

import base64
import fcntl
import json
import secrets
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.support.homeserver import HOST, Homeserver, repository

REQUIREMENTS: Final = ("matrix-synapse>=1.163,<1.164", "psycopg2-binary>=2.9,<3")

_LOG_LINE: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_UNLIMITED: Final = {"per_second": 1_000_000, "burst_count": 1_000_000}
_LIMITS: Final = (
    "rc_message",
    "rc_registration",
    "rc_registration_token_validity",
    "rc_admin_redaction",
    "rc_joins_per_room",
    "rc_3pid_validation",
    "rc_media_create",
    "rc_room_creation",
    "rc_reports",
    "rc_key_requests",
)
_GROUPED_LIMITS: Final = {
    "rc_login": ("address", "account", "failed_attempts"),
    "rc_joins": ("local", "remote"),
    "rc_invites": ("per_room", "per_user", "per_issuer"),
    "rc_presence": ("per_user",),
}


def install_synapse() -> Path:
    """The Python of `.venv-synapse`, which has Synapse in it. Installs it when needed.

    Safe to call from several test runs at a time.
    """
    home = repository() / ".venv-synapse"
    home.mkdir(exist_ok=True)
    python = home / "bin" / "python"
    ready = home / "installed.txt"
    wanted = "\n".join(REQUIREMENTS)
    with (home / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists() and ready.read_text() == wanted:
            return python
        if not python.exists():
            venv.create(home, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
            check=True,
            stdout=sys.stderr,
        )
        ready.write_text(wanted)
    return python


class Synapse(Homeserver):
    """One Synapse process, on SQLite or on a PostgreSQL database."""

    kind = "synapse"

    def argv(self) -> list[str]:
        return [
            str(install_synapse()),
            "-m",
            "synapse.app.homeserver",
            "--config-path",
            str(self.directory / "homeserver.yaml"),
        ]

    @property
    def sqlite_file(self) -> Path:
        """Where it keeps everything when no database was given."""
        return self.directory / "homeserver.db"

    def write_configuration(self) -> None:
        if (self.directory / "homeserver.yaml").exists():
            return
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (self.directory / "signing.key").write_text(f"ed25519 a_synapse {seed}\n")
        (self.directory / "log.yaml").write_text(json.dumps(_logging()))
        (self.directory / "homeserver.yaml").write_text(json.dumps(self._settings()))

    def _settings(self) -> dict[str, Any]:
        """Its configuration; YAML is a superset of JSON."""
        return {
            "server_name": self.name,
            "pid_file": str(self.directory / "synapse.pid"),
            "public_baseurl": self.base_url,
            "listeners": [
                self._listener(self.client_port, tls=False),
                self._listener(self.federation_port, tls=True),
            ],
            "tls_certificate_path": str(self.tls_certificate),
            "tls_private_key_path": str(self.tls_key),
            "federation_custom_ca_list": [str(self.ca_file)],
            "ip_range_blacklist": [],
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "database": _database(self.database, self.sqlite_file),
            "log_config": str(self.directory / "log.yaml"),
            "media_store_path": str(self.directory / "media"),
            "signing_key_path": str(self.directory / "signing.key"),
            "registration_shared_secret": self.shared_secret,
            "macaroon_secret_key": secrets.token_hex(16),
            "form_secret": secrets.token_hex(16),
            "report_stats": False,
            "app_service_config_files": [str(file) for file in self.registrations],
            "bcrypt_rounds": 4,
            "presence": {"enabled": False},
            "allow_public_rooms_over_federation": True,
            "allow_public_rooms_without_auth": True,
            # Open by default it is not: the room list is searched in tests.
            "room_list_publication_rules": [{"action": "allow"}],
            "federation": {
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "2s",
                "destination_retry_multiplier": 1,
                "max_short_retries": 1,
                "max_short_retry_delay": "1s",
                "max_long_retries": 1,
                "max_long_retry_delay": "1s",
            },
            **_no_limits(),
        }

    def _listener(self, port: int, *, tls: bool) -> dict[str, Any]:
        return {
            "port": port,
            "type": "http",
            "tls": tls,
            "bind_addresses": [HOST],
            "resources": [{"names": ["client", "federation"], "compress": False}],
        }


def _no_limits() -> dict[str, Any]:
    limits: dict[str, Any] = dict.fromkeys(_LIMITS, _UNLIMITED)
    for name, parts in _GROUPED_LIMITS.items():
        limits[name] = dict.fromkeys(parts, _UNLIMITED)
    limits["rc_federation"] = {
        "window_size": 1000,
        "sleep_limit": 100_000,
        "sleep_delay": 1,
        "reject_limit": 100_000,
        "concurrent": 100,
    }
    return limits


def _logging() -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {
            "line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}
        },
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["out"]},
        "disable_existing_loggers": False,
    }


def _database(url: str, sqlite_file: Path) -> dict[str, Any]:
    """Its database section, for a URL such as `postgresql://user@/name?host=/run`."""
    if not url:
        return {"name": "sqlite3", "args": {"database": str(sqlite_file)}}
    parts = urlsplit(url)
    args = {
        "dbname": parts.path.lstrip("/"),
        "host": parse_qs(parts.query).get("host", [parts.hostname])[0],
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
    }
    args = {key: value for key, value in args.items() if value is not None}
    args |= {"cp_min": 5, "cp_max": 10}
    return {"name": "psycopg2", "allow_unsafe_locale": True, "args": args}
