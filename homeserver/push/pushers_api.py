"""The endpoints about pushers. Spec: client-server-api#push-notifications."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from federation.canonical_json import JsonObject
from federation.wire.addresses import AddressPolicy, is_public
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.push import pushers
from homeserver.push.pushers import Pusher, PusherEdit

PUSHERS: Final = "/_matrix/client/v3/pushers"
NOTIFY_PATH: Final = "/_matrix/push/v1/notify"
MAX_PUSHERS: Final = 100
_MAX_APP_ID: Final = 64  # characters
_MAX_PUSHKEY: Final = 512  # bytes
_MAX_TEXT: Final = 1024  # characters
_MAX_DATA: Final = 16_384  # bytes
_NEEDED: Final = ("app_display_name", "device_display_name", "lang")


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
    pusher = None
    if body["kind"] is not None:
        pusher = _parse(ctx, request, body)
        async with ctx.db.read() as tx:
            found = await pushers.read_pushers(tx, request.user_id)
        others = [p for p in found if (p.app_id, p.pushkey) != (app_id, pushkey)]
        if len(others) >= MAX_PUSHERS:
            raise errors.invalid_param(f"There can be at most {MAX_PUSHERS} pushers.")
    edit = PusherEdit(request.user_id, app_id, pushkey, pusher, alone=not append)
    change = Change(Kind.PUSHERS, user_id=request.user_id)
    await ctx.live.commit(pushers.edit_pushers, edit, change)
    return {}


def _text(body: JsonObject, name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise errors.bad_json(f"{name}: a string is needed.")
    if len(value) > _MAX_TEXT:
        raise errors.invalid_param(f"{name} is too long.")
    return value


def _parse(ctx: Context, request: ClientRequest, body: JsonObject) -> Pusher:
    missing = [name for name in (*_NEEDED, "data") if name not in body]
    if missing:
        raise errors.missing_param(f"Missing parameters: {', '.join(missing)}")
    if body["kind"] != "http":
        raise errors.invalid_param("kind: this server pushes over 'http' only.")
    data = body["data"]
    if not isinstance(data, dict):
        raise errors.bad_json("data: an object is needed.")
    if len(request.body_bytes) > _MAX_DATA:
        raise errors.invalid_param("The pusher is too large.")
    if "url" not in data:
        raise errors.missing_param("data.url is missing.")
    _check_url(ctx, _text(data, "url"))
    if data.get("format", "event_id_only") != "event_id_only":
        raise errors.invalid_param("data.format: 'event_id_only' is known.")
    tag = body.get("profile_tag")
    return Pusher(
        user_id=request.user_id,
        app_id=_text(body, "app_id"),
        pushkey=_text(body, "pushkey"),
        kind="http",
        app_display_name=_text(body, "app_display_name"),
        device_display_name=_text(body, "device_display_name"),
        profile_tag=None if tag is None else _text(body, "profile_tag"),
        lang=_text(body, "lang"),
        data=data,
        device_id=request.device_id,
        ts=ctx.clock.ms() // 1000,
    )


def _check_url(ctx: Context, url: str) -> None:
    """A gateway is reached over HTTPS, but one in the operator's own network.

    Raises: M_INVALID_PARAM.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise errors.invalid_param("data.url: this is no URL.") from None
    if not host or not url.isascii() or not url.isprintable() or parts.username:
        raise errors.invalid_param("data.url: this is no URL of a gateway.")
    if parts.path != NOTIFY_PATH:
        raise errors.invalid_param(f"data.url: its path must be {NOTIFY_PATH}.")
    if parts.scheme == "https":
        return
    if parts.scheme != "http" or not _is_own(ctx, host):
        raise errors.invalid_param("data.url: an HTTPS URL is needed.")


def _is_own(ctx: Context, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    policy = AddressPolicy(ctx.config.allowed_networks)
    return not is_public(address) and policy.is_allowed(address)
