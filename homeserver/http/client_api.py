"""Endpoints about the server as such, for clients: versions, capabilities, where."""

from federation.canonical_json import JsonObject
from federation.room_versions import ROOM_VERSIONS
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token, nobody, optional_access_token
from homeserver.http.features import FEATURES, VERSIONS
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.http.well_known import client_discovery, policy_server, support


@route("GET", "/_matrix/client/versions", auth=optional_access_token)
async def get_versions(ctx: Context, _request: ClientRequest) -> Answer:
    """The versions of the specification that clients can rely on.

    Spec: client-server-api#get_matrixclientversions
    """
    return {
        "versions": list(VERSIONS),
        "unstable_features": {each.flag: each.is_on(ctx.config) for each in FEATURES},
    }


@route("GET", "/_matrix/client/v3/capabilities", auth=by_access_token)
async def get_capabilities(ctx: Context, request: ClientRequest) -> Answer:
    """What this server lets the user do.

    Spec: client-server-api#capabilities-negotiation
    """
    more: JsonObject = {}
    if request.who.is_admin:
        for name in ("m.account_moderation", "uk.timedout.msc4323"):
            more[name] = {"lock": True, "suspend": True}
    return {
        "capabilities": {
            **more,
            **{name: tell() for name, tell in ctx.capabilities.items()},
            "m.change_password": {"enabled": True},
            "m.room_versions": {
                "default": ctx.config.default_room_version,
                "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
            },
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
            "m.3pid_changes": {"enabled": True},
            "m.get_login_token": {"enabled": True},
            "m.profile_fields": {"enabled": True},
            "uk.tcpip.msc4133.profile_fields": {"enabled": True},
            # MSC4452, under the name that clients ask for.
            "io.element.msc4452.preview_url": {
                "enabled": ctx.config.media.url_previews
            },
            "m.forget_forced_upon_leave": {"enabled": ctx.config.rooms.forget_on_leave},
            "org.matrix.msc4140.delayed_events": {
                "max_delay_ms": ctx.config.limits.max_delay_s * 1000,
                "max_scheduled": ctx.config.limits.max_delayed_events,
            },
        }
    }


@route("GET", "/.well-known/matrix/client", auth=nobody)
async def get_wellknown(ctx: Context, _request: Request) -> Answer:
    """Where clients reach this server.

    Raises: M_NOT_FOUND, when `public_base_url` is not set.

    Spec: client-server-api#getwell-knownmatrixclient
    """
    if not ctx.config.public_base_url:
        raise errors.not_found("This server does not say where it can be reached.")
    return client_discovery(ctx.config)


@route("GET", "/.well-known/matrix/support", auth=nobody, since="1.10")
async def get_wellknown_support(ctx: Context, _request: Request) -> Answer:
    """Whom people turn to. Raises: M_NOT_FOUND, when nobody is named.

    Spec: client-server-api#getwell-knownmatrixsupport
    """
    told = support(ctx.config)
    if not told:
        raise errors.not_found("This server does not say whom to turn to.")
    return told


@route("GET", "/.well-known/matrix/policy_server", auth=nobody, since="1.18")
async def get_wellknown_policy(ctx: Context, _request: Request) -> Answer:
    """The key of the policy server that has this server's name.

    Raises: M_NOT_FOUND, when the configuration tells of none.

    Spec: client-server-api#getwell-knownmatrixpolicy_server
    """
    told = policy_server(ctx.config)
    if told is None:
        raise errors.not_found("This server tells of no policy server.")
    return told
