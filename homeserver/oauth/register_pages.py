"""The page on which people make an account, as the mode of registration allows."""

from typing import Final
from urllib.parse import urlencode

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts import passwords, uia
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import AuthenticationNeeded, Uia
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key, lookups, registrations
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login.register import (
    check_available,
    check_is_let_in,
    check_room_for_one_more,
    new_user_id,
    registration,
)
from homeserver.login.register import sign_up as make_it
from homeserver.oauth import browsers, places
from homeserver.pages import kit
from homeserver.pages.visitors import Form, Visitor, read_form, visitor_of

# The stages that this page can take somebody through.
_STAGES: Final = frozenset({uia.DUMMY, uia.REGISTRATION_TOKEN})


def sign_up_page(where: str) -> str:
    """The page on which to make an account, in order to go on to `where`."""
    return f"{places.SIGN_UP}?{urlencode({'next': where})}"


def _operation(ctx: Context) -> tuple[Uia, list[str]] | None:
    """What to go through here; None when nobody can make an account here."""
    try:
        operation = registration(ctx)
    except MatrixError:
        return None
    for flow in operation.flows:
        if _STAGES.issuperset(flow):
            return operation, list(flow)
    return None


@route("GET", places.SIGN_UP, auth=nobody, limit=lookups)
@kit.page
async def show_sign_up(ctx: Context, request: Request) -> Answer:
    """Ask for a name, a password, and what the mode needs; a link may bring a token."""
    visitor = visitor_of(ctx.config, request)
    onward = browsers.onward(request.query_str("next") or "")
    token = (request.query_str("token") or "")[:64]
    return _ask(ctx, visitor, onward, {"token": token})


def _ask(
    ctx: Context,
    visitor: Visitor,
    onward: str,
    filled: dict[str, str],
    refused: MatrixError | None = None,
) -> Reply:
    found = _operation(ctx)
    flow = found[1] if found else []
    return kit.show(
        ctx,
        visitor,
        "oauth/register.html",
        status=refused.status if refused else 200,
        refused=visitor.say(refused.safe_message) if refused else "",
        is_open=found is not None,
        needs_token=uia.REGISTRATION_TOKEN in flow,
        name=filled.get("name", ""),
        token=filled.get("token", ""),
        onward=onward,
        action=places.SIGN_UP,
        login=browsers.login_page(onward),
        min_password=ctx.config.passwords.min_length,
    )


@route("POST", places.SIGN_UP, auth=nobody)
@kit.page
async def sign_up(ctx: Context, request: Request) -> Answer:
    """Make the account, log its owner in, and go on."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    onward = browsers.onward(form["next"])
    request.spend(registrations, address_key(request.ip))
    try:
        await _make(ctx, visitor, form)
    except AuthenticationNeeded as needed:
        message = needed.body().get("error")
        refused = errors.forbidden(message if isinstance(message, str) else _ANEW)
    except MatrixError as error:
        if error.status >= 500:
            raise
        refused = error
    else:
        return kit.go(visitor, onward)
    return _ask(ctx, visitor, onward, form.fields, refused)


_ANEW: Final = "This session has ended. Begin again."


async def _make(ctx: Context, visitor: Visitor, form: Form) -> None:
    found = _operation(ctx)
    if found is None:
        raise errors.forbidden("Nobody can register on this server.")
    name = form["name"].strip().removeprefix("@")
    if not name:
        raise errors.missing_param("Choose a user name.")
    user_id = new_user_id(name.removesuffix(f":{ctx.server_name}"), ctx.server_name)
    await check_room_for_one_more(ctx)
    await check_available(ctx.db, user_id)
    ctx.parts.get(Services).check_user(user_id)
    if len(form["password"]) < ctx.config.passwords.min_length:
        raise errors.invalid_param("The password is too short.")
    passwords.check_policy(ctx.config.passwords, form["password"])
    if form["password"] != form["again"]:
        raise errors.invalid_param("The two passwords are not the same.")
    session = await _go_through(ctx, *found, form)
    password_hash = await passwords.hash_password(form["password"])
    await make_it(ctx, user_id, password_hash, session)
    check_is_let_in(ctx, session)
    await browsers.log_in(ctx, visitor, user_id)


async def _go_through(
    ctx: Context, operation: Uia, flow: list[str], form: Form
) -> UiaSession:
    """All stages of the flow, one after the other. Raises: AuthenticationNeeded."""
    session_id: object = None
    for place, stage in enumerate(flow, 1):
        auth: JsonObject = {"type": stage}
        if session_id is not None:
            auth["session"] = str(session_id)
        if stage == uia.REGISTRATION_TOKEN:
            auth["token"] = form["token"].strip()
        try:
            return await operation.authenticate(ctx.db, auth)
        except AuthenticationNeeded as needed:
            if "errcode" in needed.body() or place == len(flow):
                raise
            session_id = needed.body()["session"]
    raise errors.forbidden(_ANEW)
