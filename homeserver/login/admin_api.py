"""`/_synapse/admin/v1/register`: accounts for tools that know the shared secret.

As Synapse documents it, since test tools and bridges use it.
"""

from typing import Final

import msgspec

from homeserver import errors
from homeserver.accounts import passwords
from homeserver.accounts.sessions import MAX_DISPLAY_NAME, open_session
from homeserver.accounts.store import profiles
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import registrations
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login.register import make_account, new_user_id
from homeserver.login.shared_secret import check_mac, check_nonce, new_nonce

REGISTER: Final = "/_synapse/admin/v1/register"


def _secret(ctx: Context) -> str:
    secret = ctx.config.registration.shared_secret
    if not secret:
        raise errors.unknown(
            "This server has no shared secret: set registration.shared_secret.",
            status=403,
        )
    return secret


@route("GET", REGISTER, auth=nobody)
async def get_shared_secret_nonce(ctx: Context, _request: Request) -> Answer:
    """A nonce for the proof."""
    return {"nonce": new_nonce(_secret(ctx), ctx.clock)}


class _Registration(msgspec.Struct):
    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: str | None = None
    displayname: str | None = None


@route("POST", REGISTER, auth=nobody)
async def register_with_shared_secret(ctx: Context, request: Request) -> Answer:
    """Make an account, an administrator's if so asked. Raises: M_EXCLUSIVE.

    Who does not know the secret is counted against the limit of registrations.
    """
    secret = _secret(ctx)
    form = request.body(_Registration)
    if form.displayname is not None and len(form.displayname) > MAX_DISPLAY_NAME:
        raise errors.invalid_param(
            f"displayname: at most {MAX_DISPLAY_NAME} characters are taken."
        )
    check_nonce(form.nonce, secret, ctx.clock)
    try:
        check_mac(
            form.mac,
            secret,
            form.nonce,
            form.username,
            form.password,
            is_admin=form.admin,
            user_type=form.user_type,
        )
    except errors.MatrixError:
        request.spend(registrations, request.ip)
        raise
    user_id = new_user_id(form.username, ctx.server_name)
    ctx.parts.get(Services).check_user(user_id)
    password_hash = await passwords.hash_password(form.password)
    await make_account(ctx.db, user_id, password_hash, is_admin=form.admin)
    if form.displayname:
        async with ctx.db.transaction() as tx:
            await profiles.put_field(tx, user_id, "displayname", form.displayname)
    session = await open_session(ctx.live, ctx.clock, user_id, ip=request.ip)
    return {
        "user_id": user_id,
        "access_token": session.access_token,
        "device_id": session.device_id,
        "home_server": ctx.server_name,
    }
