"""Endpoints of log-in and registration. Spec: client-server-api#legacy-login."""

from datetime import timedelta
from typing import Final

import msgspec
from msgspec import structs

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import passwords, tokens, uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.sessions import (
    Session,
    check_device,
    end_if_stolen,
    open_session,
    refresh_session,
    rests_on,
)
from homeserver.accounts.store import login_tokens, users
from homeserver.accounts.store.users import Account
from homeserver.accounts.verify import (
    identify,
    verify_password,
)
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import by_access_token, nobody
from homeserver.http.limits import address_key, logins, lookups, registrations
from homeserver.http.limits import login_tokens as login_token_limit
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.http.well_known import client_discovery
from homeserver.login import appservices, guests, web_tokens
from homeserver.login.register import (
    check_available,
    check_is_let_in,
    check_room_for_one_more,
    new_user_id,
    registration,
    sign_up,
)

V3: Final = "/_matrix/client/v3"
# As the specification recommends.
LOGIN_TOKEN_LIFETIME: Final = timedelta(minutes=2)


def _logged_in(ctx: Context, session: Session) -> JsonObject:
    answer: JsonObject = {
        "user_id": session.user_id,
        "access_token": session.access_token,
        "device_id": session.device_id,
        "home_server": ctx.server_name,
    }
    if session.refresh_token is not None:
        answer["refresh_token"] = session.refresh_token
    if session.expires_in_ms is not None:
        answer["expires_in_ms"] = session.expires_in_ms
    if ctx.config.public_base_url:
        answer["well_known"] = client_discovery(ctx.config)
    return answer


# ── Log-in ───────────────────────────────────────────────────────────────────────────


@route("GET", V3 + "/login", auth=nobody)
async def get_login_flows(ctx: Context, _request: Request) -> Answer:
    """The ways to log in. Spec: client-server-api#get_matrixclientv3login."""
    # On our own pages: homeserver/oauth/sso_pages.py
    sso: JsonObject = {
        "type": "m.login.sso",
        "oauth_aware_preferred": True,
        # COMPAT(clients of MSC3824)
        "org.matrix.msc3824.delegated_oidc_compatibility": True,
    }
    if ctx.config.sign_on_choices:
        sso["identity_providers"] = [
            {name: value for name, value in structs.asdict(each).items() if value}
            for each in ctx.config.sign_on_choices
        ]
    flows: list[JsonValue] = [
        sso,
        {"type": "m.login.token", "get_login_token": True},
        {"type": appservices.TYPE},
    ]
    if ctx.config.passwords.log_in:
        flows.insert(0, {"type": uia.PASSWORD})
    if ctx.config.jwt.algorithm:
        flows.append({"type": web_tokens.TYPE})
    return {"flows": flows}


class _Login(msgspec.Struct):
    """What all kinds of log-in have in common; the rest depends on the type."""

    type: str
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool | None = None


@route("POST", V3 + "/login", auth=nobody)
async def login(ctx: Context, request: Request) -> Answer:
    """Log in. Spec: client-server-api#post_matrixclientv3login."""
    form, body = request.body(_Login), request.json_object()
    appservices.spend(ctx, request, logins, form.type)
    check_device(form.device_id, form.initial_device_display_name)
    sign_on = None
    match form.type:
        case appservices.TYPE:
            account = await appservices.log_in(ctx, request, body)
        case web_tokens.TYPE:
            account = await web_tokens.log_in(ctx, body)
        case "m.login.password":
            account = await _login_by_password(ctx, request, body)
        case "m.login.token":
            account, sign_on = await _login_by_token(ctx, body)
        case _:
            raise errors.unknown("This server has no such log-in type.")
    session = await open_session(
        ctx.live,
        ctx.clock,
        account.user_id,
        device_id=form.device_id,
        display_name=form.initial_device_display_name,
        can_refresh=bool(form.refresh_token),
        ip=request.ip,
    )
    if not await rests_on(ctx.live, ctx.db, session, sign_on):
        raise errors.forbidden("The user has logged out elsewhere.")
    return _logged_in(ctx, session)


async def _login_by_password(
    ctx: Context, request: Request, body: JsonObject
) -> Account:
    password = body.get("password")
    if not isinstance(password, str):
        raise errors.bad_json("password: a string is needed.")
    user_id = await identify(ctx.db, body, ctx.server_name)
    return await verify_password(ctx, request.limits, user_id, password, request.ip)


async def _login_by_token(ctx: Context, body: JsonObject) -> tuple[Account, int | None]:
    token = body.get("token")
    if not isinstance(token, str):
        raise errors.bad_json("token: a string is needed.")
    async with ctx.db.transaction() as tx:
        bearer = await login_tokens.take(tx, tokens.hash_of(token))
        account = await users.account(tx, bearer.user_id) if bearer else None
    if account is None or bearer is None:
        raise errors.forbidden("The log-in token is not valid any more.")
    if account.is_deactivated:
        raise errors.user_deactivated()
    return account, bearer.sign_on


class _TokenRequest(msgspec.Struct):
    auth: dict[str, object] | None = None


