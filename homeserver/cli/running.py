"""Run a server until it is told to stop, and stop everything in the right order.

The order: requests and tasks of the server, then its connections, then PostgreSQL. A
second Ctrl-C stops at once; nothing that was acknowledged is lost by that either, as
PostgreSQL still shuts down by itself when we are gone.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

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

log = structlog.get_logger(__name__)


class Reporter:
    """Steps while starting and stopping; log lines while serving."""

    def __init__(self) -> None:
        self._steps = Steps()
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


def run(config: Config, serve: Serve[S], greet: Greet[S]) -> None:
    """Run the server in this process until SIGINT or SIGTERM; `greet` when it serves.

    Raises: what the server or the database raised.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config, serve, greet))


async def _run(config: Config, serve: Serve[S], greet: Greet[S]) -> None:
    report = Reporter()
    stop = _stop_on_signals(report)
    main = asyncio.create_task(_main(config, serve, greet, report))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({main, stopped}, return_when=asyncio.FIRST_COMPLETED)
        main.cancel()
        await asyncio.wait({main})
    finally:
        stopped.cancel()
        report.end(well=main.done() and (main.cancelled() or not main.exception()))
    if not main.cancelled():
        main.result()


def _stop_on_signals(report: Reporter) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set() and number is signal.SIGINT:
            os._exit(FORCED)  # PostgreSQL, our child, takes it as its sign to stop
        if not stop.is_set():
            report.stopping("stopping (Ctrl-C again: at once)")
            tell_service_manager("STOPPING=1")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _main(
    config: Config, serve: Serve[S], greet: Greet[S], report: Reporter
) -> None:
    async with own_database(config, report) as source:
        await migrate(source.dsn, report=report)
        report(f"starting the server for {config.server_name}")
        async with serve(config, source.dsn) as server:
            report.started()
            await greet(server)
            tell_service_manager("READY=1")
            await source.failed()
