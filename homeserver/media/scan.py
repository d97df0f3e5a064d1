"""A look at each new file by a program of the administrator's, such as a virus scanner.

It gets the file's name as its last argument and says by its exit status whether the
file may be kept: 0 yes, 1 no (as clamscan and clamdscan do). Anything else means that
it could not tell, and then the file is not taken either.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from homeserver import errors

SECONDS: Final = 120.0
_MOST_AT_ONCE: Final = 4
_MOST_WAITING: Final = 100

log = structlog.get_logger(__name__)


class Scanner:
    """Runs the program, a few times at once. Without a program all files are good."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)
        self._waiting = 0

    @property
    def is_on(self) -> bool:
        """Whether files are looked at."""
        return bool(self._command)

    async def check(self, path: Path) -> None:
        """Refuse a bad file. Raises: M_FORBIDDEN; 503, when the program cannot tell."""
        if not self._command:
            return
        if self._waiting >= _MOST_WAITING:
            raise errors.overloaded()
        self._waiting += 1
        try:
            async with self._slots:
                status = await self._run(path)
        finally:
            self._waiting -= 1
        if status == 1:
            log.warning("a file was refused by the scanner", file=path.name)
            raise errors.forbidden("This file may not be uploaded.")
        if status != 0:
            log.error("the scanner could not tell", status=status)
            raise errors.unavailable("The file could not be checked. Try again later.")

    async def _run(self, path: Path) -> int | None:
        """The program's exit status; None, when it has none."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log.error("the scanner does not start", reason=str(error))  # noqa: TRY400 - the trace says nothing
            return None
        try:
            async with asyncio.timeout(SECONDS):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
