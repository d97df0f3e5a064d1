"""Pages on which people go through a stage that their client does not know.

Spec: client-server-api#fallback
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import uia
from homeserver.accounts.addresses import canonical_email, canonical_phone
from homeserver.accounts.confirming import providers_of
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import Stage
from homeserver.accounts.verify import PasswordStage
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key, logins
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login import captcha, terms
from homeserver.login.register import RegistrationTokenStage
from homeserver.pages import kit
from homeserver.pages.visitors import Form, Visitor, read_form, visitor_of
from homeserver.threepids import validation
from homeserver.threepids.stages import EMAIL_STAGE, MSISDN_STAGE, STAGES, ThreepidStage
from homeserver.threepids.validation import Purpose, Wanted

PATH: Final = "/_matrix/client/v3/auth/{authType}/fallback/web"
# Tells the client that opened the page, as the specification has it.
_DONE: Final = (
    "if (window.onAuthDone) { window.onAuthDone(); }"
    " else if (window.opener && window.opener.postMessage)"
    ' { window.opener.postMessage("authDone", "*"); }'
)
_DONE_HASH: Final = base64.b64encode(hashlib.sha256(_DONE.encode()).digest()).decode()
# Where a browser is sent to a provider; it stands further down, in `sign_on`.
_PROVIDER: Final = "/account/provider/"
_PURPOSES: Final = {
    "register": Purpose.REGISTER,
    "change_password": Purpose.PASSWORD,
}


class _NotYetError(Exception):
    """The person has to do something first, such as to read an e-mail."""


def _gone() -> MatrixError:
    return errors.not_found("This has run out. Go back to your app and begin again.")


async def _session(ctx: Context, session_id: str, kind: str) -> UiaSession:
    """The session, which has this stage. Raises: M_NOT_FOUND."""
    found = await uia.find(ctx.db, session_id)
    if found is None or not any(kind in flow for flow in found.flows):
        raise _gone()
    return found


@route("GET", PATH, auth=nobody, limit=logins)
@kit.page
async def show_stage(ctx: Context, request: Request) -> Answer:
    """Ask for what the stage needs."""
    visitor, kind = visitor_of(ctx.config, request), request.path(str, "authType")
    session = await _session(ctx, request.query_str("session") or "", kind)
    if kind in session.completed:
        return done_page(ctx, visitor)
    if kind == uia.SSO and session.user_id is not None:
        return await _ask_providers(ctx, visitor, session, UserId(session.user_id))
    return _ask(ctx, visitor, session, kind)


async def _ask_providers(
    ctx: Context, visitor: Visitor, session: UiaSession, user_id: UserId
) -> Reply:
    """Say what is to be confirmed, and lead to where the user can show who they are."""
    seal = visitor.seal(f"confirm {session.session_id}")
    query = urlencode({"confirm": session.session_id, "seal": seal})
    names = {each.id: each.name for each in ctx.config.sign_on_choices}
    return kit.show(
        ctx,
        visitor,
        "login/confirm.html",
        user_id=user_id,
        what=session.operation,
        providers=[
            (names[each], f"{_PROVIDER}{quote(each, safe='')}?{query}")
            for each in await providers_of(ctx, user_id)
        ],
    )


@route("POST", PATH, auth=nobody, limit=logins)
@kit.page
async def pass_stage(ctx: Context, request: Request) -> Answer:
    """Check what was filled in; the client then finds the stage completed."""
    visitor, kind = visitor_of(ctx.config, request), request.path(str, "authType")
    form = read_form(ctx.config, request, visitor)
    session = await _session(ctx, form["session"], kind)
    if kind in session.completed:
        return done_page(ctx, visitor)
    if not uia.is_next(session.flows, session, kind):
        raise errors.forbidden("Another step comes first. Go back to your app.")
    try:
        stage, auth = await _stage(ctx, request, session, kind, form)
        await stage(auth, session)
    except _NotYetError:
        return _ask(ctx, visitor, session, kind)
    except MatrixError as error:
        if error.status >= 500:
            raise
        return _ask(ctx, visitor, session, kind, error)
    await uia.complete(ctx.db, session, kind)
    return done_page(ctx, visitor)


async def _stage(
    ctx: Context, request: Request, session: UiaSession, kind: str, form: Form
) -> tuple[Stage, JsonObject]:
    """What checks the stage, and what a client would have sent for it."""
    match kind:
        case uia.DUMMY:
            return uia.check_dummy, {}
        case terms.STAGE:
            return terms.TermsStage(ctx.config.registration), {}
        case uia.REGISTRATION_TOKEN:
            return RegistrationTokenStage(ctx.db), {"token": form["token"].strip()}
        case captcha.STAGE:
            field = captcha.MAKERS[ctx.config.captcha.kind].field
            return captcha.CaptchaStage(ctx.config.captcha), {"response": form[field]}
        case uia.PASSWORD if session.user_id is not None:
            user_id = UserId(session.user_id)
            named: JsonObject = {"type": "m.id.user", "user": user_id}
            return (
                PasswordStage(ctx, request.limits, user_id),
                {"identifier": named, "password": form["password"]},
            )
        case _ if kind in STAGES:
            return await _threepid(ctx, request, session, kind, form)
        case _:
            raise errors.not_found("There is no page for this step. Use your app.")


async def _threepid(
    ctx: Context, request: Request, session: UiaSession, kind: str, form: Form
) -> tuple[Stage, JsonObject]:
    """Send a message first; then see whether its link or code was used."""
    medium, purpose = STAGES[kind], _PURPOSES.get(session.operation)
    if purpose is None:
        raise _gone()
    owner = UserId(session.user_id) if session.user_id is not None else None
    stage = ThreepidStage(ctx.db, ctx.clock, medium, purpose, owner)
    begun = session.details.get(_begun(kind))
    if not isinstance(begun, dict) or form["again"]:
        if kind == EMAIL_STAGE:
            address = canonical_email(form["email"])
        else:
            address = canonical_phone(form["number"], form["country"].upper() or None)
        secret = secrets.token_urlsafe(24)
        wanted = Wanted(purpose, medium, address, secret, 1)
        sid = await validation.request_token(ctx, request, wanted)
        session.details[_begun(kind)] = {
            "sid": sid,
            "client_secret": secret,
            "address": address,
        }
        await uia.keep(ctx.db, session)
        raise _NotYetError
    creds: JsonObject = {key: begun[key] for key in ("sid", "client_secret")}
    if kind == MSISDN_STAGE:
        request.spend(validation.trying, address_key(request.ip))
        await validation.submit(
            ctx, str(creds["sid"]), form["code"].strip(), str(creds["client_secret"])
        )
    return stage, {"threepid_creds": creds}


def _begun(kind: str) -> str:
    return f"fallback.{kind}"


# ── What is shown ────────────────────────────────────────────────────────────────────


def _ask(
    ctx: Context,
    visitor: Visitor,
    session: UiaSession,
    kind: str,
    refused: MatrixError | None = None,
) -> Reply:
    begun = session.details.get(_begun(kind))
    maker = captcha.MAKERS.get(ctx.config.captcha.kind)
    allow: Mapping[str, str] = {}
    if kind == captcha.STAGE and maker is not None:
        kinds = ("script-src", "frame-src", "connect-src", "img-src")
        allow = dict.fromkeys(kinds, maker.sources)
    return kit.show(
        ctx,
        visitor,
        "login/fallback.html",
        status=refused.status if refused else 200,
        refused=visitor.say(refused.safe_message) if refused else "",
        allow=allow,
        kind=kind,
        session=session.session_id,
        address=str(begun["address"]) if isinstance(begun, dict) else "",
        maker=maker,
        site_key=ctx.config.captcha.site_key,
        documents=documents(ctx, visitor),
        is_done=False,
        script="",
    )


def documents(ctx: Context, visitor: Visitor) -> list[tuple[str, str]]:
    """The names and addresses of what is to be accepted."""
    found = []
    for policy in terms.policies(ctx.config.registration).values():
        shown = policy.get(visitor.say.code) if isinstance(policy, dict) else None
        if isinstance(shown, dict):
            found.append((str(shown["name"]), str(shown["url"])))
    return found


def done_page(ctx: Context, visitor: Visitor) -> Reply:
    """Say that the stage is passed, to the person and to the app that waits."""
    return kit.show(
        ctx,
        visitor,
        "login/fallback.html",
        allow={"script-src": f"'sha256-{_DONE_HASH}'"},
        is_done=True,
        script=_DONE,
    )
