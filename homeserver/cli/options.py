"""The one option that all commands share, and what it leads to."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from homeserver.cli import arguments
from homeserver.config import Config

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration. Default: ./hearth.toml when it is there,"
        " else the built-in defaults.",
        show_default=False,
    ),
]


def named_file(context: typer.Context, own: Path | None) -> Path | None:
    """The file named after the command or before it."""
    named = own or context.find_root().params.get("config")
    return Path(named) if named is not None else None


def config_file(context: typer.Context, own: Path | None) -> Path | None:
    """The file that is named, or found here; None: no file."""
    return arguments.config_file(named_file(context, own))


def repeated(context: typer.Context, own: Path | None) -> str:
    """The option as another command needs it, with a blank before it, or nothing."""
    named = named_file(context, own)
    return f" --config {named}" if named is not None else ""


def load(context: typer.Context, own: Path | None) -> Config:
    """The configuration. Raises: ConfigError."""
    return Config.load(config_file(context, own))
