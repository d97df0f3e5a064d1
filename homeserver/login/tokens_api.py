"""`/_synapse/admin/v1/registration_tokens`: who may make an account with a token.

As Synapse documents it, since administrators' tools use it. `/_hearth/admin` has what
it lacks: letting in those who wait for approval.
"""

import re
import secrets
import string
from datetime import UTC, datetime
from typing import Any, Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.store import registration_tokens as store
from homeserver.accounts.store import users
from homeserver.accounts.store.registration_tokens import RegistrationToken
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.login.approval import approve
from homeserver.login.register import MAX_TOKEN
from homeserver.mail.postman import Postman

TOKENS: Final = "/_synapse/admin/v1/registration_tokens"
WAITING: Final = "/_hearth/admin/v1/awaiting_approval"
LENGTH: Final = 16
MOST: Final = 10_000
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_MAX_USES: Final = 2**31 - 1
_MAX_MS: Final = 253_402_300_799_000  # the end of the year 9999


def new_token(length: int = LENGTH) -> str:
    """A token that nobody can guess."""
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(length))


def check_token(token: str) -> str:
    """Refuse what cannot be a token. Raises: M_INVALID_PARAM."""
    if not _TOKEN.fullmatch(token):
        raise errors.invalid_param(
            f"token: 1 to {MAX_TOKEN} of the characters A-Za-z0-9._~- are needed."
        )
    return token


def _check_admin(request: ClientRequest) -> None:
    if not request.who.is_admin:
        raise errors.forbidden("Only administrators of this server may do this.")


def _shown(found: RegistrationToken) -> JsonObject:
    expires = found.expires_at
    return {
        "token": found.token,
        "uses_allowed": found.uses_allowed,
        "pending": found.pending,
        "completed": found.completed,
        "expiry_time": int(expires.timestamp() * 1000) if expires else None,
    }


def _integer(value: object, name: str, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise errors.invalid_param(f"{name}: a number from 0, or null, is needed.")
    return value


def _uses(form: JsonObject) -> int | None:
    return _integer(form.get("uses_allowed"), "uses_allowed", _MAX_USES)


def _expiry(ctx: Context, form: JsonObject) -> datetime | None:
    found = _integer(form.get("expiry_time"), "expiry_time", _MAX_MS)
    if found is None:
        return None
    if found < ctx.clock.ms():
        raise errors.invalid_param("expiry_time: this is over already.")
    return datetime.fromtimestamp(found / 1000, UTC)


def _not_found() -> errors.MatrixError:
    return errors.not_found("There is no such registration token.")


@route("GET", TOKENS, auth=by_access_token)
async def list_registration_tokens(ctx: Context, request: ClientRequest) -> Answer:
    """All tokens; `valid=true`: those that are good, `false`: those that are not."""
    _check_admin(request)
    asked = request.query_str("valid")
    valid = None if asked is None else request.query_bool("valid")
    async with ctx.db.read() as tx:
        found = await store.list_tokens(tx, MOST, valid=valid)
    shown: list[JsonValue] = [_shown(each) for each in found]
    return {"registration_tokens": shown}


@route("POST", TOKENS + "/new", auth=by_access_token)
async def create_registration_token(ctx: Context, request: ClientRequest) -> Answer:
    """Make a token: one that is given, or one that nobody can guess."""
    _check_admin(request)
    form = request.json_object(empty_ok=True)
    token = form.get("token")
    length = _integer(form.get("length", LENGTH), "length", MAX_TOKEN)
    if not length:
        raise errors.invalid_param(f"length: a number from 1 to {MAX_TOKEN}, please.")
    if token is None:
        token = new_token(length)
    elif not isinstance(token, str):
        raise errors.invalid_param("token: a string is needed.")
    uses, expiry = _uses(form), _expiry(ctx, form)
    async with ctx.db.transaction() as tx:
        if not await store.create(tx, check_token(token), uses, expiry):
            raise errors.invalid_param("There is such a token already.")
    return _shown(RegistrationToken(token, uses, 0, 0, expiry))


@route("GET", TOKENS + "/{token}", auth=by_access_token)
async def get_registration_token(ctx: Context, request: ClientRequest) -> Answer:
    """One token. Raises: M_NOT_FOUND."""
    _check_admin(request)
    return _shown(await _find(ctx, request.path(str, "token")))


async def _find(ctx: Context, token: str) -> RegistrationToken:
    found = None
    if "\0" not in token:
        async with ctx.db.read() as tx:
            found = await store.find(tx, token)
    if found is None:
        raise _not_found()
    return found


@route("PUT", TOKENS + "/{token}", auth=by_access_token)
async def update_registration_token(ctx: Context, request: ClientRequest) -> Answer:
    """Change how often and how long a token is good; what is not said stays."""
    _check_admin(request)
    form: dict[str, Any] = request.json_object()
    token = request.path(str, "token")
    found = await _find(ctx, token)
    uses = _uses(form) if "uses_allowed" in form else found.uses_allowed
    expiry = _expiry(ctx, form) if "expiry_time" in form else found.expires_at
    async with ctx.db.transaction() as tx:
        await store.update(tx, token, uses, expiry)
    return _shown(await _find(ctx, token))


@route("DELETE", TOKENS + "/{token}", auth=by_access_token)
async def delete_registration_token(ctx: Context, request: ClientRequest) -> Answer:
    """Delete a token. Raises: M_NOT_FOUND."""
    _check_admin(request)
    token = request.path(str, "token")
    await _find(ctx, token)
    async with ctx.db.transaction() as tx:
        if not await store.delete(tx, token):
            raise _not_found()
    return {}


# ── Approval ─────────────────────────────────────────────────────────────────────────


@route("GET", WAITING, auth=by_access_token)
async def list_awaiting_approval(ctx: Context, request: ClientRequest) -> Answer:
    """The accounts that nobody has approved yet, the oldest first."""
    _check_admin(request)
    async with ctx.db.read() as tx:
        found = await users.awaiting_approval(tx, MOST)
    waiting: list[JsonValue] = [*found]
    return {"users": waiting}


@route("POST", WAITING + "/{userId}/approve", auth=by_access_token)
async def approve_user(ctx: Context, request: ClientRequest) -> Answer:
    """Let a user in, and tell them by e-mail if they gave an address.

    Raises: M_NOT_FOUND.
    """
    _check_admin(request)
    user_id = request.path(UserId, "userId")
    async with ctx.db.transaction() as tx:
        if not await approve(tx, ctx.config, user_id):
            raise errors.not_found("No account of this name waits for approval.")
    ctx.parts.get(Postman).wake()
    return {}
