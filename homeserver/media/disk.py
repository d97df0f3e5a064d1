"""Files on the disk, each under the SHA-256 of its content.

All functions here may wait for the disk: call them through `in_thread`.
"""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

# What arrives is written to at least this often, or has been given up.
ABANDONED_S: Final = 3600.0


class Draft:
    """A file that is arriving; it becomes one of the store's with `Disk.keep`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file: BinaryIO = path.open("xb")
        self._hash = hashlib.sha256()

    def add(self, pieces: Iterable[bytes]) -> None:
        """Append; readers of the path see it at once."""
        for piece in pieces:
            self._hash.update(piece)
            self._file.write(piece)
            self.size += len(piece)
        self._file.flush()

    def finish(self) -> None:
        """Put it onto the disk; `sha256` is then that of all that was added."""
        os.fsync(self._file.fileno())
        self._file.close()

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what has been added so far."""
        return self._hash.digest()

    def discard(self) -> None:
        """Delete it, unless it has been kept."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class Disk:
    """The files below one directory."""

    def __init__(self, root: Path, abandoned_s: float = ABANDONED_S) -> None:
        self.abandoned_s = abandoned_s
        self._files = root / "files"
        self._incoming = root / "incoming"

    def begin(self) -> Draft:
        """Begin to write a file."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        return Draft(self._incoming / secrets.token_hex(16))

    def keep(self, draft: Draft) -> None:
        """Put a finished draft in its place, where it survives a crash."""
        path = self.path_of(draft.sha256)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync(self._files)
        draft.path.replace(path)
        _sync(path.parent)

    def path_of(self, sha256: bytes) -> Path:
        """Where the file with this content is, or would be."""
        name = sha256.hex()
        return self._files / name[:2] / name[2:]

    def open(self, sha256: bytes) -> BinaryIO:
        """The file, to be read. Raises: FileNotFoundError."""
        return open_raw(self.path_of(sha256))

    def delete(self, sha256: bytes) -> None:
        """Delete the file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.path_of(sha256).unlink()

    def give_up_drafts(self) -> int:
        """Delete what arrived and was never finished; how many there were."""
        given_up = 0
        for entry in _entries(self._incoming):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > self.abandoned_s:
                    Path(entry.path).unlink()
                    given_up += 1
        return given_up

    def shelves(self) -> list[str]:
        """The directories that hold files."""
        return sorted(entry.name for entry in _entries(self._files))

    def on_shelf(self, shelf: str) -> list[bytes]:
        """The contents that one directory holds, but for those just put there."""
        found = []
        for entry in _entries(self._files / shelf):
            with contextlib.suppress(FileNotFoundError, ValueError):
                if time.time() - entry.stat().st_ctime > self.abandoned_s:
                    found.append(bytes.fromhex(shelf + entry.name))
        return found


def open_raw(path: Path) -> BinaryIO:
    """A file, to be read in pieces. Raises: FileNotFoundError."""
    return path.open("rb", buffering=0)


def _entries(directory: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