@route("POST", "/_matrix/client/v1/login/get_token", auth=by_access_token, since="1.7")
async def generate_login_token(ctx: Context, request: ClientRequest) -> Answer:
    """A token with which another client of the same user logs in, once.

    Spec: client-server-api#post_matrixclientv1loginget_token
    """
    form = request.body(_TokenRequest, empty_ok=True)
    operation = await confirmation(ctx, request, "get_login_token", request.user_id)
    session = await operation.authenticate(ctx.db, form.auth, request.user_id)
    request.spend(login_token_limit, request.user_id)
    await uia.finish(ctx.db, session)
    token = tokens.new_token(tokens.LOGIN)
    async with ctx.db.transaction() as tx:
        await login_tokens.add(
            tx, tokens.hash_of(token), request.user_id, LOGIN_TOKEN_LIFETIME
        )
    return {
        "login_token": token,
        "expires_in_ms": int(LOGIN_TOKEN_LIFETIME.total_seconds() * 1000),
    }


class _Refresh(msgspec.Struct):
    refresh_token: str


@route("POST", V3 + "/refresh", auth=nobody, limit=lookups, since="1.3")
async def refresh(ctx: Context, request: Request) -> Answer:
    """A new access token for a refresh token.

    Spec: client-server-api#post_matrixclientv3refresh
    """
    form = request.body(_Refresh)
    try:
        session = await refresh_session(ctx.db, ctx.clock, form.refresh_token)
    except MatrixError:
        await end_if_stolen(ctx.live, ctx.db, form.refresh_token)
        raise
    return {
        "access_token": session.access_token,
        "refresh_token": session.refresh_token,
        "expires_in_ms": session.expires_in_ms,
    }


# ── Registration ─────────────────────────────────────────────────────────────────────


class _Registration(msgspec.Struct):
    type: str | None = None
    auth: dict[str, object] | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool = False
    refresh_token: bool | None = None
    guest_access_token: str | None = None


@route("POST", V3 + "/register", auth=nobody)
async def register(ctx: Context, request: Request) -> Answer:
    """Make an account. Spec: client-server-api#post_matrixclientv3register."""
    if request.query_choice("kind", "user", "guest") == "guest":
        request.spend(registrations, address_key(request.ip))
        return await _register_guest(ctx, request)
    form = request.body(_Registration)
    appservices.spend(ctx, request, registrations, form.type)
    if form.type == appservices.TYPE:
        check_device(form.device_id, form.initial_device_display_name)
        user_id = await appservices.register(ctx, request, form.username)
        return await _registered(ctx, request, form, user_id)
    operation = registration(ctx)
    await check_room_for_one_more(ctx)
    user_id, is_guest = await _wanted(ctx, form)
    check_device(form.device_id, form.initial_device_display_name)
    if form.auth is not None and form.password is None:
        # Before a token is used up. Without a password nobody could ever log in again.
        raise errors.missing_param("password: choose one.")
    if form.password is not None:
        passwords.check_policy(ctx.config.passwords, form.password)
    session = await operation.authenticate(ctx.db, form.auth)
    password_hash = await passwords.hash_password(form.password or "")
    await sign_up(ctx, user_id, password_hash, session, is_guest=is_guest)
    if is_guest:
        await guests.note_end(ctx, user_id)
    else:
        check_is_let_in(ctx, session)
    return await _registered(ctx, request, form, user_id)


async def _registered(
    ctx: Context, request: Request, form: _Registration, user_id: UserId
) -> Answer:
    """The answer to who has made an account: logged in, unless that is not wanted."""
    if form.inhibit_login:
        return {"user_id": user_id, "home_server": ctx.server_name}
    opened = await open_session(
        ctx.live,
        ctx.clock,
        user_id,
        device_id=form.device_id,
        display_name=form.initial_device_display_name,
        can_refresh=bool(form.refresh_token),
        ip=request.ip,
    )
    answer = _logged_in(ctx, opened)
    answer.pop("well_known", None)
    return answer


async def _wanted(ctx: Context, form: _Registration) -> tuple[UserId, bool]:
    """The name for the account, and whether a guest has it already."""
    if form.guest_access_token is not None:
        return await guests.guest_of(ctx, form.guest_access_token, form.username), True
    user_id = new_user_id(form.username, ctx.server_name)
    await check_available(ctx.db, user_id)
    ctx.parts.get(Services).check_user(user_id)
    return user_id, False


async def _register_guest(ctx: Context, request: Request) -> Answer:
    """Let a guest in. All that counts of the body is the name of the device."""
    form = request.body(_Registration, empty_ok=True)
    name = form.initial_device_display_name
    check_device(None, name)
    user_id = await guests.make_guest(ctx)
    opened = await open_session(
        ctx.live, ctx.clock, user_id, display_name=name, ip=request.ip
    )
    return _logged_in(ctx, opened)


@route("GET", V3 + "/register/available", auth=nobody, limit=lookups)
async def check_username_availability(ctx: Context, request: Request) -> Answer:
    """Whether a user name could be registered now.

    Spec: client-server-api#get_matrixclientv3registeravailable
    """
    user_id = new_user_id(request.query_required("username"), ctx.server_name)
    await check_available(ctx.db, user_id)
    ctx.parts.get(Services).check_user(user_id)
    return {"available": True}
