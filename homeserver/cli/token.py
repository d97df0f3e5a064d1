"""`hearth token`: registration tokens, and the invite links that hold them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from homeserver.accounts.store import registration_tokens as store
from homeserver.accounts.store.registration_tokens import RegistrationToken
from homeserver.cli.console import out
from homeserver.cli.database import opened
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Refused, Steps
from homeserver.config import Config
from homeserver.errors import MatrixError
from homeserver.login.invite_page import invite_link
from homeserver.login.tokens_api import MOST, check_token, new_token

commands = typer.Typer(help="Registration tokens.", no_args_is_help=True)


def _quiet() -> Steps:
    """Steps that are shown to people only: programs read the answer."""
    return Steps(quiet=not out.is_terminal)


@commands.command()
def create(
    context: typer.Context,
    token: Annotated[
        str | None, typer.Argument(help="Default: one that nobody can guess.")
    ] = None,
    uses: Annotated[
        int | None, typer.Option(min=1, help="How many accounts. Default: any number.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.0, help="How long. Default: for ever.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a token; prints it and, where links can lead here, its invite link."""
    loaded = load(context, config)
    made = token or new_token()
    try:
        check_token(made)
    except MatrixError as error:
        raise Refused(error.safe_message) from None
    expires = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    asyncio.run(_create(loaded, made, uses, expires))
    out.print(made, soft_wrap=True, markup=False)
    if loaded.public_base_url:
        out.print(invite_link(loaded, made), soft_wrap=True, markup=False)


@commands.command("list")
def list_all(context: typer.Context, config: ConfigOption = None) -> None:
    """List all tokens, the newest first."""
    for each in asyncio.run(_list(load(context, config))):
        cells = (each.token, _used(each), _until(each))
        out.print("  ".join(cells), soft_wrap=True, markup=False)


@commands.command()
def delete(
    context: typer.Context,
    token: Annotated[str, typer.Argument(help="The token.")],
    config: ConfigOption = None,
) -> None:
    """Delete a token. Accounts that were made with it stay."""
    asyncio.run(_delete(load(context, config), token))
    out.print("deleted the token")


async def _create(
    config: Config, token: str, uses: int | None, expires: datetime | None
) -> None:
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        if not await store.create(tx, token, uses, expires):
            raise Refused("there is such a token already")


async def _list(config: Config) -> list[RegistrationToken]:
    async with opened(config, _quiet()) as database, database.read() as tx:
        return await store.list_tokens(tx, MOST)


async def _delete(config: Config, token: str) -> None:
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        if not await store.delete(tx, token):
            raise Refused("there is no such token")


def _used(each: RegistrationToken) -> str:
    allowed = "any" if each.uses_allowed is None else str(each.uses_allowed)
    return f"{each.completed} of {allowed} used"


def _until(each: RegistrationToken) -> str:
    if each.expires_at is None:
        return "for ever"
    return f"until {each.expires_at:%Y-%m-%d %H:%M} UTC"
