"""`hearth init`: write a hearth.toml that says everything, for one server name."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from federation.ids import parse_server_name
from homeserver.cli.arguments import DEFAULT_FILE
from homeserver.cli.console import ask, at_terminal, out
from homeserver.cli.options import ConfigOption, named_file, repeated
from homeserver.cli.steps import fail, myself
from homeserver.config import Config, ConfigError, sample

HEAD: Final = """\
# The configuration of {name}. What is left out has the value shown.
# `hearth config check` tells what is wrong with this file, and where.
"""


def init(
    context: typer.Context,
    server_name: Annotated[
        str | None,
        typer.Argument(help="The name in user IDs: @alice:NAME.", show_default=False),
    ] = None,
    data_dir: Annotated[str, typer.Option(help="Where everything is kept.")] = "./data",
    public_base_url: Annotated[
        str | None,
        typer.Option(help="Where clients reach it: https://….", show_default=False),
    ] = None,
    database_url: Annotated[
        str, typer.Option(help="A PostgreSQL to use instead of a private one.")
    ] = "",
    bind: Annotated[
        str, typer.Option(help='The address to listen at; "0.0.0.0" is all of them.')
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at.")] = 8008,
    force: Annotated[
        bool, typer.Option(help="Overwrite a file that is there.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write a configuration in which every key is explained."""
    file = named_file(context, config) or DEFAULT_FILE
    if file.exists() and not force:
        fail(f"{file} is there already; --force overwrites it")
        raise typer.Exit(1)
    name = server_name or _ask_name()
    url = public_base_url if public_base_url is not None else _ask_url(name)
    values = {
        "server_name": name,
        "data_dir": data_dir,
        "public_base_url": url,
        "database_url": database_url,
        "listen.bind": bind,
        "listen.port": port,
    }
    write(file, sample.render(values, HEAD.format(name=name)))
    out.print(f"wrote {file}")
    out.print(next_steps(repeated(context, config), name))


def write(file: Path, text: str) -> None:
    """Write the file whole, readable for its owner alone, or leave things as they are.

    Raises: ConfigError when the text is not a configuration that can be started.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        # It may hold the database's password.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Config.load(fresh)
        fresh.replace(file)
    except ConfigError as error:
        raise ConfigError(str(file), error.problems) from None
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
        raise typer.Exit(1) from None
    finally:
        fresh.unlink(missing_ok=True)


def next_steps(option: str, name: str) -> str:
    """What to do now."""
    steps = [f"Start it with:  {myself()} serve{option}"]
    if name != "localhost":
        steps.append(f"See what is missing with:  {myself()} check{option}")
    return "\n".join(steps)


def _ask_name() -> str:
    if not at_terminal():
        fail("name the server: hearth init example.org")
        raise typer.Exit(2)
    return parse_server_name(ask("Server name, as in @alice:NAME", "localhost"))


def _ask_url(name: str) -> str:
    if name == "localhost" or not at_terminal():
        return ""
    host = name.partition(":")[0]
    return ask("Where clients will reach it", f"https://{host}")
