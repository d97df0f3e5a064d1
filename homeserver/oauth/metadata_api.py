"""Where clients find out how to log in here.

Spec: client-server-api#server-metadata-discovery
"""

from typing import Final

from federation.canonical_json import JsonObject
from homeserver.accounts import own_pages
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import places
from homeserver.oauth.client_metadata import GRANTS, RESPONSE_TYPES

MSC2965: Final = "/_matrix/client/unstable/org.matrix.msc2965"
ACTIONS: Final = (
    "org.matrix.profile",
    "org.matrix.devices_list",
    "org.matrix.device_view",
    "org.matrix.device_delete",
    "org.matrix.account_deactivate",
    "org.matrix.cross_signing_reset",
)
# COMPAT(clients of MSC4191 as it was): these name the same pages.
OLD_ACTIONS: Final = (
    "org.matrix.sessions_list",
    "org.matrix.session_view",
    "org.matrix.session_end",
)
_CACHED: Final = {"Cache-Control": "public, max-age=3600"}


def server_metadata(base: str) -> JsonObject:
    """What the authorization server can do (RFC 8414, 2)."""
    return {
        "issuer": f"{base}/",
        "authorization_endpoint": base + places.AUTHORIZE,
        "token_endpoint": base + places.TOKEN,
        "revocation_endpoint": base + places.REVOKE,
        "registration_endpoint": base + places.REGISTER,
        "device_authorization_endpoint": base + places.DEVICE,
        "response_types_supported": [*RESPONSE_TYPES],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": [*GRANTS],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": True,
        "prompt_values_supported": ["create"],
        "account_management_uri": base + own_pages.ACCOUNT,
        "account_management_actions_supported": [*ACTIONS],
    }


@route("GET", "/_matrix/client/v1/auth_metadata", auth=nobody)
async def get_auth_metadata(ctx: Context, request: Request) -> Answer:
    """How to log in. Spec: client-server-api#get_matrixclientv1auth_metadata."""
    return Reply(200, server_metadata(own_pages.base_of(ctx, request)), _CACHED)


@route("GET", MSC2965 + "/auth_metadata", auth=nobody, flag="org.matrix.msc2965")
@route("GET", "/.well-known/openid-configuration", auth=nobody)
async def get_old_auth_metadata(ctx: Context, request: Request) -> Answer:
    """How to log in, for clients of MSC2965."""
    metadata = server_metadata(own_pages.base_of(ctx, request))
    metadata["account_management_actions_supported"] = [*ACTIONS, *OLD_ACTIONS]
    return Reply(200, metadata, _CACHED)


@route("GET", MSC2965 + "/auth_issuer", auth=nobody, flag="org.matrix.msc2965")
async def get_auth_issuer(ctx: Context, request: Request) -> Answer:
    """Who lets users in, for clients of MSC2965 as it was."""
    return {"issuer": f"{own_pages.base_of(ctx, request)}/"}
