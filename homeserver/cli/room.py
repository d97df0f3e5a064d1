"""`hearth room`: what an operator wants to know of a room, from the database."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from homeserver.cli.console import out
from homeserver.cli.database import opened
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Refused, Steps
from homeserver.config import Config
from homeserver.live import loading
from homeserver.live.reversals import KEPT, KeptReversal, read_reversals

commands = typer.Typer(help="Rooms of this server.", no_args_is_help=True)


@commands.command()
def reversals(
    context: typer.Context,
    room_id: Annotated[str, typer.Argument(help="!abc:example.org")],
    limit: Annotated[
        int, typer.Option(help="How many, the newest first.", min=1, max=KEPT)
    ] = 50,
    config: ConfigOption = None,
) -> None:
    """Tell which state changes state resolution undid, and why."""
    found = asyncio.run(_read(load(context, config), room_id, limit))
    if not found:
        out.print("nothing was undone in this room, as far as is known")
        return
    if not out.is_terminal:
        for each in found:
            typer.echo("\t".join(_cells(each)))
        return
    table = Table("when", "what", "lost its place", "to", "when this came", "why")
    for each in found:
        table.add_row(*_cells(each))
    out.print(table)


async def _read(config: Config, room_id: str, limit: int) -> list[KeptReversal]:
    async with (
        opened(config, Steps(quiet=not out.is_terminal)) as database,
        database.read() as tx,
    ):
        if await loading.room_nid_of(tx, room_id) is None:
            raise Refused(f"there is no room {room_id}")
        return await read_reversals(tx, room_id, limit)


def _cells(each: KeptReversal) -> tuple[str, ...]:
    """One reversal as a row. What others wrote shows no control characters."""
    cells = (
        f"{each.at:%Y-%m-%d %H:%M:%S}",
        f"{each.type} {each.state_key}".strip(),
        f"{each.lost} by {each.lost_sender}",
        "nothing" if each.won is None else f"{each.won} by {each.won_sender}",
        each.by,
        each.cause,
    )
    return tuple("".join(c if c.isprintable() else "�" for c in cell) for cell in cells)
