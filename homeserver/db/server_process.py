"""One running PostgreSQL: started through the guard, awaited, signalled, stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from homeserver.db import guard, postmaster
from homeserver.db.errors import DatabaseError
from homeserver.db.log_file import LogFile
from homeserver.db.os_user import OsUser

# How long the server may take to stop at each request, from polite to certain.
STOP_STEPS: Final = (
    (signal.SIGINT, 60.0),  # fast shutdown: roll back, checkpoint, leave
    (signal.SIGQUIT, 10.0),  # immediate: recovers at the next start
    (signal.SIGKILL, 10.0),
)
REPEAT_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.02
CAN_FOLLOW_PARENT: Final = sys.platform.startswith("linux")
# The program looks up its time zone and locale here and nowhere else.
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Launcher:
    """How programs of PostgreSQL are started: as whom, where, and with which guard."""

    user: OsUser
    watcher: bool = not CAN_FOLLOW_PARENT
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)

    async def start(
        self, program: Sequence[str], output: int, hold: Path | None = None
    ) -> "GuardedProcess":
        """Start the program, its output going to that descriptor.

        It finds the directory `hold` as `guard.HELD`, whoever it runs as.

        Raises: DatabaseError when called outside the main thread, whose end would be
        taken for ours.
        """
        if threading.current_thread() is not threading.main_thread():
            raise DatabaseError("PostgreSQL can only be started from the main thread")
        options = [f"--parent={os.getpid()}"]
        if hold is not None:
            options.append(f"--hold={hold}")
        if not self.user.is_us:
            groups = ",".join(map(str, self.user.groups))
            options += [f"--uid={self.user.uid}", f"--gid={self.user.gid}"]
            options += [f"--groups={groups}"]
        script = [sys.executable, "-I", "-S", str(Path(guard.__file__))]
        if not self.watcher:
            process = await asyncio.create_subprocess_exec(
                *script,
                *options,
                "--",
                *program,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                # Ctrl-C at the terminal is for us; we stop the server when done.
                start_new_session=True,
            )
            return GuardedProcess(process, process.pid, None)
        return await self._start_watched([*script, *options], program, output)

    async def _start_watched(
        self, script: Sequence[str], program: Sequence[str], output: int
    ) -> "GuardedProcess":
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *script,
                f"--lifeline={read_end}",
                "--",
                *program,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=output,
                env=self.environment,
                start_new_session=True,
                pass_fds=(read_end,),
            )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        assert process.stdout is not None  # noqa: S101 - asked for above
        told = await process.stdout.readline()
        pid = int(told) if told.strip().isdigit() else process.pid
        return GuardedProcess(process, pid, write_end)


class GuardedProcess:
    """A started program; `pid` is its own, also when a watcher stands between us."""

    def __init__(self, process: Process, pid: int, lifeline: int | None) -> None:
        self._process = process
        self._lifeline = lifeline
        self.pid = pid

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as we have been told."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit status; minus N when signal N ended it."""
        code = await self._process.wait()
        self._cut_lifeline()
        return code

    async def stop(
        self, steps: Sequence[tuple[signal.Signals, float]] = STOP_STEPS
    ) -> None:
        """Ask it to stop, ever less politely, until it has.

        Each request is repeated, as one that comes while the program starts may be
        lost.
        """
        for number, patience in steps:
            deadline = time.monotonic() + patience
            while self.running and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    # SIGKILL would only reach a watcher, so it goes to the program.
                    os.kill(self.pid, number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wait(), REPEAT_SECONDS)
        self._cut_lifeline()

    def _cut_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def describe(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code > 128 and code - 128 in set(signal.Signals):
        return f"ended by {signal.Signals(code - 128).name}"
    return f"exit status {code}"


async def await_ready(
    process: GuardedProcess, cluster: Path, log: LogFile, offset: int, patience: float
) -> None:
    """Wait until the server takes connections.

    Raises: NotStarted when it ended, or did not become ready in time.
    """
    deadline = time.monotonic() + patience
    while process.running:
        recorded = postmaster.read_pid_file(cluster)
        # A stale file may say "ready" too: it counts only with our child's number.
        if recorded and recorded.pid == process.pid and recorded.status == "ready":
            return
        if time.monotonic() > deadline:
            await process.stop()
            raise NotStarted(f"not ready within {patience:.0f} s", log.since(offset))
        await asyncio.sleep(POLL_SECONDS)
    raise NotStarted(describe(await process.wait()), log.since(offset))


class NotStarted(DatabaseError):  # noqa: N818 - reads as a sentence at the raise
    """The server did not start; `log` is what it said about it."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(f"PostgreSQL did not start: {what}\n{log}".rstrip())
        self.log = log

    @property
    def may_pass(self) -> bool:
        """Whether the cause goes away by itself: what is left of a killed server."""
        return (
            "lock file" in self.log and "already exists" in self.log
        ) or "pre-existing shared memory block" in self.log
