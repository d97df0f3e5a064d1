"""The stage m.oauth: the user says yes on a page of this server.

It is for sessions that OAuth began, whose clients never see a password.

Spec: client-server-api#oauth-authentication
"""

from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import DeviceId, UserId
from homeserver import errors
from homeserver.accounts import own_pages, uia
from homeserver.accounts.store import oauth_sessions
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.http.requests import ClientRequest

OAUTH: Final = "m.oauth"
# COMPAT(clients of MSC4312)
UNSTABLE: Final = "org.matrix.cross_signing_reset"


@dataclass(frozen=True, slots=True)
class _OAuthStage:
    db: Database
    user_id: UserId

    async def __call__(self, _auth: JsonObject, _session: UiaSession) -> bool:
        async with self.db.read() as tx:
            if not await oauth_sessions.may_reset(tx, self.user_id):
                raise errors.forbidden("Allow it on the page of your account first.")
        return False


async def is_needed(db: Database, user_id: UserId, device_id: DeviceId | None) -> bool:
    """Whether the device has logged in by OAuth."""
    if device_id is None:
        return False
    async with db.read() as tx:
        return await oauth_sessions.of_device(tx, user_id, device_id) is not None


async def authenticate(
    ctx: Context, request: ClientRequest, auth: object
) -> UiaSession:
    """Whether the user has allowed it. Raises: 401 with the page where to do so."""
    url = f"{own_pages.base_of(ctx, request)}{own_pages.ACCOUNT}?action={UNSTABLE}"
    stage = _OAuthStage(ctx.db, request.user_id)
    operation = uia.Uia(
        "device_signing",
        [(OAUTH,), (UNSTABLE,)],
        {OAUTH: stage, UNSTABLE: stage},
        {OAUTH: {"url": url}, UNSTABLE: {"url": url}},
    )
    if isinstance(auth, dict) and "session" in auth and "type" not in auth:
        # "the client submits an `auth` dict with just the `session`"
        auth = {**auth, "type": OAUTH}
    return await operation.authenticate(ctx.db, auth, request.user_id)


async def end_reset(db: Database, user_id: UserId) -> None:
    """What was allowed has been done, once."""
    async with db.transaction() as tx:
        await oauth_sessions.end_reset(tx, user_id)
