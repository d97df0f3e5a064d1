"""The page for somebody who comes through a provider for the first time.

They make an account, or link one that is theirs, as its password shows.
"""

from typing import Final

from msgspec import json

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.addresses import EMAIL
from homeserver.accounts.store import sign_ons, threepids
from homeserver.accounts.store.threepids import Threepid
from homeserver.accounts.verify import identify, verify_password
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key, logins, lookups, registrations
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.login import terms
from homeserver.login.fallback_pages import documents
from homeserver.login.register import (
    check_available,
    check_room_for_one_more,
    make_account,
    new_user_id,
)
from homeserver.oauth import places
from homeserver.pages import kit
from homeserver.pages.visitors import Form, Visitor, read_form, visitor_of
from homeserver.profile.client_api import change_field
from homeserver.sign_on import store
from homeserver.sign_on.arrivals import confirmed_email, log_in
from homeserver.sign_on.identity import Identity
from homeserver.sign_on.pictures import take_picture
from homeserver.sign_on.providers import Providers, Rules

GONE: Final = "This took too long. Begin again."
WRONG: Final = "User name or password are wrong."
_WRONG_PASSWORD: Final = ("M_FORBIDDEN", "M_USER_DEACTIVATED")


async def _arrived(ctx: Context, visitor: Visitor) -> tuple[Identity, Rules, str]:
    """Who has come with the browser, and where they go on to. Raises: M_NOT_FOUND."""
    found = None
    if not visitor.is_new:
        async with ctx.db.read() as tx:
            found = await store.arrival(tx, visitor.hash)
    if found is None:
        raise errors.not_found(GONE)
    identity = json.decode(found.identity, type=Identity)
    provider = ctx.parts.get(Providers).get(identity.provider)
    return identity, provider.rules, found.onward


@route("GET", places.WELCOME, auth=nobody, limit=lookups)
@kit.page
async def show_welcome(ctx: Context, request: Request) -> Answer:
    """Ask for a name, or for the password of an account."""
    visitor = visitor_of(ctx.config, request)
    identity, rules, _ = await _arrived(ctx, visitor)
    return _ask(ctx, visitor, identity, rules, Form({}), None)


def _ask(
    ctx: Context,
    visitor: Visitor,
    identity: Identity,
    rules: Rules,
    form: Form,
    refused: MatrixError | None,
) -> Reply:
    return kit.show(
        ctx,
        visitor,
        "sign_on/welcome.html",
        status=refused.status if refused else 200,
        refused=visitor.say(refused.safe_message) if refused else "",
        provider=rules.name,
        may_sign_up=rules.sign_up,
        may_link=ctx.config.passwords.log_in,
        chooses=rules.choose_name or not identity.localpart,
        name=form["name"] or identity.localpart,
        user=form["user"],
        display_name=identity.display_name,
        email=identity.email,
        documents=documents(ctx, visitor),
        action=places.WELCOME,
    )


@route("POST", places.WELCOME, auth=nobody)
@kit.page
async def choose(ctx: Context, request: Request) -> Answer:
    """Make the account, or link one; log its owner in, and go on."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    identity, rules, onward = await _arrived(ctx, visitor)
    is_link = form["what"] == "link"
    request.spend(logins if is_link else registrations, address_key(request.ip))
    try:
        if is_link:
            user_id = await _link(ctx, request, visitor, identity, form)
        else:
            user_id = await _make(ctx, visitor, identity, rules, form)
        await log_in(ctx, visitor, identity, user_id)
    except MatrixError as error:
        if error.status >= 500:
            raise
        return _ask(ctx, visitor, identity, rules, form, error)
    return kit.go(visitor, onward)


async def _make(
    ctx: Context, visitor: Visitor, identity: Identity, rules: Rules, form: Form
) -> UserId:
    if not rules.sign_up:
        raise errors.forbidden("Nobody can register on this server.")
    chooses = rules.choose_name or not identity.localpart
    name = form["name"].strip().removeprefix("@") if chooses else identity.localpart
    if not name:
        raise errors.missing_param("Choose a user name.")
    asked = terms.policies(ctx.config.registration)
    if asked and form["accept"] != "yes":
        raise errors.missing_param("Accept the documents first.")
    user_id = new_user_id(name.removesuffix(f":{ctx.server_name}"), ctx.server_name)
    await check_room_for_one_more(ctx)
    await check_available(ctx.db, user_id)
    ctx.parts.get(Services).check_user(user_id)

    async def also(tx: Tx) -> None:
        await _settle(tx, visitor, identity, user_id)

    await make_account(
        ctx.db,
        user_id,
        None,
        is_approved=ctx.config.registration.mode != "approval",
        addresses=await _addresses(ctx, identity),
        accepted_terms=ctx.config.registration.terms_version if asked else None,
        also=also,
    )
    if identity.display_name:
        await change_field(ctx, user_id, "displayname", identity.display_name)
    if identity.avatar:
        provider = ctx.parts.get(Providers).get(identity.provider)
        await take_picture(ctx, provider, user_id, identity.avatar)
    return user_id


async def _addresses(ctx: Context, identity: Identity) -> list[Threepid]:
    """The address of the new account, if it is confirmed and nobody's here."""
    address, now = confirmed_email(identity), ctx.clock.ms()
    if address is None:
        return []
    async with ctx.db.read() as tx:
        if await threepids.owner(tx, EMAIL, address) is not None:
            return []
    return [Threepid(EMAIL, address, now, now)]


async def _link(
    ctx: Context, request: Request, visitor: Visitor, identity: Identity, form: Form
) -> UserId:
    named: JsonObject = {
        "identifier": {"type": "m.id.user", "user": form["user"].strip()}
    }
    user_id = await identify(ctx.db, named, ctx.server_name)
    try:
        account = await verify_password(
            ctx, request.limits, user_id, form["password"], request.ip
        )
    except MatrixError as error:
        if error.errcode in _WRONG_PASSWORD:
            raise errors.forbidden(WRONG) from None
        raise
    async with ctx.db.transaction() as tx:
        await _settle(tx, visitor, identity, account.user_id)
    return account.user_id


async def _settle(
    tx: Tx, visitor: Visitor, identity: Identity, user_id: UserId
) -> None:
    """Whoever came is this user from now on. Raises: M_FORBIDDEN, when too late."""
    if not await store.end_arrival(tx, visitor.hash) or not await sign_ons.link(
        tx, identity.provider, identity.subject, user_id
    ):
        raise errors.forbidden(GONE)
