"""The pages on which users see to their account; clients link to them by an action.

What cannot be undone asks for the password again.

Spec: client-server-api#oauth-20-account-management
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from federation.ids import DeviceId, UserId
from homeserver import errors
from homeserver.accounts import own_pages
from homeserver.accounts.client_api.deactivation import end_account
from homeserver.accounts.sessions import MAX_DISPLAY_NAME, end_sessions
from homeserver.accounts.store import devices, oauth_sessions, profiles
from homeserver.accounts.store.devices import Device
from homeserver.accounts.verify import verify_password
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups, writes
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import browsers, places
from homeserver.oauth.store import browsers as browsers_store
from homeserver.pages import kit
from homeserver.pages.visitors import Form, Visitor, read_form, visitor_of
from homeserver.profile import fields
from homeserver.profile.client_api import change_field

# So long the user's client may replace the cross-signing keys after they said yes.
RESET_LIFETIME: Final = timedelta(minutes=10)

PROFILE: Final = "org.matrix.profile"
DEVICES: Final = "org.matrix.devices_list"
DEVICE: Final = "org.matrix.device_view"
DELETE_DEVICE: Final = "org.matrix.device_delete"
DEACTIVATE: Final = "org.matrix.account_deactivate"
RESET: Final = "org.matrix.cross_signing_reset"
# COMPAT(clients of MSC4191 as it was)
_OLD_NAMES: Final[Mapping[str, str]] = {
    "org.matrix.sessions_list": DEVICES,
    "org.matrix.session_view": DEVICE,
    "org.matrix.session_end": DELETE_DEVICE,
}


def page_of(action: str, device_id: str = "") -> str:
    """The page of an action."""
    named = {"device_id": device_id} if device_id else {}
    return f"{own_pages.ACCOUNT}?{urlencode({'action': action, **named})}"


@route("GET", own_pages.ACCOUNT, auth=nobody, limit=lookups)
@kit.page
async def show_account(ctx: Context, request: Request) -> Answer:
    """The page that the action names."""
    visitor = visitor_of(ctx.config, request)
    action = request.query_str("action") or ""
    action = _OLD_NAMES.get(action, action)
    device_id = (request.query_str("device_id") or "").replace("\0", "")[:255]
    owner = await browsers.owner_of(ctx, visitor)
    if owner is None:
        where = page_of(action, device_id) if action else own_pages.ACCOUNT
        return kit.go(visitor, browsers.login_page(where))
    return await _page(ctx, visitor, owner.user_id, action, device_id)


async def _page(
    ctx: Context,
    visitor: Visitor,
    user_id: UserId,
    action: str,
    device_id: str = "",
    refused: MatrixError | None = None,
) -> Reply:
    template = "oauth/account.html"
    values: dict[str, Any] = {}
    if action == DEVICES:
        template, values = "oauth/devices.html", await _devices(ctx, user_id)
    elif action in (DEVICE, DELETE_DEVICE):
        template = "oauth/device.html"
        values = await _device(ctx, user_id, DeviceId(device_id))
    elif action == DEACTIVATE:
        template = "oauth/deactivate.html"
    elif action == RESET:
        template = "oauth/reset.html"
    else:
        action = PROFILE
        async with ctx.db.read() as tx:
            profile = await profiles.profile(tx, user_id)
        values = {"name": profile.get("displayname") or "", "most": MAX_DISPLAY_NAME}
    return kit.show(
        ctx,
        visitor,
        template,
        status=refused.status if refused else 200,
        refused=visitor.say(refused.safe_message) if refused else "",
        user_id=user_id,
        action=action,
        here=own_pages.ACCOUNT,
        logout=places.LOGOUT,
        pages={
            "profile": page_of(PROFILE),
            "devices": page_of(DEVICES),
            "link": places.LINK,
            "reset": page_of(RESET),
            "deactivate": page_of(DEACTIVATE),
        },
        page_of=page_of,
        **values,
    )


async def _devices(ctx: Context, user_id: UserId) -> dict[str, Any]:
    async with ctx.db.read() as tx:
        found = await devices.devices(tx, user_id)
    found.sort(key=lambda each: each.last_seen_ms or 0, reverse=True)
    return {"devices": found, "DEVICE": DEVICE, "seen": _seen}


async def _device(ctx: Context, user_id: UserId, device_id: DeviceId) -> dict[str, Any]:
    async with ctx.db.read() as tx:
        found = await devices.device(tx, user_id, device_id)
        session = await oauth_sessions.of_device(tx, user_id, device_id)
    if found is None:
        raise errors.not_found("You have no such device.")
    return {
        "device": found,
        "seen": _seen,
        "DELETE": DELETE_DEVICE,
        "is_oauth": session is not None,
    }


def _seen(device: Device) -> str:
    """When the device was last seen."""
    if device.last_seen_ms is None:
        return "—"
    at = datetime.fromtimestamp(device.last_seen_ms / 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


# ── What is done there ───────────────────────────────────────────────────────────────


@route("POST", own_pages.ACCOUNT, auth=nobody)
@kit.page
async def change_account(ctx: Context, request: Request) -> Answer:
    """Do what the form is for."""
    visitor = visitor_of(ctx.config, request)
    form = read_form(ctx.config, request, visitor)
    owner = await browsers.owner_of(ctx, visitor)
    action, device_id = form["action"], form["device_id"]
    if owner is None:
        return kit.go(visitor, browsers.login_page(page_of(action, device_id)))
    request.spend(writes, owner.user_id)
    change = _CHANGES.get(action)
    if change is None:
        raise errors.invalid_param("The form cannot be read.")
    try:
        return await change(ctx, request, visitor, owner.user_id, form)
    except MatrixError as refused:
        if refused.status >= 500:
            raise
        return await _page(ctx, visitor, owner.user_id, action, device_id, refused)


async def _change_name(
    ctx: Context, _request: Request, visitor: Visitor, user_id: UserId, form: Form
) -> Reply:
    name = form["name"].strip()
    if name:
        fields.check_value("displayname", name)
    await change_field(ctx, user_id, "displayname", name or None)
    return kit.go(visitor, page_of(PROFILE))


async def _delete_device(
    ctx: Context, _request: Request, visitor: Visitor, user_id: UserId, form: Form
) -> Reply:
    await end_sessions(ctx.live, user_id, (DeviceId(form["device_id"]),))
    return kit.go(visitor, page_of(DEVICES))


async def _check_password(
    ctx: Context, request: Request, user_id: UserId, form: Form
) -> None:
    await verify_password(ctx, request.limits, user_id, form["password"])


async def _deactivate(
    ctx: Context, request: Request, visitor: Visitor, user_id: UserId, form: Form
) -> Reply:
    await _check_password(ctx, request, user_id, form)
    await end_account(ctx, user_id, erase=form["erase"] == "yes")
    async with ctx.db.transaction() as tx:
        await browsers_store.delete_of(tx, user_id)
    visitor.renew()
    return kit.show(ctx, visitor, "oauth/done.html", what=DEACTIVATE)


async def _allow_reset(
    ctx: Context, request: Request, visitor: Visitor, user_id: UserId, form: Form
) -> Reply:
    await _check_password(ctx, request, user_id, form)
    async with ctx.db.transaction() as tx:
        await oauth_sessions.allow_reset(tx, user_id, RESET_LIFETIME)
    return kit.show(ctx, visitor, "oauth/done.html", what=RESET)


_Change = Callable[[Context, Request, Visitor, UserId, Form], Awaitable[Reply]]
_CHANGES: Final[Mapping[str, _Change]] = {
    PROFILE: _change_name,
    DELETE_DEVICE: _delete_device,
    DEACTIVATE: _deactivate,
    RESET: _allow_reset,
}
