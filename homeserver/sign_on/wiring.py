"""What `app.py` takes in of single sign-on: endpoints, providers, and upkeep."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Final

from homeserver.accounts.sources import PasswordSources
from homeserver.accounts.store import sign_ons
from homeserver.context import Context
from homeserver.login.ldap import Directory
from homeserver.oauth import places
from homeserver.oauth.browsers import LIFETIME
from homeserver.periodic import Periodic
from homeserver.sign_on import logout_api, pages, saml_api, store, welcome
from homeserver.sign_on.calls import Calls
from homeserver.sign_on.cas import Cas
from homeserver.sign_on.oidc import Oidc
from homeserver.sign_on.providers import Providers
from homeserver.sign_on.saml import Saml

ENDPOINTS: Final[Sequence[ModuleType]] = (
    pages,
    welcome,
    logout_api,
    saml_api,
)
_EVERY_S: Final = 900.0


@asynccontextmanager
async def providers(ctx: Context) -> AsyncIterator[Providers]:
    """All that are configured, with their connections, while the process runs."""
    config, found = ctx.config, Providers()
    sources = PasswordSources()
    ctx.parts.put(sources)
    async with AsyncExitStack() as stack:
        for one in config.oidc_providers:
            calls = await stack.enter_async_context(Calls(config, one.issuer))
            found.add(one.id, Oidc(one, calls, ctx.clock))
        for other in config.cas_providers:
            calls = await stack.enter_async_context(Calls(config, other.url))
            found.add(other.id, Cas(other, calls))
        for third in config.saml_providers:
            page = places.PROVIDER.replace("{idpId}", third.id)
            saml = Saml(third, config.public_base_url.rstrip("/") + page)
            stack.callback(saml.close)
            found.add(third.id, saml)
        if config.ldap.uri:
            directory = await stack.enter_async_context(Directory(ctx))
            sources.sources.append(directory.knows)
        forgetting = Periodic("forget-sign-ons", _EVERY_S, lambda: forget_old(ctx))
        await stack.enter_async_context(forgetting)
        yield found


async def forget_old(ctx: Context) -> None:
    """Forget browsers that have not come back, and log-ins that are long over."""
    async with ctx.db.transaction() as tx:
        await store.delete_expired(tx)
        await sign_ons.delete_old(tx, LIFETIME)
