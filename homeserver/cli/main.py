"""All commands together, and how any of them ends when something is wrong."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from federation.errors import ProtocolError
from homeserver.cli import check, config, demo, init, migrate, serve, user
from homeserver.cli.console import fail
from homeserver.cli.user import Refused
from homeserver.config import ConfigError
from homeserver.db.errors import DatabaseError
from homeserver.http.server import CannotListen
from homeserver.signing_key import UnusableKey

DISTRIBUTION: Final = "hearth-homeserver"
INTERRUPTED: Final = 130  # 128 + SIGINT

# What is wrong with the surroundings and not with us: told in a line, no traceback.
EXPECTED: Final = (
    CannotListen,
    ConfigError,
    DatabaseError,
    ProtocolError,
    Refused,
    UnusableKey,
)

commands = typer.Typer(
    help="A Matrix homeserver.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
commands.command()(serve.serve)
commands.command()(init.init)
commands.add_typer(user.commands, name="user")
commands.add_typer(config.commands, name="config")
commands.command()(migrate.migrate)
commands.command()(demo.demo)
commands.command()(check.check)


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
    try:
        commands(prog_name="hearth")
    except EXPECTED as error:
        fail(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
