"""What the two kinds of stores have in common: the disk, and S3.

A file stands under a key that is used once: it is put there whole, then a row names
it; the row goes, and then the file. So whoever crashes in between leaves at most a file
that no row names, which the next sweep removes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

DISK: Final = "disk"
S3: Final = "s3"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is: a store, and the file's key there."""

    store: str
    key: str


class Missing(Exception):  # noqa: N818 - reads as a sentence at the raise
    """There is no such file in the store."""


class Unavailable(Exception):  # noqa: N818 - reads as a sentence at the raise
    """The store does not answer, or refuses us."""


class Draft(Protocol):
    """A file that is arriving."""

    size: int

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what has been added so far."""

    def add(self, pieces: Sequence[bytes]) -> "asyncio.Future[None]":
        """Append, in the background; one call at a time."""

    async def keep(self) -> Place:
        """Put it in its place, whole, where it survives a crash.

        Raises: OSError, Unavailable.
        """

    async def discard(self) -> None:
        """Remove what there is of it, unless it has been kept."""


class Part(Protocol):
    """A part of a file, opened to be read."""

    offset: int
    size: int

    @property
    def file(self) -> BinaryIO | None:
        """The file, where the kernel can send it by itself."""

    def chunks(self) -> AsyncIterator[bytes]:
        """What it holds, piece by piece. Raises: EOFError, Unavailable."""

    def close(self) -> None:
        """End reading."""


class Store(Protocol):
    """Where files are."""

    name: str
    # How many shelves one sweep compares with the table: about a sixteenth of them.
    shelves_at_once: int

    async def begin(self, size: int | None) -> Draft:
        """Begin to write a file, of `size` bytes as far as is known."""

    async def put(self, path: Path, sha256: bytes, size: int) -> Place:
        """Take a file that is whole on the disk; it may be gone there afterwards."""

    async def open(self, key: str, start: int, size: int) -> Part:
        """Open a part of a file. Raises: Missing, Unavailable."""

    async def read(self, key: str, start: int, size: int) -> bytes:
        """A small part of a file. Raises: Missing, Unavailable."""

    async def delete(self, key: str) -> None:
        """Delete a file, if it is there. Raises: Unavailable."""

    async def shelves(self) -> list[str]:
        """Parts of the store that are swept one by one, in order."""

    async def on_shelf(self, shelf: str) -> list[str]:
        """The keys of the files in one part, but for those just put there."""

    async def give_up_drafts(self) -> int:
        """Remove what arrived and was never finished; how many there were."""

    async def stop(self) -> None:
        """End what is under way."""
