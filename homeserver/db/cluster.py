"""How the private PostgreSQL is made and tuned: pure facts, no process.

Durability is never traded: `fsync`, `full_page_writes` and `synchronous_commit` stay
on.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SUPERUSER: Final = "hearth"
DATABASE: Final = "hearth"
PORT: Final = 5432  # only the name of the socket
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
# sockaddr_un.sun_path: 108 bytes on Linux, 104 on the BSDs and macOS, with the NUL.
MAX_SOCKET_PATH: Final = 103
MAX_CONNECTIONS: Final = 100

INITDB_OPTIONS: Final = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--data-checksums",
    # Who may reach the socket is decided by its directory, which is closed to others.
    "--auth-local=trust",
    "--auth-host=reject",
    "--no-instructions",
)

_MIB: Final = 1024 * 1024


def memory_bytes() -> int:
    """How much memory there is for us: the machine's, or less in a container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    )
    for file in limits:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total


def shared_buffers_mib(memory: int) -> int:
    """An eighth of the memory, between 128 and 512 MiB."""
    return min(512, max(128, memory // 8 // _MIB))


def settings(socket_directory: str, memory: int) -> Mapping[str, str]:
    """The server's settings, given on its command line; the files stay untouched."""
    return {
        "listen_addresses": "",
        "port": str(PORT),
        # A list of names: quoted, so that a comma in the path stays in the path.
        "unix_socket_directories": '"' + socket_directory.replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "cluster_name": "hearth",
        "max_connections": str(MAX_CONNECTIONS),
        # Durability.
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        # Size.
        "shared_buffers": f"{shared_buffers_mib(memory)}MB",
        "effective_cache_size": f"{max(256, memory // 2 // _MIB)}MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "max_wal_size": "1GB",
        "wal_compression": "on",
        "checkpoint_timeout": "10min",
        "checkpoint_completion_target": "0.9",
        # Many short statements: compiling them or splitting them only costs.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.5",
        # A hung process cannot hold the sequencer row.
        "idle_in_transaction_session_timeout": "15s",
        "timezone": "UTC",
        # The log goes to our file; it names neither statements nor values.
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
    }


def server_arguments(socket_directory: str, overrides: Mapping[str, str]) -> list[str]:
    """`-c name=value …` for the server's command line."""
    merged = {**settings(socket_directory, memory_bytes()), **overrides}
    return [part for k, v in merged.items() for part in ("-c", f"{k}={v}")]
