"""A user's profile, from here or from the user's own server."""

from federation.canonical_json import JsonObject
from federation.ids import UserId, server_of
from federation.wire.calls_queries import query_profile
from federation.wire.errors import BadResponse, NotReachable, RemoteError
from homeserver import errors
from homeserver.accounts.store import profiles, users
from homeserver.appservices.queries import has_user
from homeserver.context import Context
from homeserver.db.pool import Database


def no_such_profile() -> errors.MatrixError:
    """There is no such user, or nothing is said of them."""
    return errors.not_found("There is no such user, or no such profile field.")


async def find_profile(
    ctx: Context, user_id: UserId, field: str | None = None
) -> JsonObject:
    """All of a profile, or one field of it.

    Raises: M_NOT_FOUND; M_FORBIDDEN, when the user's server says so; 502.
    """
    if server_of(user_id) == ctx.server_name:
        return await our_profile(ctx, user_id, field)
    if not ctx.config.federation.enabled:
        raise no_such_profile()
    found = await _remote_profile(ctx, user_id, field)
    return found if field is None else _only(found, field)


async def our_profile(
    ctx: Context, user_id: UserId, field: str | None = None
) -> JsonObject:
    """The same as `local_profile`; who is not there may be a service's to make."""
    try:
        return await local_profile(ctx.db, user_id, field)
    except errors.MatrixError:
        async with ctx.db.read() as tx:
            is_taken = await users.is_taken(tx, user_id)
        if is_taken or not await has_user(ctx, user_id):
            raise
    return await local_profile(ctx.db, user_id, field)


async def local_profile(
    db: Database, user_id: UserId, field: str | None = None
) -> JsonObject:
    """The profile of a user of ours, or one field of it. Raises: M_NOT_FOUND."""
    async with db.read() as tx:
        account = await users.account(tx, user_id)
        if account is None or account.is_deactivated:
            raise no_such_profile()
        found = await profiles.profile(tx, user_id)
    return found if field is None else _only(found, field)


async def _remote_profile(
    ctx: Context, user_id: UserId, field: str | None
) -> JsonObject:
    server = server_of(user_id)
    try:
        return await query_profile(ctx.wire, server, user_id, field)
    except RemoteError as error:
        if error.status == 404:
            raise no_such_profile() from None
        if error.status == 403:
            raise errors.forbidden(f"{server} does not show this profile.") from None
        raise errors.bad_gateway(f"{server} did not give the profile.") from error
    except NotReachable as error:
        raise errors.bad_gateway(f"{server} cannot be reached.") from error
    except BadResponse as error:
        raise errors.bad_gateway(f"{server} answered nonsense.") from error


def _only(profile: JsonObject, field: str) -> JsonObject:
    if field not in profile:
        raise no_such_profile()
    return {field: profile[field]}
