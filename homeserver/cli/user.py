"""`hearth user`: accounts, straight in the database, whether or not a server runs."""

import asyncio
import getpass
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.table import Table

from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_new_localpart, parse_user_id
from homeserver.accounts import passwords
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import overview, sign_ons, users
from homeserver.appservices.services import stored_services
from homeserver.cli.console import at_terminal, out
from homeserver.cli.database import opened
from homeserver.cli.options import ConfigOption, load
from homeserver.cli.steps import Refused, Steps
from homeserver.config import Config
from homeserver.errors import MatrixError
from homeserver.live.live import Live
from homeserver.login import approval

T = TypeVar("T")
PAGE: Final = 500

commands = typer.Typer(help="Accounts of this server.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="alice, or @alice:example.org")]
Password = Annotated[
    str | None,
    typer.Option(
        help="The password. Default: asked for, or read from standard input.",
        show_default=False,
    ),
]


@commands.command()
def create(
    context: typer.Context,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="An administrator.")] = False,
    password: Password = None,
    config: ConfigOption = None,
) -> None:
    """Make an account."""
    loaded = load(context, config)
    user_id = user_id_of(name, loaded.server_name)
    _run(_create(loaded, user_id, password or _ask_password(), is_admin=admin))
    what = "administrator" if admin else "user"
    out.print(f"made the {what} {user_id}")


@commands.command("password")
def set_password(
    context: typer.Context,
    name: Name,
    password: Password = None,
    keep_sessions: Annotated[
        bool, typer.Option("--keep-sessions", help="Leave open what is open.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Set an account's password. All its sessions end, unless they are to stay."""
    loaded = load(context, config)
    user_id = user_id_of(name, loaded.server_name)
    new = password or _ask_password()
    _run(_set_password(loaded, user_id, new, keep_sessions=keep_sessions))
    out.print(f"set the password of {user_id}")


@commands.command()
def waiting(context: typer.Context, config: ConfigOption = None) -> None:
    """List the accounts that wait for approval, the oldest first."""
    for user_id in _run(_waiting(load(context, config))):
        out.print(user_id)


@commands.command()
def approve(context: typer.Context, name: Name, config: ConfigOption = None) -> None:
    """Let an account in that waits for approval."""
    loaded = load(context, config)
    user_id = user_id_of(name, loaded.server_name)
    _run(_approve(loaded, user_id))
    out.print(f"approved {user_id}")


Provider = Annotated[str, typer.Argument(help="The provider's id, as configured.")]
Subject = Annotated[str, typer.Argument(help='Who it is there: the claim "sub".')]


@commands.command()
def link(
    context: typer.Context,
    name: Name,
    provider: Provider,
    subject: Subject,
    config: ConfigOption = None,
) -> None:
    """Let somebody in to an account through a provider (single sign-on)."""
    loaded = load(context, config)
    user_id = user_id_of(name, loaded.server_name)
    if all(each.id != provider for each in loaded.sign_on_choices):
        raise Refused(f"no provider {provider} is configured")
    _run(_link(loaded, user_id, provider, subject))
    out.print(f"linked {user_id} to {subject} at {provider}")


@commands.command()
def unlink(
    context: typer.Context,
    provider: Provider,
    subject: Subject,
    config: ConfigOption = None,
) -> None:
    """Let somebody in no longer through a provider. Sessions stay open."""
    loaded = load(context, config)
    user_id = _run(_unlink(loaded, provider, subject))
    out.print(f"unlinked {user_id} from {subject} at {provider}")


@commands.command("list")
def list_all(context: typer.Context, config: ConfigOption = None) -> None:
    """List all accounts."""
    found = _run(_list(load(context, config)))
    if not out.is_terminal:
        for user in found:
            out.print(user.user_id)
        return
    table = Table("user", "since", "")
    for user in found:
        table.add_row(user.user_id, f"{user.created_at:%Y-%m-%d}", _remarks(user))
    out.print(table)


def user_id_of(name: str, server_name: ServerName) -> UserId:
    """The user ID meant by a name. Raises: Refused."""
    try:
        if not name.startswith("@"):
            return parse_user_id(f"@{parse_new_localpart(name)}:{server_name}")
        user_id = parse_user_id(name)
        localpart, _, server = name[1:].partition(":")
        parse_new_localpart(localpart)
    except Malformed as error:
        raise Refused(str(error)) from None
    if server != server_name:
        raise Refused(f"{name} is of another server; this one is {server_name}")
    return user_id


async def _create(
    config: Config, user_id: UserId, password: str, *, is_admin: bool
) -> None:
    password_hash = await passwords.hash_password(password)
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        for service in await stored_services(tx, config.server_name):
            if service.owns_user(user_id):
                raise Refused(
                    f"{user_id} is reserved for the service {service.service_id}"
                )
        if not await users.create_user(tx, user_id, password_hash, is_admin=is_admin):
            raise Refused(f"there is a user {user_id} already")


async def _set_password(
    config: Config, user_id: UserId, password: str, *, keep_sessions: bool
) -> None:
    password_hash = await passwords.hash_password(password)
    async with opened(config, _quiet()) as database:
        async with database.transaction() as tx:
            if await users.account(tx, user_id) is None:
                raise Refused(f"there is no user {user_id}")
            await users.set_password_hash(tx, user_id, password_hash)
        if not keep_sessions:
            # Through the one order of positions, so that servers that run hear of it.
            live = Live(database, config.server_name, ())
            await live.start()
            try:
                await end_sessions(live, user_id, None)
            finally:
                await live.stop()


async def _approve(config: Config, user_id: UserId) -> None:
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        if not await approval.approve(tx, config, user_id):
            raise Refused(f"{user_id} does not wait for approval")


async def _link(config: Config, user_id: UserId, provider: str, subject: str) -> None:
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        if await users.account(tx, user_id) is None:
            raise Refused(f"there is no user {user_id}")
        if not await sign_ons.link(tx, provider, subject, user_id):
            raise Refused(f"{subject} at {provider} is linked to another account")


async def _unlink(config: Config, provider: str, subject: str) -> UserId:
    async with opened(config, _quiet()) as database, database.transaction() as tx:
        user_id = await sign_ons.unlink(tx, provider, subject)
    if user_id is None:
        raise Refused(f"{subject} at {provider} is linked to no account")
    return user_id


async def _waiting(config: Config) -> list[UserId]:
    async with opened(config, _quiet()) as database, database.read() as tx:
        return await users.awaiting_approval(tx, PAGE)


async def _list(config: Config) -> list[overview.ListedUser]:
    found: list[overview.ListedUser] = []
    async with opened(config, _quiet()) as database, database.read() as tx:
        while page := await overview.list_users(
            tx, found[-1].user_id if found else "", PAGE
        ):
            found += page
    return found


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except MatrixError as error:
        raise Refused(error.safe_message) from None


def _quiet() -> Steps:
    """Steps that are shown to people only: programs read the answer."""
    return Steps(quiet=not out.is_terminal)


def _ask_password() -> str:
    if not at_terminal():
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Refused("no password: give --password, or write it to standard input")
        return password
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise Refused("the passwords are not the same")
    return password


def _remarks(user: overview.ListedUser) -> str:
    said = [
        *(["administrator"] if user.is_admin else []),
        *(["deactivated"] if user.is_deactivated else []),
        *([] if user.has_password else ["no password"]),
    ]
    return ", ".join(said)
