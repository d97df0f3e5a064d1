"""What a SAML provider calls: where its forms go, and what it is told of us."""

from typing import Final

from homeserver import errors
from homeserver.accounts import tokens
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import places
from homeserver.pages import kit
from homeserver.pages.visitors import parse_form
from homeserver.sign_on import store
from homeserver.sign_on.pages import STRANGE
from homeserver.sign_on.providers import Providers
from homeserver.sign_on.saml import RESPONSE, Saml

FORM: Final = places.PROVIDER + "/saml"
METADATA: Final = places.PROVIDER + "/metadata"
_MAX_FORM: Final = 512 * 1024
_MAX_RESPONSE: Final = 256 * 1024


def _provider(ctx: Context, request: Request) -> tuple[str, Saml]:
    provider_id = request.path(str, "idpId")
    found = ctx.parts.get(Providers).get(provider_id)
    if not isinstance(found, Saml):
        raise errors.not_found("This provider speaks no SAML.")
    return provider_id, found


@route("POST", FORM, auth=nobody, limit=lookups, max_body=_MAX_FORM)
@kit.page
async def take_saml_response(ctx: Context, request: Request) -> Answer:
    """Keep the form for the browser that was sent there, and have it come for it.

    No cookie comes with the form, so nobody is logged in by it.
    """
    provider_id, _ = _provider(ctx, request)
    form = parse_form(request, most=_MAX_RESPONSE)
    state = form["RelayState"]
    async with ctx.db.transaction() as tx:
        is_awaited = await store.add_secret(
            tx, tokens.hash_of(state), provider_id, RESPONSE, form["SAMLResponse"]
        )
    if not is_awaited:
        raise errors.forbidden(STRANGE)
    where = places.PROVIDER_BACK.replace("{idpId}", provider_id)
    return Reply(303, b"", {"Location": f"{where}?state={state}"})


@route("GET", METADATA, auth=nobody, limit=lookups)
async def show_saml_metadata(ctx: Context, request: Request) -> Answer:
    """What the provider needs to know of us."""
    _, provider = _provider(ctx, request)
    body = await provider.metadata()
    return Reply(200, body, content_type="application/samlmetadata+xml")
