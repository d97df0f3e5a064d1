"""`hearth config`: look at the configuration without starting anything."""

import typer

from homeserver.cli.console import out
from homeserver.cli.options import ConfigOption, config_file, load
from homeserver.config import sample

commands = typer.Typer(help="Look at the configuration.", no_args_is_help=True)


@commands.command()
def check(context: typer.Context, config: ConfigOption = None) -> None:
    """Tell what is wrong with the configuration: line, reason, remedy."""
    loaded = load(context, config)
    file = config_file(context, config)
    what = file if file is not None else "no hearth.toml here: the built-in defaults"
    out.print(f"{what}: good, for {loaded.server_name}")


@commands.command("sample")
def print_sample() -> None:
    """Print a configuration in which every key is explained."""
    typer.echo(sample.render(), nl=False)
