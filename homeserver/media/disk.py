"""Files on the disk, each under the SHA-256 of its content and some chance.

A file is written beside its place, and put there when it is whole.
Whatever may wait for the disk happens in threads.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from homeserver.http.files import in_thread
from homeserver.media.places import DISK, Missing, Place, Store

# What arrives is written to at least this often, or has been given up.
ABANDONED_S: Final = 3600.0
# Of `writev`: more pieces than this at once are refused.
_MOST_PIECES: Final = 512
_CHUNK: Final = 256 * 1024


class DiskDraft:
    """A file that is arriving, on this disk; readers of `path` see it grow.

    `keep` hands it to the store that it is for.
    """

    def __init__(self, path: Path, target: Store) -> None:
        self.path = path
        self.size = 0
        self._target = target
        self._descriptor: int | None = None
        self._hash = hashlib.sha256()
        self._is_kept = False

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what has been added so far."""
        return self._hash.digest()

    def add(self, pieces: Sequence[bytes]) -> "asyncio.Future[None]":
        """Append; readers of the path see it at once."""
        return in_thread(self.write, pieces)

    def write(self, pieces: Sequence[bytes]) -> None:
        """The same, here and now."""
        if self._descriptor is None:
            self._descriptor = _create(self.path)
        for start in range(0, len(pieces), _MOST_PIECES):
            self._write(self._descriptor, pieces[start : start + _MOST_PIECES])

    def _write(self, descriptor: int, pieces: Sequence[bytes]) -> None:
        size = sum(map(len, pieces))
        written = os.writev(descriptor, pieces)
        if written < size:
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        for piece in pieces:
            self._hash.update(piece)
        self.size += size

    async def keep(self) -> Place:
        """Put it in its place, where it survives a crash.

        Raises: OSError, Unavailable.
        """
        if isinstance(self._target, Disk):
            place = await in_thread(self._put, self._target)
            self._is_kept = True
            return place
        await in_thread(self._finish)
        return await self._target.put(self.path, self.sha256, self.size)

    def _put(self, disk: "Disk") -> Place:
        self._finish()
        return disk.take(self.path, self.sha256)

    def _finish(self) -> None:
        self.write(())
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def discard(self) -> None:
        """Delete it, unless it has been kept."""
        if not self._is_kept:
            await in_thread(self._delete)

    def _delete(self) -> None:
        self._close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class DiskPart:
    """A part of an open file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self.file: BinaryIO = file
        self.offset = offset
        self.size = size

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it holds, piece by piece. Raises: EOFError."""
        end = self.offset + self.size
        for start in range(self.offset, end, _CHUNK):
            size = min(_CHUNK, end - start)
            yield await in_thread(read_exactly, self.file, start, size)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Disk:
    """The files below one directory."""

    name = DISK
    shelves_at_once = 16

    def __init__(self, root: Path, abandoned_s: float = ABANDONED_S) -> None:
        self.abandoned_s = abandoned_s
        self._files = root / "files"
        self._incoming = root / "incoming"

    async def begin(self, size: int | None = None) -> DiskDraft:  # noqa: ARG002 - S3 holds what comes
        """Begin to write a file."""
        return self.spool(self)

    def spool(self, target: Store) -> DiskDraft:
        """Begin to write a file here that is for any store."""
        return DiskDraft(self._incoming / secrets.token_hex(16), target)

    async def put(self, path: Path, sha256: bytes, size: int) -> Place:  # noqa: ARG002 - as S3 has it
        """Move a file in here that is on the same disk."""
        return await in_thread(self.take, path, sha256)

    def take(self, path: Path, sha256: bytes) -> Place:
        """The same, here and now."""
        key = f"{sha256.hex()}-{secrets.token_hex(4)}"
        place = self.path_of(key)
        try:
            path.replace(place)
        except FileNotFoundError:
            place.parent.mkdir(parents=True, exist_ok=True)
            _sync(self._files)
            path.replace(place)
        # In this order, most file systems write the new name down with the content,
        # and there is nothing left to do for the directory.
        _sync(place)
        _sync(place.parent)
        return Place(DISK, key)

    def path_of(self, key: str) -> Path:
        """Where the file with this key is, or would be."""
        return self._files / key[:2] / key[2:]

    async def open(self, key: str, start: int, size: int) -> DiskPart:
        """Open a part of a file. Raises: Missing."""
        try:
            file = await in_thread(open_raw, self.path_of(key))
        except FileNotFoundError:
            raise Missing(key) from None
        return DiskPart(file, start, size)

    async def read(self, key: str, start: int, size: int) -> bytes:
        """A small part of a file. Raises: Missing, EOFError."""
        return await in_thread(self._read, key, start, size)

    def _read(self, key: str, start: int, size: int) -> bytes:
        try:
            with open_raw(self.path_of(key)) as file:
                return read_exactly(file, start, size)
        except FileNotFoundError:
            raise Missing(key) from None

    async def delete(self, key: str) -> None:
        """Delete the file, if it is there."""
        await in_thread(self._delete, key)

    def _delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path_of(key).unlink()

    async def give_up_drafts(self) -> int:
        """Delete what arrived and was never finished; how many there were."""
        return await in_thread(self._give_up_drafts)

    def _give_up_drafts(self) -> int:
        given_up = 0
        for entry in _entries(self._incoming):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > self.abandoned_s:
                    Path(entry.path).unlink()
                    given_up += 1
        return given_up

    async def shelves(self) -> list[str]:
        """The directories that hold files."""
        return await in_thread(self._shelves)

    def _shelves(self) -> list[str]:
        return sorted(entry.name for entry in _entries(self._files))

    async def on_shelf(self, shelf: str) -> list[str]:
        """The keys that one directory holds, but for those just put there."""
        return await in_thread(self._on_shelf, shelf)

    def _on_shelf(self, shelf: str) -> list[str]:
        found = []
        for entry in _entries(self._files / shelf):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_ctime > self.abandoned_s:
                    found.append(shelf + entry.name)
        return found

    async def stop(self) -> None:
        """Nothing is under way that would have to end."""


def open_raw(path: Path) -> BinaryIO:
    """A file, to be read in pieces. Raises: FileNotFoundError."""
    return path.open("rb", buffering=0)


def read_exactly(file: BinaryIO, start: int, size: int) -> bytes:
    """A part of a file. Raises: EOFError."""
    body = os.pread(file.fileno(), size, start)
    if len(body) != size:
        raise EOFError("a stored file is shorter than it should be")
    return body


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o666)


def _entries(directory: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
