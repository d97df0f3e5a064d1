"""`hearth serve`: run the server."""

import typer

from homeserver import logs
from homeserver.accounts.store import overview
from homeserver.app import Server
from homeserver.cli import running
from homeserver.cli.console import myself, out
from homeserver.cli.options import ConfigOption, load, repeated


def serve(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    loaded = load(context, config)
    logs.set_up(loaded.logging.level, loaded.logging.format)
    option = repeated(context, config)

    async def greet(server: Server) -> None:
        for address in server.addresses:
            served = ", ".join(address.serves) or "nothing: federation is switched off"
            out.print(f"listening at {address.url} for {served}")
        async with server.context.db.read() as tx:
            has_administrator = await overview.has_administrator(tx)
        if not has_administrator:
            out.print("make the first administrator with:")
            out.print(f"  {myself()} user create{option} NAME --admin")
        out.print("stop with Ctrl-C")

    running.run(loaded, Server, greet)
