"""The endpoint by which users end their accounts.

Spec: client-server-api#account-deactivation
"""

import msgspec

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.accounts import uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.identity_servers import IdentityServers
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import deactivation as store
from homeserver.accounts.store import threepids
from homeserver.accounts.store.deactivation import Deactivation
from homeserver.accounts.verify import PasswordStage, identify
from homeserver.context import Context
from homeserver.http.auth import optional_access_token
from homeserver.http.limits import logins
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind


class _Deactivate(msgspec.Struct):
    auth: dict[str, object] | None = None
    id_server: str | None = None
    erase: bool = False


@route(
    "POST",
    "/_matrix/client/v3/account/deactivate",
    auth=optional_access_token,
    limit=logins,
)
async def deactivate_account(ctx: Context, request: ClientRequest) -> Answer:
    """End the account for good. Its user leaves all rooms, in the background.

    Who has no session any more says with the password whose account it is.

    Spec: client-server-api#post_matrixclientv3accountdeactivate
    """
    form = request.body(_Deactivate, empty_ok=True)
    user_id = request.user_id if request.requester else await _named(ctx, form.auth)
    if request.requester:
        operation = await confirmation(ctx, request, "deactivate", user_id)
    else:
        # The same for everybody: nobody learns how an account is logged in to.
        stage = PasswordStage(ctx, request.limits, user_id)
        operation = uia.Uia("deactivate", [(uia.PASSWORD,)], {uia.PASSWORD: stage})
    owner = user_id if request.requester else None
    session = await operation.authenticate(ctx.db, form.auth, owner)
    is_unbound = await end_account(ctx, user_id, erase=form.erase)
    await uia.finish(ctx.db, session)
    return {"id_server_unbind_result": "success" if is_unbound else "no-support"}


async def end_account(ctx: Context, user_id: UserId, *, erase: bool) -> bool:
    """End the account for good. Its user leaves all rooms, in the background.

    False: an identity server does not forget the user's addresses, or not now.
    """
    await ctx.live.commit(
        store.deactivate,
        Deactivation(user_id, erase),
        Change(Kind.DEACTIVATED, user_id=user_id),
    )
    await end_sessions(ctx.live, user_id, None)
    return await _unbind_all(ctx, user_id)


async def _unbind_all(ctx: Context, user_id: UserId) -> bool:
    """Have identity servers forget the user's addresses; False when one did not."""
    async with ctx.db.read() as tx:
        bound = await threepids.bound(tx, user_id)
    servers, outcomes = ctx.parts.get(IdentityServers), []
    for binding in bound:
        outcomes.append(await servers.unbind(user_id, binding))
        if outcomes[-1]:
            async with ctx.db.transaction() as tx:
                await threepids.unbind(tx, user_id, binding)
    return all(outcomes)


async def _named(ctx: Context, auth: dict[str, object] | None) -> UserId:
    """The user whom the password is for; nobody's name while nobody is named."""
    named = None
    if auth and auth.get("identifier") is not None:
        body: JsonObject = {"identifier": auth["identifier"]}  # type: ignore[dict-item]
        named = await identify(ctx.db, body, ctx.server_name)
    return named or UserId(f"@:{ctx.server_name}")
