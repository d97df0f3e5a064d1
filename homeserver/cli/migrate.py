"""`hearth migrate`: bring the schema up to date without serving."""

import asyncio
from typing import Annotated

import typer

from homeserver.cli.console import out
from homeserver.cli.database import any_database
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Steps
from homeserver.config import Config
from homeserver.db import migrate as migrating


def migrate(
    context: typer.Context,
    only_pre: Annotated[
        bool,
        typer.Option(
            help="Stop before the first step that the former release cannot stand."
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Bring the database's tables up to date. `serve` does so by itself."""
    applied = asyncio.run(_migrate(load(context, config), only_pre=only_pre))
    if applied:
        out.print(f"applied: {', '.join(applied)}")
    else:
        out.print("the tables were up to date")


async def _migrate(config: Config, *, only_pre: bool) -> list[str]:
    report = Steps()
    try:
        async with any_database(config, report) as source:
            applied = await migrating.migrate(
                source.dsn, report=report, only_pre=only_pre
            )
        report.done()
    finally:
        report.interrupted()
    return applied
