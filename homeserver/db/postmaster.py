"""Whether a PostgreSQL server lives on a data directory, and whether it is ready.

`postmaster.pid` alone proves nothing: after a kill it names a process that is dead, or
dead and not yet reaped, or by now somebody else's.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from homeserver.db.cluster import SOCKET_NAME
from homeserver.db.errors import DatabaseError

PID_FILE: Final = "postmaster.pid"
SOCKET_LOCK: Final = f"{SOCKET_NAME}.lock"  # begins as the pid file does


@dataclass(frozen=True, slots=True)
class PidFile:
    """What `postmaster.pid` says; its status is "ready" when connections are taken."""

    pid: int
    status: str


def read_pid_file(cluster: Path, name: str = PID_FILE) -> PidFile | None:
    """The file's content, or None when it is not there or half written."""
    try:
        lines = (cluster / name).read_text("utf-8", "replace").splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    # Line 8 is the status, padded with blanks (PostgreSQL's pidfile.h).
    return PidFile(abs(pid), lines[7].strip() if len(lines) > 7 else "")


def major_version(cluster: Path) -> int | None:
    """The major version that made the directory, or None when nothing is there.

    Raises: DatabaseError when something is there that is not a data directory.
    """
    if not cluster.exists() or not any(cluster.iterdir()):
        return None
    try:
        return int((cluster / "PG_VERSION").read_text("ascii"))
    except (FileNotFoundError, ValueError):
        raise DatabaseError(
            f"{cluster} is not empty and not a PostgreSQL data directory: move it away"
        ) from None


def servers_of(cluster: Path) -> set[int] | None:
    """The processes of PostgreSQL that work in this directory; None: cannot be told.

    Each of them, and nobody else, has it as its working directory. A zombie has none,
    so it does not count.
    """
    proc = Path("/proc")
    if not (proc / "self" / "cwd").exists():
        return None
    wanted = cluster.stat()
    found = set()
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to look at
            cwd = (entry / "cwd").stat()
            if (cwd.st_dev, cwd.st_ino) == (wanted.st_dev, wanted.st_ino) and (
                entry / "comm"
            ).read_text().startswith(("postgres", "postmaster")):
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process of that number is there, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lingering(cluster: Path) -> int | None:
    """The pid of a former server that is still there, or None.

    The caller must hold the data directory's lock.
    """
    servers = servers_of(cluster)
    recorded = read_pid_file(cluster)
    if servers is None:
        return recorded.pid if recorded and alive(recorded.pid) else None
    if recorded is not None and recorded.pid in servers:
        return recorded.pid
    return min(servers, default=None)


def forget_stale_pids(cluster: Path) -> bool:
    """Remove lock files whose number another process or a zombie has by now.

    PostgreSQL would refuse to start for as long as that process lives. Only done when
    it is certain that nothing of PostgreSQL works in the directory. The caller must
    hold the data directory's lock.
    """
    stale = [
        name
        for name in (PID_FILE, SOCKET_LOCK)
        if (recorded := read_pid_file(cluster, name)) and alive(recorded.pid)
    ]
    if not stale or servers_of(cluster) != set():
        return False
    for name in stale:
        (cluster / name).unlink(missing_ok=True)
    return True
