"""How somebody who is logged in shows once more that it is them.

With the password, or, who has come through a provider, by logging in there again.

Spec: client-server-api#user-interactive-api-in-the-rest-api
"""

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import uia
from homeserver.accounts.sources import PasswordSources
from homeserver.accounts.store import sign_ons, users
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import Stage, Uia
from homeserver.accounts.verify import PasswordStage
from homeserver.context import Context
from homeserver.http.requests import Request


async def check_single_sign_on(_auth: JsonObject, _session: UiaSession) -> bool:
    """Refuse: it is passed on a page of ours, which completes the stage.

    Spec: client-server-api#single-sign-on
    """
    raise errors.forbidden("Confirm it on the page for this step first.")


async def providers_of(ctx: Context, user_id: UserId) -> list[str]:
    """The providers at which the user can show who they are."""
    known = {each.id for each in ctx.config.sign_on_choices}
    if not known:
        return []
    async with ctx.db.read() as tx:
        links = await sign_ons.links_of(tx, user_id)
    return sorted({each.provider for each in links} & known)


async def confirmation(
    ctx: Context, request: Request, operation: str, user_id: UserId
) -> Uia:
    """What the user goes through before the operation."""
    stages: dict[str, Stage] = {}
    if await providers_of(ctx, user_id):
        stages[uia.SSO] = check_single_sign_on
    if not stages or await has_password(ctx, user_id):
        stages[uia.PASSWORD] = PasswordStage(ctx, request.limits, user_id)
    return Uia(operation, [(name,) for name in sorted(stages)], stages)


async def has_password(ctx: Context, user_id: UserId) -> bool:
    """Whether the user has a password to show."""
    if not ctx.config.passwords.log_in:
        return False
    if ctx.parts.get(PasswordSources).sources:
        return True  # of whom a directory knows is not asked before the password is
    async with ctx.db.read() as tx:
        account = await users.account(tx, user_id)
    return account is not None and account.password_hash is not None
