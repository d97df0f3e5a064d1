"""Several identical processes behind the same listeners, and the parent of them.

The parent opens the listening sockets and hands them to every process. It could open
one for each process at the same port (SO_REUSEPORT) instead. But then the kernel deals
connections out by their numbers, also to a process that has no time for them; and what
waits at the socket of a process that dies is lost. From one queue, whoever has time
takes the next, and while one process is away, the others take its share.

The parent also runs PostgreSQL, brings the schema up to date, and starts again what
died. It answers no requests and holds nothing that is worth keeping.

- SIGTERM and SIGINT stop everything in order; SIGHUP is passed on.
- SIGUSR1 replaces one process after the other, such as by those of a new release.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

import structlog

from homeserver import logs
from homeserver.cli import greeting, running
from homeserver.cli.slot import Slot, is_ready
from homeserver.cli.steps import Refused, say
from homeserver.config import Config
from homeserver.db.pool import Database
from homeserver.db.server_process import describe
from homeserver.http.sockets import Address, open_sockets

# A process that has so long to come to an end, and its requests.
GRACE_SECONDS: Final = 45.0
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
# So often in a row no process at all could be started: it will not be better soon.
MOST_FAILURES: Final = 5
STEADY_SECONDS: Final = 60.0  # a process that served so long was not failing

log = structlog.get_logger(__name__)


def serve(
    config: Config, file: Path | None, named: Path | None, processes: int
) -> None:
    """Run that many processes until Ctrl-C or SIGTERM. Raises: what EXPECTED names."""
    logs.set_up(config.logging.level, config.logging.format, process=0)

    def family(config: Config, dsn: str) -> "Family":
        return Family(config, file, dsn, processes)

    async def greet(family: Family) -> None:
        for address in family.addresses:
            greeting.say_where(config, address)
        say(f"{processes} processes serve")
        async with await Database.connect(family.dsn, size=2, patience=10) as db:
            await greeting.say_first_steps(db, named)

    running.run(config, family, greet, processes=processes, watch=Family.watch)


class Family:
    """The processes; `async with` starts them all and stops them.

    Raises: CannotListen; Refused, when they cannot be started.
    """

    def __init__(
        self, config: Config, file: Path | None, dsn: str, processes: int
    ) -> None:
        self._config = config
        self._file = file
        self.dsn = dsn
        self.addresses: list[Address] = []
        self._sockets: list[list[socket.socket]] = []
        self._telling: list[socket.socket] = []
        self._directory = ""
        self._members = [_Member(number) for number in range(1, processes + 1)]
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[NoReturn]
        self._roll: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        try:
            self._open()
            for number, act in (
                (signal.SIGHUP, self._pass_on_hangup),
                (signal.SIGUSR1, self._begin_to_roll),
            ):
                loop.add_signal_handler(number, act)
            # What only the first does, such as making the signing key, is then done;
            # and what is wrong is told once.
            await self._start(self._members[:1])
            await self._start(self._members[1:])
        except BaseException:
            await self._stop()
            raise
        self._tasks = [asyncio.create_task(self._keep(m)) for m in self._members]
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def watch(self) -> NoReturn:
        """Wait for as long as there are processes. Raises: Refused after that."""
        await asyncio.shield(self._failed)
        raise Refused("no process can be started any more")

    # ── What all of them share ───────────────────────────────────────────────────

    def _open(self) -> None:
        for listen in self._config.listen:
            address = Address(
                listen.bind, listen.port, listen.serves, listen.tls_certificate
            )
            opened = open_sockets(address)
            self._sockets.append(opened)
            port = int(opened[0].getsockname()[1])
            self.addresses.append(replace(address, port=port))
        self._directory = tempfile.mkdtemp(prefix="hearth-")
        for member in self._members:
            self._telling.append(listening := socket.socket(socket.AF_UNIX))
            listening.bind(self._path(member))
            listening.listen()

    def _path(self, member: "_Member") -> str:
        return f"{self._directory}/{member.number}"

    def _slot(self, member: "_Member", line: socket.socket) -> Slot:
        return Slot(
            number=member.number,
            dsn="" if self._config.database_url else self.dsn,
            config=str(self._file.absolute()) if self._file else "",
            listening=tuple(
                tuple(one.fileno() for one in each) for each in self._sockets
            ),
            counts=tuple(map(self._path, self._members)),
            telling=self._telling[member.number - 1].fileno(),
            line=line.fileno(),
        )

    # ── Each process ─────────────────────────────────────────────────────────────

    async def _start(self, members: "Sequence[_Member]") -> None:
        """Start them at the same time. Raises: Refused, when one does not serve."""
        started = await asyncio.gather(*map(self._start_one, members))
        for member, is_there in zip(members, started, strict=True):
            if not is_there:
                how = await self._end_of(member)
                raise Refused(
                    f"process {member.number} of {len(self._members)} did not start"
                    f" ({how}); what it said stands above"
                )

    async def _start_one(self, member: "_Member") -> bool:
        """Start a process and wait until it serves; False: it ended before."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        slot = self._slot(member, theirs)
        environment = {**os.environ, **slot.environment}
        environment.pop("NOTIFY_SOCKET", None)
        try:
            member.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "homeserver",
                "serve",
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=slot.descriptors,
                # Ctrl-C at the terminal is for us alone.
                start_new_session=True,
            )
        except OSError:
            log.exception("a process cannot be started", number=member.number)
            ours.close()
            return False
        finally:
            theirs.close()
        member.line = ours
        with contextlib.suppress(OSError):
            member.serves = await is_ready(ours)
        if member.serves:
            member.since = asyncio.get_running_loop().time()
        return member.serves

    async def _end_of(self, member: "_Member") -> str:
        """Wait for the process to end; how it did."""
        member.serves_again.clear()
        if member.process is None:
            return "it could not be run"
        code = await member.process.wait()
        member.serves = False
        if member.line is not None:
            member.line.close()
            member.line = None
        return describe(code)

    async def _keep(self, member: "_Member") -> None:
        """Start the process again whenever it has ended, ever more slowly."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            if member.serves:
                member.serves_again.set()
            how = await self._end_of(member)
            if self._is_stopping:
                return
            if member.is_to_end:
                failures = 0
                member.is_to_end = False
            elif loop.time() - member.since > STEADY_SECONDS:
                failures = 0
            pause = 0.0
            if failures:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
            log.warning(
                "a process has ended; starting it again",
                number=member.number,
                how=how,
                seconds=pause,
            )
            await asyncio.sleep(pause)
            failures += 1
            member.failures = failures
            if await self._start_one(member):
                member.failures = 0
                log.info("a process serves again", number=member.number)
            elif all(m.failures >= MOST_FAILURES for m in self._members):
                if not self._failed.done():
                    self._failed.set_exception(Refused("no process can be started"))
                return

    def _pass_on_hangup(self) -> None:
        for member in self._members:
            if member.serves:
                member.send(signal.SIGHUP)

    # ── One after the other ──────────────────────────────────────────────────────

    def _begin_to_roll(self) -> None:
        if self._roll is None or self._roll.done():
            self._roll = asyncio.create_task(self._replace_all())

    async def _replace_all(self) -> None:
        log.info("replacing one process after the other")
        for member in self._members:
            if not member.serves:
                continue  # it is being started anyhow
            member.is_to_end = True
            member.serves_again.clear()
            member.send(signal.SIGTERM)
            await member.serves_again.wait()
        log.info("all processes are new")

    # ── The end ──────────────────────────────────────────────────────────────────

    async def _stop(self) -> None:
        self._is_stopping = True
        if self._roll is not None:
            self._roll.cancel()
        there = [m for m in self._members if m.is_there]
        for member in there:
            member.send(signal.SIGTERM)
        await asyncio.gather(*map(self._see_off, there))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._failed.done():
            self._failed.cancel()
        for one in (one for each in self._sockets for one in each):
            one.close()
        for listening in self._telling:
            listening.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @staticmethod
    async def _see_off(member: "_Member") -> None:
        if member.process is None:
            return
        try:
            await asyncio.wait_for(member.process.wait(), GRACE_SECONDS)
        except TimeoutError:
            log.warning("a process does not stop: killing it", number=member.number)
            member.send(signal.SIGKILL)
            await member.process.wait()


class _Member:
    """One of the processes, whichever it is at the time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.line: socket.socket | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.serves = False
        self.serves_again = asyncio.Event()
        self.is_to_end = False  # because somebody asked for it
        self.since = 0.0
        self.failures = 0

    @property
    def is_there(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
