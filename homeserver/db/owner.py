"""One process at a time owns a data directory, and tells others how to reach it.

The lock is the kernel's (flock), so it ends with its holder, however that ends. The
file's content is only news: who holds it and where the database listens.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

LOCK_FILE = "postgres.lock"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs the private PostgreSQL of a data directory, and where it listens."""

    pid: int
    dsn: str
    socket_directory: str


class OwnerLock:
    """The lock of one data directory, held until `release` or our end."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._fd: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process (or lock of ours) holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def last(self) -> Owner | None:
        """What the present or former holder wrote, or None."""
        return _read(self._path)

    def announce(self, owner: Owner) -> None:
        """Say where the database listens. Only the holder may."""
        assert self._fd is not None  # noqa: S101 - a slip of ours, not of the data
        content = json.dumps(asdict(owner)).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content, 0)

    def release(self) -> None:
        """Forget what was announced and let the next one in."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def _read(path: Path) -> Owner | None:
    try:
        told = json.loads(path.read_bytes())
        return Owner(int(told["pid"]), str(told["dsn"]), str(told["socket_directory"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_held(data_dir: Path) -> bool:
    """Whether some process has the data directory's lock now."""
    try:
        fd = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def running(data_dir: Path) -> Owner | None:
    """Who runs this data directory's PostgreSQL now; None: nobody, or not yet."""
    return _read(data_dir / LOCK_FILE) if is_held(data_dir) else None
