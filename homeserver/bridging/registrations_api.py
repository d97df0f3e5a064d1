"""`/_hearth/admin/v1/appservices`: registrations that are added without a file.

For administrators. The tokens in a registration are never shown again.
"""

from typing import Final

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.appservices import store
from homeserver.appservices.registration import UnusableRegistration
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

SERVICES: Final = "/_hearth/admin/v1/appservices"


def _check_admin(request: ClientRequest) -> None:
    if not request.who.is_admin:
        raise errors.forbidden("Only administrators of this server may do this.")


async def _listed(ctx: Context) -> JsonObject:
    services = ctx.parts.get(Services)
    async with ctx.db.read() as tx:
        told = await store.overview(tx)
    return {
        "appservices": [
            {
                "id": each.service_id,
                "url": each.url,
                "sender": each.sender,
                "rate_limited": each.registration.rate_limited is not False,
                "from_file": not told[each.service_id].by_admin,
                # Attempts that failed since one did not.
                "failures": told[each.service_id].failures,
            }
            for each in services.all
            if each.service_id in told
        ]
    }


@route("GET", SERVICES, auth=by_access_token)
async def list_appservices(ctx: Context, request: ClientRequest) -> Answer:
    """All application services, without their tokens. Raises: M_FORBIDDEN."""
    _check_admin(request)
    return await _listed(ctx)


@route("PUT", SERVICES + "/{appserviceId}", auth=by_access_token, limit=writes)
async def put_appservice(ctx: Context, request: ClientRequest) -> Answer:
    """Add a registration, or replace one that was added so.

    The body is what stands in a registration file, as JSON.

    Raises: M_FORBIDDEN, M_INVALID_PARAM.
    """
    _check_admin(request)
    value = request.json_object()
    if value.get("id") != request.path(str, "appserviceId"):
        raise errors.invalid_param("id: it is another in the path.")
    try:
        await ctx.parts.get(Services).put(value)
    except UnusableRegistration as error:
        raise errors.invalid_param(str(error)) from None
    return {}


@route("DELETE", SERVICES + "/{appserviceId}", auth=by_access_token, limit=writes)
async def delete_appservice(ctx: Context, request: ClientRequest) -> Answer:
    """Take a registration out that was added here. Raises: M_FORBIDDEN, M_NOT_FOUND."""
    _check_admin(request)
    service_id = request.path(str, "appserviceId")
    if not await ctx.parts.get(Services).remove(service_id):
        raise errors.not_found("No such registration was added here.")
    return {}


@route("POST", SERVICES + "/reload", auth=by_access_token, limit=writes)
async def reload_appservices(ctx: Context, request: ClientRequest) -> Answer:
    """Read the registration files again, now. Raises: M_FORBIDDEN, M_INVALID_PARAM."""
    _check_admin(request)
    try:
        await ctx.parts.get(Services).reload()
    except UnusableRegistration as error:
        raise errors.invalid_param(str(error)) from None
    return await _listed(ctx)
