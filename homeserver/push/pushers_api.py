"""The endpoints about pushers. Spec: client-server-api#push-notifications.

Besides `http`: `webpush` (MSC4174) and `email`, when this server can send e-mails.
"""

import ipaddress
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from federation.canonical_json import JsonObject
from federation.wire.addresses import AddressPolicy, is_public
from homeserver import errors
from homeserver.accounts.addresses import EMAIL as EMAIL_MEDIUM
from homeserver.accounts.addresses import canonical_email
from homeserver.accounts.store import threepids
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.mail.postman import Postman
from homeserver.push import pushers
from homeserver.push.pushers import (
    EMAIL,
    HTTP,
    WEB_PUSH,
    Acknowledgement,
    Pusher,
    PusherEdit,
)
from homeserver.push.web_push import checked_keys

PUSHERS: Final = "/_matrix/client/v3/pushers"
NOTIFY_PATH: Final = "/_matrix/push/v1/notify"
MAX_PUSHERS: Final = 100
_MAX_APP_ID: Final = 64  # characters
_MAX_PUSHKEY: Final = 512  # bytes
_MAX_TEXT: Final = 1024  # characters
_MAX_DATA: Final = 16_384  # bytes
_NEEDED: Final = ("app_display_name", "device_display_name", "lang", "data")
_ENABLED: Final = ("enabled", "org.matrix.msc3881.enabled")
_DEVICE: Final = ("device_id", "org.matrix.msc3881.device_id")
_NO_COUNTS: Final = ("disable_badge_count", "org.matrix.msc4076.disable_badge_count")


@route("GET", PUSHERS, auth=by_access_token)
async def get_pushers(ctx: Context, request: ClientRequest) -> Answer:
    """The user's pushers.

    Spec: client-server-api#get_matrixclientv3pushers
    """
    async with ctx.db.read() as tx:
        found = await pushers.read_pushers(tx, request.user_id)
    return {"pushers": [pusher.as_json() for pusher in found]}


@route("POST", PUSHERS + "/set", auth=by_access_token, limit=writes)
async def post_pusher(ctx: Context, request: ClientRequest) -> Answer:
    """Set a pusher, or delete it when its kind is null.

    Raises: M_MISSING_PARAM, M_INVALID_PARAM, M_BAD_JSON.

    Spec: client-server-api#post_matrixclientv3pushersset
    """
    body = request.json_object()
    missing = [name for name in ("app_id", "pushkey", "kind") if name not in body]
    if missing:
        raise errors.missing_param(f"Missing parameters: {', '.join(missing)}")
    app_id, pushkey = _text(body, "app_id"), _text(body, "pushkey")
    if len(app_id) > _MAX_APP_ID:
        raise errors.invalid_param(f"app_id has at most {_MAX_APP_ID} characters.")
    if len(pushkey.encode()) > _MAX_PUSHKEY:
        raise errors.invalid_param(f"pushkey has at most {_MAX_PUSHKEY} bytes.")
    append = body.get("append", False)
    if not isinstance(append, bool):
        raise errors.bad_json("append: true or false is needed.")
    if body["kind"] is None:
        edit = PusherEdit(request.user_id, app_id, pushkey, None, alone=not append)
        await _commit(ctx, edit)
        return {}
    pusher = await _parse(ctx, request, body)
    async with ctx.db.read() as tx:
        found = await pushers.read_pushers(tx, request.user_id)
    key = (pusher.app_id, pusher.pushkey)
    old = next((p for p in found if (p.app_id, p.pushkey) == key), None)
    if old is None and len(found) >= MAX_PUSHERS:
        raise errors.invalid_param(f"There can be at most {MAX_PUSHERS} pushers.")
    token = None
    if pusher.kind == WEB_PUSH and not _is_active(old, pusher):
        pusher, token = replace(pusher, activated=False), str(uuid.uuid4())
    elif pusher.kind == EMAIL:
        token = secrets.token_urlsafe(32)
    pusher = replace(pusher, device_id=_device(request, body, old, pusher, found))
    edit = PusherEdit(pusher.user_id, *key, pusher, alone=not append, token=token)
    await _commit(ctx, edit)
    # "The pusher is set but needs to be activated": MSC4174.
    return {} if pusher.activated else Reply(201)


async def _commit(ctx: Context, edit: PusherEdit) -> None:
    change = Change(Kind.PUSHERS, user_id=edit.user_id)
    await ctx.live.commit(pushers.edit_pushers, edit, change)


@route("POST", PUSHERS + "/ack", auth=by_access_token)
async def acknowledge_pusher(ctx: Context, request: ClientRequest) -> Answer:
    """Activate a pusher with what was pushed to it. MSC4174.

    Raises: M_NOT_FOUND, M_EXPIRED_ACTIVATION_TOKEN, M_UNKNOWN_ACTIVATION_TOKEN.
    """
    body = request.json_object()
    missing = [name for name in ("app_id", "ack_token") if name not in body]
    if missing:
        raise errors.missing_param(f"Missing parameters: {', '.join(missing)}")
    app_id, token = _text(body, "app_id"), _text(body, "ack_token")
    async with ctx.db.read() as tx:
        is_there, is_known, is_good = await pushers.token_state(
            tx, request.user_id, app_id, token
        )
    if not is_there:
        raise errors.not_found("You have no Web Push pusher for this app.")
    if not is_known:
        raise MatrixError(400, "M_UNKNOWN_ACTIVATION_TOKEN", "Nobody waits for that.")
    if not is_good:
        raise MatrixError(400, "M_EXPIRED_ACTIVATION_TOKEN", "That came too late.")
    what = Acknowledgement(request.user_id, app_id, token)
    change = Change(Kind.PUSHERS, user_id=request.user_id)
    await ctx.live.commit(pushers.activate, what, change)
    return {}


