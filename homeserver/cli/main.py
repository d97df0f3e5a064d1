"""All commands together, and how any of them ends when something is wrong."""

from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.core import TyperGroup

from homeserver.cli import (
    appservice,
    config,
    init,
    keys,
    media,
    migrate,
    room,
    start,
    token,
    user,
)
from homeserver.cli.arguments import MOST_PROCESSES, Arguments
from homeserver.cli.options import ConfigOption, named_file
from homeserver.cli.steps import ending_well_or_told

DISTRIBUTION: Final = "hearth-homeserver"

# Commands whose libraries a server should not carry: 9 MB of it, loaded when called.
LATER: Final = ("demo", "check", "endpoints")


class Commands(TyperGroup):
    """The commands, some of which are loaded when somebody asks for them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Their names, for the help."""
        return [*super().list_commands(ctx), *LATER]

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def,override] # noqa: ANN201 - click's, which typer hides
        """The command of that name."""
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"homeserver.cli.{cmd_name}")
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(alone)


commands = typer.Typer(
    cls=Commands,
    help="A Matrix homeserver.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@commands.command("serve")
def _serve(
    context: typer.Context,
    config: ConfigOption = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            help="How many identical processes; default: as the configuration says.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    start.start(Arguments(named_file(context, config), processes))


commands.command()(init.init)
commands.add_typer(user.commands, name="user")
commands.add_typer(token.commands, name="token")
commands.add_typer(appservice.commands, name="appservice")
commands.add_typer(config.commands, name="config")
commands.add_typer(keys.commands, name="keys")
commands.add_typer(room.commands, name="room")
commands.add_typer(media.commands, name="media")
commands.command()(migrate.migrate)


def version() -> str:
    """The release that is installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "not installed"


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hearth {version()}")
        raise typer.Exit


@commands.callback()
def root(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration, for any command.",
            show_default=False,
        ),
    ] = None,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Take what concerns all commands."""


def main() -> None:
    """Run the command line."""
    ending_well_or_told(lambda: commands(prog_name="hearth"))
