"""Log-in and registration by application services, which need no passwords.

Spec: application-service-api#server-admin-style-permissions
"""

from typing import Final

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import UserId, parse_new_localpart, parse_user_id
from homeserver import errors
from homeserver.accounts.store import users
from homeserver.accounts.store.users import Account
from homeserver.accounts.verify import identified_user
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.http.dispatch import token_of
from homeserver.http.limits import Limit, address_key
from homeserver.http.requests import Request

TYPE: Final = "m.login.application_service"


def spend(ctx: Context, request: Request, limit: Limit, kind: str | None) -> None:
    """Count the request against the limit of its address, unless a service asks."""
    token = token_of(request.raw, request) if kind == TYPE else None
    if token is None or ctx.parts.get(Services).by_token(token) is None:
        request.spend(limit, address_key(request.ip))


def asking(ctx: Context, request: Request) -> Service:
    """The service that asks. Raises: M_MISSING_TOKEN, M_UNKNOWN_TOKEN."""
    token = token_of(request.raw, request)
    if token is None:
        raise errors.missing_token()
    service = ctx.parts.get(Services).by_token(token)
    if service is None:
        raise errors.unknown_token()
    return service


async def log_in(ctx: Context, request: Request, body: JsonObject) -> Account:
    """The user as whom a service logs in. Raises: M_EXCLUSIVE, M_FORBIDDEN."""
    service = asking(ctx, request)
    user_id = identified_user(body, ctx.server_name)
    if user_id is None or not service.is_user(user_id):
        raise errors.exclusive("This user is not in the service's namespace.")
    async with ctx.db.read() as tx:
        account = await users.account(tx, user_id)
    if account is None:
        raise errors.forbidden("The service has not registered this user.")
    if account.is_deactivated:
        raise errors.user_deactivated()
    return account


async def register(ctx: Context, request: Request, username: str | None) -> UserId:
    """Make an account for a service. Raises: M_EXCLUSIVE, M_USER_IN_USE, ….

    Names that history allows are taken as well: networks have names of all kinds.
    """
    service = asking(ctx, request)
    if username is None:
        raise errors.missing_param("username: the name of the user is needed.")
    try:
        user_id = parse_user_id(f"@{username}:{ctx.server_name}")
        if username != username.lower():
            parse_new_localpart(username)
    except Malformed as error:
        raise errors.invalid_username(f"{error}.") from None
    ctx.parts.get(Services).check_user(user_id, service)
    async with ctx.db.transaction() as tx:
        if not await users.create_user(tx, user_id, None):
            raise errors.user_in_use()
    return user_id
