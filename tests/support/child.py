"""A server process that a test starts, watches and ends, and that never outlives it."""

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LOG_TAIL: Final = 4_000


class ChildFailedError(AssertionError):
    """The server did not come up, or not go down; the text ends with its log."""


def die_with_parent() -> None:
    """In the child: whatever ends the tests ends their servers."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One process, its log file, and what it used. Start it from the main thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.cwd = cwd
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ChildFailedError(f"{self.argv[0]} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.is_running:
            raise ChildFailedError(f"{self.argv[0]} runs already as {self.pid}")
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - takes no lock
            )

    async def stop(self, grace: float = 20) -> int:
        """SIGTERM, and SIGKILL with a failure when that does not do. Returns its code.

        Raises: ChildFailedError when it had to be killed.
        """
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
        if await self._ended(grace):
            return process.returncode
        await self.kill()
        raise ChildFailedError(
            f"{self.argv[0]} did not stop within {grace} s\n{self.tail()}"
        )

    async def kill(self) -> None:
        """SIGKILL: no chance to write or say anything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        await self._ended(5)

    async def _ended(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def family(self) -> list[psutil.Process]:
        """The process and all that it started."""
        try:
            me = psutil.Process(self.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def tail(self) -> str:
        """The end of the log, for a failure's text."""
        try:
            return self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        except FileNotFoundError:
            return "(no log)"


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Processor time of these processes so far, those that ended left out."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_bytes(processes: Sequence[psutil.Process]) -> int:
    """Resident memory of these processes now."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
