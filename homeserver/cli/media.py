"""`hearth media`: the files of this server, whether or not it runs."""

import asyncio
from typing import Annotated

import typer

from homeserver.cli.console import out
from homeserver.cli.database import opened
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Refused, Steps
from homeserver.config import Config
from homeserver.media.files import files_of
from homeserver.media.moving import Tally
from homeserver.media.moving import move as move_all
from homeserver.media.places import Unavailable

commands = typer.Typer(help="Files of this server.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Keep `move` a command of its own while it is the only one."""


@commands.command()
def move(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(
            help="disk or s3. Default: where [media] has new files go.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Move all files to one store, as the user who runs the server.

    The server may run meanwhile, if it is configured for both stores. A move that was
    cut off goes on where it was. Each file is compared with its SHA-256.
    """
    loaded = load(context, config)
    target = to or loaded.media.store
    if target not in ("disk", "s3"):
        raise Refused("--to: disk or s3")
    if not loaded.s3.bucket:
        raise Refused("there is one store only: [s3] in the configuration names none")
    tally = asyncio.run(_move(loaded, target))
    out.print(f"moved {tally.files} files, {tally.bytes} bytes, to {target}")
    if tally.failed:
        raise Refused(
            f"{tally.failed} files are missing or damaged where they are; the log says"
            " which"
        )


async def _move(config: Config, target: str) -> Tally:
    tally = Tally()
    async with opened(config, Steps(quiet=not out.is_terminal)) as database:
        files = files_of(config, database)
        try:
            async for tally in move_all(database, files, target):
                if out.is_terminal and tally.files:
                    out.print(f"{tally.files} files, {tally.bytes} bytes")
        except* (Unavailable, OSError) as errors:
            raise Refused(f"it does not go on: {errors.exceptions[0]}") from None
        finally:
            await files.stop()
    return tally
