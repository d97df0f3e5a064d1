"""`hearth demo`: two servers on this machine talk with each other over TLS."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final

import aiohttp
import typer
from rich.markup import escape

from homeserver.cli.console import out
from homeserver.cli.steps import Steps, fail
from homeserver.demo.certificates import CertificateAuthority
from homeserver.demo.dialogue import Dialogue
from homeserver.demo.people import DidNotArrive, Person, Refusal
from homeserver.demo.servers import DemoServer, DidNotStart, trusting

COLOURS: Final = {"alice": "magenta", "bob": "cyan"}
REQUEST_SECONDS: Final = 60.0


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers' files for a look.")
    ] = False,
) -> None:
    """Let alice and bob on two servers of this machine talk with each other."""
    directory = Path(tempfile.mkdtemp(prefix="hearth-demo-"))
    directory.chmod(0o711)  # for the user that runs PostgreSQL
    try:
        asyncio.run(_demo(directory))
    finally:
        if keep:
            out.print(f"the servers' files are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _demo(directory: Path) -> None:
    steps = Steps()
    servers: list[DemoServer] = []
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(steps.interrupted)
        try:
            steps("starting two servers, each with a database of its own")
            http = await _start(directory, servers, stack)
            steps.done()
            await _talk(http, servers)
        except (DidNotStart, DidNotArrive, Refusal, aiohttp.ClientError) as error:
            steps.interrupted()
            for server in servers:
                out.print(f"[dim]{escape(server.log_tail())}[/]")
            fail(str(error))
            raise typer.Exit(1) from None
        steps("stopping both servers")
    steps.done()


async def _start(
    directory: Path, servers: list[DemoServer], stack: contextlib.AsyncExitStack
) -> aiohttp.ClientSession:
    """Start the servers, wait for them, and answer what their clients connect with."""
    authority = CertificateAuthority.create()
    for name in ("one", "two"):
        server = await DemoServer.start(directory / name, authority)
        stack.push_async_callback(server.stop)
        servers.append(server)
    http = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting(directory, authority)),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
        )
    )
    await asyncio.gather(*(server.answers(http) for server in servers))
    return http


async def _talk(http: aiohttp.ClientSession, servers: list[DemoServer]) -> None:
    alice = await Person.register(http, servers[0].url, "alice")
    bob = await Person.register(http, servers[1].url, "bob")
    for person in (alice, bob):
        _say(person.name, f"is {person.user_id}")
    dialogue = Dialogue(alice, bob, _say)
    await dialogue.run()
    out.print(f"[green]all {dialogue.lines} lines arrived[/]")


def _say(who: str, what: str) -> None:
    if who:
        out.print(f"[bold {COLOURS[who]}]{who:>7}[/]  {escape(what)}")
    else:
        out.print(f"         [dim]→ {escape(what)}[/]")
