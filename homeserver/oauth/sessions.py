"""Give out the tokens of a session, for what its user has allowed."""

from federation.canonical_json import JsonObject
from homeserver.accounts.sessions import (
    Session,
    end_sessions,
    open_session,
    rests_on,
)
from homeserver.accounts.store import oauth_sessions, users
from homeserver.accounts.store.oauth_sessions import OAuthSession
from homeserver.context import Context
from homeserver.http.replies import Reply
from homeserver.oauth.errors import OAuthError


async def begin(
    ctx: Context,
    wanted: OAuthSession,
    client_name: str,
    ip: str,
    sign_on: int | None = None,
) -> Session:
    """Log the device in. Raises: invalid_grant, when the user may not log in by now."""
    async with ctx.db.read() as tx:
        account = await users.account(tx, wanted.user_id)
    if account is None or account.is_deactivated or account.is_locked:
        raise OAuthError("invalid_grant", "The user may not log in any more.")
    session = await open_session(
        ctx.live,
        ctx.clock,
        wanted.user_id,
        device_id=wanted.device_id,
        display_name=client_name,
        can_refresh=True,
        ip=ip,
    )
    async with ctx.db.transaction() as tx:
        await oauth_sessions.put(tx, wanted)
    if not await rests_on(ctx.live, ctx.db, session, sign_on):
        raise OAuthError("invalid_grant", "The user has logged out elsewhere.")
    return session


async def end(ctx: Context, session: OAuthSession) -> None:
    """Log the device out."""
    await end_sessions(ctx.live, session.user_id, (session.device_id,))


def token_reply(session: Session, scope: str) -> Reply:
    """What the client gets (RFC 6749, 5.1)."""
    body: JsonObject = {
        "access_token": session.access_token,
        "token_type": "Bearer",
        "refresh_token": session.refresh_token,
        "scope": scope,
    }
    if session.expires_in_ms is not None:
        body["expires_in"] = session.expires_in_ms // 1000
    return Reply(200, body, {"Cache-Control": "no-store", "Pragma": "no-cache"})
