"""`hearth appservice`: bridges and bots that are added without a file in hearth.toml.

Straight in the database; a server that runs hears of it at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from homeserver.appservices import store
from homeserver.appservices.registration import Service, UnusableRegistration
from homeserver.appservices.services import Registry, parse_file
from homeserver.cli.console import out
from homeserver.cli.database import opened
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Refused, Steps
from homeserver.config import Config
from homeserver.live.live import Live

commands = typer.Typer(
    help="Bridges and bots: application services.", no_args_is_help=True
)


@commands.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The registration file (YAML).")],
    config: ConfigOption = None,
) -> None:
    """Add a registration, or replace it. The file is not needed any more."""
    try:
        service_id = asyncio.run(_add(load(context, config), file))
    except UnusableRegistration as error:
        raise Refused(f"{file}: {error}") from None
    out.print(f"added {service_id}", markup=False)


@commands.command()
def remove(
    context: typer.Context,
    service_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    config: ConfigOption = None,
) -> None:
    """Take a registration out that was added so."""
    if not asyncio.run(_remove(load(context, config), service_id)):
        raise Refused(f"no registration {service_id} was added; see those in files")
    out.print(f"removed {service_id}", markup=False)


@commands.command("list")
def list_all(context: typer.Context, config: ConfigOption = None) -> None:
    """List all application services."""
    services, told = asyncio.run(_list(load(context, config)))
    for each in services:
        found = told[each.service_id]
        cells = (
            each.service_id,
            each.url or "no url",
            "added" if found.by_admin else "from a file",
            f"{found.failures} failures" if found.failures else "well",
        )
        out.print("  ".join(cells), soft_wrap=True, markup=False)


@asynccontextmanager
async def _registry(config: Config) -> AsyncIterator[Registry]:
    """Through the one order of positions, so that servers that run hear of it."""
    async with opened(config, Steps(quiet=not out.is_terminal)) as database:
        live = Live(database, config.server_name, ())
        await live.start()
        try:
            yield Registry(database, live, config.server_name)
        finally:
            await live.stop()


async def _add(config: Config, file: Path) -> str:
    value = parse_file(file)
    async with _registry(config) as registry:
        return await registry.put(value)


async def _remove(config: Config, service_id: str) -> bool:
    async with _registry(config) as registry:
        return await registry.remove(service_id)


async def _list(config: Config) -> tuple[list[Service], dict[str, store.Told]]:
    async with _registry(config) as registry:
        return await registry.all()
