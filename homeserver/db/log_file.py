"""PostgreSQL's own log: a file that keeps its end and one older piece."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 8 * 1024 * 1024
CHECK_SECONDS: Final = 30


class LogFile:
    """`postgres.log`, written by the server itself and kept small by us."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def open(self) -> int:
        """A descriptor for the server's standard error; the caller closes it.

        In append mode, so that shortening the file does not leave a hole.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def size(self) -> int:
        """How long it is now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, offset: int, most: int = 8192) -> str:
        """The end of what was written after `offset`."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(max(offset, self.size() - most))
            return file.read(most).decode("utf-8", "replace")
        return ""

    def shorten(self) -> bool:
        """Move the content aside when it has grown too long."""
        if self.size() <= self._max_bytes:
            return False
        # Copied and cut, not renamed: the server goes on writing to the same file.
        shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
        os.truncate(self.path, 0)
        return True

    async def keep_short(self) -> None:
        """Shorten the file whenever it needs it, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.shorten)
            await asyncio.sleep(CHECK_SECONDS)
