"""`hearth keys`: the key that signs for this server."""

import typer

from homeserver import signing_key
from homeserver.cli.console import out
from homeserver.cli.options import ConfigOption, load

commands = typer.Typer(help="The key that signs for this server.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Keep `rotate` a command of its own while it is the only one."""


@commands.command()
def rotate(context: typer.Context, config: ConfigOption = None) -> None:
    """Replace the signing key. What the old one signed stays valid."""
    path = load(context, config).signing_key_path
    old, new = signing_key.rotate(path)
    out.print(f"replaced {old.key_id} by {new.key_id} in {path}")
    out.print(
        "Restart the server: until then it signs with the old key. "
        f"Keep {signing_key.old_path(path)} as well as the key."
    )