# ── What a client gives ──────────────────────────────────────────────────────────────


def _text(body: JsonObject, name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise errors.bad_json(f"{name}: a string is needed.")
    if len(value) > _MAX_TEXT:
        raise errors.invalid_param(f"{name} is too long.")
    return value


def _flag(body: JsonObject, names: Iterable[str], *, default: bool) -> bool:
    for name in names:
        value = body.get(name)
        if isinstance(value, bool):
            return value
        if value is not None:
            raise errors.bad_json(f"{name}: true or false is needed.")
    return default


async def _parse(ctx: Context, request: ClientRequest, body: JsonObject) -> Pusher:
    missing = [name for name in _NEEDED if name not in body]
    if missing:
        raise errors.missing_param(f"Missing parameters: {', '.join(missing)}")
    data = body["data"]
    if not isinstance(data, dict):
        raise errors.bad_json("data: an object is needed.")
    if len(request.body_bytes) > _MAX_DATA:
        raise errors.invalid_param("The pusher is too large.")
    pushkey = _text(body, "pushkey")
    match body["kind"]:
        case "http":
            kind = HTTP
            _check_gateway(ctx, data)
        case "webpush":
            kind = WEB_PUSH
            _check_web_push(ctx, data, pushkey)
        case "email":
            kind = EMAIL
            pushkey = await _own_address(ctx, request, pushkey)
        case _:
            kinds = "'http', 'webpush' and 'email' are known."
            raise errors.invalid_param(f"kind: {kinds}")
    if data.get("format", "event_id_only") != "event_id_only":
        raise errors.invalid_param("data.format: 'event_id_only' is known.")
    tag = body.get("profile_tag")
    no_counts = _flag(body, _NO_COUNTS, default=False)
    return Pusher(
        user_id=request.user_id,
        app_id=_text(body, "app_id"),
        pushkey=pushkey,
        kind=kind,
        app_display_name=_text(body, "app_display_name"),
        device_display_name=_text(body, "device_display_name"),
        profile_tag=None if tag is None else _text(body, "profile_tag"),
        lang=_text(body, "lang"),
        data=data,
        device_id=request.device_id,
        ts=ctx.clock.ms() // 1000,
        enabled=_flag(body, _ENABLED, default=True),
        # Clients that know MSC4076 give it here or in `data`.
        counts=not (no_counts or _flag(data, _NO_COUNTS, default=False)),
    )


def _is_active(old: Pusher | None, new: Pusher) -> bool:
    """Whether Web Push is as it was when the client acknowledged it."""
    return (
        old is not None
        and old.kind == WEB_PUSH
        and old.activated
        and all(old.data.get(name) == new.data[name] for name in ("url", "auth"))
    )


def _device(
    request: ClientRequest,
    body: JsonObject,
    old: Pusher | None,
    new: Pusher,
    found: Iterable[Pusher],
) -> str | None:
    """The device with which the pusher goes; MSC3881 lets others switch it off.

    They give the pusher back as they got it. What sends e-mails is of no device.
    """
    if new.kind == EMAIL:
        return None
    named = next((body[name] for name in _DEVICE if name in body), None)
    if named in {pusher.device_id for pusher in found} - {None}:
        return str(named)
    is_switch = any(name in body for name in _ENABLED)
    if (
        old is not None
        and is_switch
        and replace(old, enabled=new.enabled, device_id=new.device_id, ts=new.ts)
        == replace(new, activated=old.activated)
    ):
        return old.device_id
    return request.device_id


async def _own_address(ctx: Context, request: ClientRequest, pushkey: str) -> str:
    """The user's address as it is kept. Raises: M_INVALID_PARAM."""
    if not ctx.parts.get(Postman).has_mail:
        raise errors.invalid_param("kind: this server sends no e-mails.")
    address = canonical_email(pushkey)
    async with ctx.db.read() as tx:
        owner = await threepids.owner(tx, EMAIL_MEDIUM, address)
    if owner != request.user_id:
        raise errors.invalid_param("pushkey: this is no e-mail address of yours.")
    return address


def _check_gateway(ctx: Context, data: JsonObject) -> None:
    if "url" not in data:
        raise errors.missing_param("data.url is missing.")
    if _checked_path(ctx, _text(data, "url")) != NOTIFY_PATH:
        raise errors.invalid_param(f"data.url: its path must be {NOTIFY_PATH}.")


def _check_web_push(ctx: Context, data: JsonObject, pushkey: str) -> None:
    missing = [name for name in ("url", "auth") if name not in data]
    if missing:
        raise errors.missing_param(f"Missing in data: {', '.join(missing)}")
    _checked_path(ctx, _text(data, "url"))
    checked_keys(pushkey, _text(data, "auth"))


def _checked_path(ctx: Context, url: str) -> str:
    """The path of a URL that may be pushed to: HTTPS, but in the operator's network.

    Where its name leads is looked at with each connection. Raises: M_INVALID_PARAM.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise errors.invalid_param("data.url: this is no URL.") from None
    if not host or not url.isascii() or not url.isprintable() or parts.username:
        raise errors.invalid_param("data.url: nothing can be pushed there.")
    if parts.scheme != "https" and (parts.scheme != "http" or not _is_own(ctx, host)):
        raise errors.invalid_param("data.url: an HTTPS URL is needed.")
    return parts.path


def _is_own(ctx: Context, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    policy = AddressPolicy(ctx.config.allowed_networks)
    return not is_public(address) and policy.is_allowed(address)
