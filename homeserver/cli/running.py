"""Run a server until it is told to stop, and stop everything in the right order.

The order: requests and tasks of the server, then its connections, then PostgreSQL. A
second Ctrl-C stops at once; nothing that was acknowledged is lost by that either, as
PostgreSQL still shuts down by itself when we are gone.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

import structlog
import uvloop

from homeserver.cli.database import own_database
from homeserver.cli.service_manager import tell_service_manager
from homeserver.cli.steps import Steps
from homeserver.config import Config
from homeserver.db.migrate import migrate

FORCED: Final = 130  # 128 + SIGINT

S = TypeVar("S")
# A server on a database: entered when it can be reached, left when it has stopped.
Serve = Callable[[Config, str], AbstractAsyncContextManager[S]]
# What to say when it serves.
Greet = Callable[[S], Awaitable[None]]
# What to do first when somebody asks it to end, and others may take over (SIGTERM).
BeforeEnd = Callable[[S], None]
# Returns only by raising, when the server has failed.
Watch = Callable[[S], Awaitable[object]]


def _just_end(_: object) -> None:
    pass


async def _for_ever(_: object) -> None:
    await asyncio.Event().wait()


log = structlog.get_logger(__name__)


class Reporter:
    """Steps while starting and stopping; log lines while serving."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._steps = Steps(quiet=quiet)
        self.serving = False

    def __call__(self, text: str) -> None:
        """Say it in the way of the moment."""
        if self.serving:
            log.warning(text)
        else:
            self._steps(text)

    def started(self) -> None:
        """The last step is done; from now on the log is told."""
        self._steps.done()
        self.serving = True

    def stopping(self, text: str) -> None:
        """From now on steps again."""
        self.serving = False
        self._steps(text)

    def end(self, *, well: bool) -> None:
        """The last word."""
        if well:
            self._steps.done()
        else:
            self._steps.interrupted()


def run(
    config: Config,
    serve: Serve[S],
    greet: Greet[S],
    before_end: BeforeEnd[S] = _just_end,
    *,
    watch: Watch[S] = _for_ever,
    processes: int = 1,
) -> None:
    """Run the server in this process until SIGINT or SIGTERM; `greet` when it serves.

    `processes`: how many will use the database. `watch` ends when the server failed.

    Raises: what the server or the database raised.
    """

    async def main(life: "_Life[S]") -> None:
        report = life.report
        async with own_database(config, report, processes) as source:
            await migrate(source.dsn, report=report)
            report(f"starting the server for {config.server_name}")
            async with serve(config, source.dsn) as server:
                life.server = server
                report.started()
                await greet(server)
                tell_service_manager("READY=1")
                await asyncio.gather(source.failed(), watch(server))

    _run(_Life(before_end), main)


def run_one_of_several(
    server: AbstractAsyncContextManager[S],
    greet: Greet[S],
    before_end: BeforeEnd[S],
    until_alone: Callable[[], Awaitable[None]],
) -> None:
    """Run one process of several, whose parent sees to everything else.

    It ends as on SIGTERM when `until_alone` does. Raises: what the server raised.
    """

    async def main(life: "_Life[S]") -> None:
        async with server as entered:
            life.server = entered
            life.report.started()
            await greet(entered)
            await until_alone()
            log.error("the parent is gone: stopping")

    _run(_Life(before_end, quiet=True), main)


class _Life(Generic[S]):
    """What the parts of a run know of each other."""

    def __init__(self, before_end: BeforeEnd[S], *, quiet: bool = False) -> None:
        self.report = Reporter(quiet=quiet)
        self.server: S | None = None
        self.stop = asyncio.Event()
        self._before_end = before_end
        self._quiet = quiet

    def on_signal(self, number: signal.Signals) -> None:
        """Stop, or stop at once."""
        if self.stop.is_set():
            if number is signal.SIGINT and not self._quiet:
                os._exit(FORCED)  # PostgreSQL, our child, takes it as its sign to stop
            return
        self.report.stopping("stopping (Ctrl-C again: at once)")
        if not self._quiet:
            tell_service_manager("STOPPING=1")
        if number is signal.SIGTERM and self.server is not None:
            self._before_end(self.server)
        self.stop.set()


def _run(life: _Life[S], main: Callable[[_Life[S]], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(life, main(life)))


async def _until_stopped(life: _Life[S], main: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, life.on_signal, number)
    running = asyncio.create_task(main)
    stopped = asyncio.create_task(life.stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.wait({running})
    finally:
        stopped.cancel()
        well = running.done() and (running.cancelled() or not running.exception())
        life.report.end(well=well)
    if not running.cancelled():
        running.result()
