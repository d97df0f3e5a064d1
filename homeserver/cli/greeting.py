"""What a server says when it serves: where, and what to do first."""

from pathlib import Path

from homeserver.accounts.store import overview
from homeserver.cli.steps import myself, say
from homeserver.config import Config
from homeserver.db.pool import Database
from homeserver.http.sockets import Address


def served(config: Config, address: Address) -> str:
    """What is answered there, for people."""
    apis = address.serves
    if not config.federation.enabled:
        apis = [api for api in apis if api != "federation"]
    return ", ".join(apis) or "nothing: federation is switched off"


def say_where(config: Config, address: Address) -> None:
    """Say where it listens."""
    say(f"listening at {address.url} for {served(config, address)}")


async def say_first_steps(db: Database, named: Path | None) -> None:
    """Say how to make the first administrator, and how to stop."""
    async with db.read() as tx:
        has_administrator = await overview.has_administrator(tx)
    if not has_administrator:
        option = f" --config {named}" if named is not None else ""
        say("make the first administrator with:")
        say(f"  {myself()} user create{option} NAME --admin")
    say("stop with Ctrl-C")
