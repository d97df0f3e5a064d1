"""Change a password: with the old one, or with an address that the account has.

Spec: client-server-api#post_matrixclientv3accountpassword
"""

import msgspec

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import passwords, uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import threepids, users
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import Stage, Uia
from homeserver.context import Context
from homeserver.http.auth import optional_access_token
from homeserver.http.limits import logins
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.mail.postman import Postman
from homeserver.threepids.stages import (
    EMAIL_STAGE,
    MSISDN_STAGE,
    STAGES,
    ThreepidStage,
    proven_in,
)
from homeserver.threepids.validation import Purpose

OPERATION = "change_password"


class _NewPassword(msgspec.Struct):
    new_password: str
    logout_devices: bool = True
    auth: dict[str, object] | None = None


async def password_change(ctx: Context, request: ClientRequest) -> Uia:
    """How somebody shows that they may change a password.

    Raises: M_FORBIDDEN, when only somebody who is logged in can.
    """
    postman = ctx.parts.get(Postman)
    owner = request.user_id if request.requester else None
    stages: dict[str, Stage] = {}
    if owner is not None:
        stages.update((await confirmation(ctx, request, OPERATION, owner)).stages)
    for name, is_there in (
        (EMAIL_STAGE, postman.has_mail),
        (MSISDN_STAGE, postman.has_sms),
    ):
        if is_there:
            stages[name] = ThreepidStage(
                ctx.db, ctx.clock, STAGES[name], Purpose.PASSWORD, owner
            )
    if not stages:
        raise errors.forbidden("Log in: the password is changed with the old one.")
    return Uia(OPERATION, [(name,) for name in stages], stages)


@route(
    "POST",
    "/_matrix/client/v3/account/password",
    auth=optional_access_token,
    limit=logins,
)
async def change_password(ctx: Context, request: ClientRequest) -> Answer:
    """Change the password. The other devices are logged out unless asked not to.

    Spec: client-server-api#post_matrixclientv3accountpassword
    """
    form = request.body(_NewPassword)
    passwords.check_policy(ctx.config.passwords, form.new_password)
    operation = await password_change(ctx, request)
    owner = request.user_id if request.requester else None
    session = await operation.authenticate(ctx.db, form.auth, owner)
    user_id = owner or await _proven_owner(ctx, session)
    new_hash = await passwords.hash_password(form.new_password)
    async with ctx.db.transaction() as tx:
        await users.set_password_hash(tx, user_id, new_hash)
    keep = request.device_id if request.requester else None
    if form.logout_devices:
        await end_sessions(ctx.live, user_id, None, keep=keep)
    await uia.finish(ctx.db, session)
    return {}


async def _proven_owner(ctx: Context, session: UiaSession) -> UserId:
    """The account to which the address belongs that was proven."""
    for each in proven_in(session, ctx.clock.ms()):
        async with ctx.db.read() as tx:
            owner = await threepids.owner(tx, each.medium, each.address)
        if owner is not None:
            return owner
    # Only who reads the mailbox gets here, so nobody else learns of it.
    raise errors.threepid_not_found()
