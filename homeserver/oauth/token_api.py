"""What clients call to register, and to get, renew and end their tokens.

Spec: client-server-api#oauth-20-api
"""

import base64
import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from typing import Final

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import own_pages, tokens
from homeserver.accounts.sessions import (
    end_if_stolen,
    end_sessions,
    refresh_session,
)
from homeserver.accounts.store import oauth_sessions
from homeserver.accounts.store.oauth_sessions import OAuthSession
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody
from homeserver.http.limits import Limit, lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.oauth import client_metadata, places, sessions
from homeserver.oauth.client_metadata import (
    CODE_GRANT,
    DEVICE_GRANT,
    REFRESH_GRANT,
    Metadata,
    check_metadata,
    client_id_of,
)
from homeserver.oauth.errors import OAuthError, answers_oauth
from homeserver.oauth.scopes import parse_scope
from homeserver.oauth.store import clients, codes, device_codes
from homeserver.oauth.store import tokens as token_store
from homeserver.pages.visitors import Form, parse_form

CODE: Final = "htc_"
DEVICE_CODE: Final = "htd_"
DEVICE_CODE_LIFETIME: Final = timedelta(minutes=20)
POLL_INTERVAL: Final = timedelta(seconds=5)
# Letters that are not taken for others, and make no words (RFC 8628, 6.1).
USER_CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_LENGTH: Final = 8

MAX_BODY: Final = 64 * 1024
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_TRIES: Final = 5

# By address.
client_registrations: Final = Limit("client_registrations", per_second=0.2, burst=50)
device_requests: Final = Limit("device_requests", per_second=0.2, burst=20)


async def known_client(ctx: Context, client_id: str) -> Metadata:
    """A client that has registered. Raises: invalid_client."""
    async with ctx.db.read() as tx:
        stored = await clients.metadata(tx, client_id)
    if stored is None:
        raise OAuthError("invalid_client", "No such client has registered.", status=401)
    return client_metadata.decode(stored)


# ── Registration ─────────────────────────────────────────────────────────────────────


@route(
    "POST",
    places.REGISTER,
    auth=nobody,
    limit=client_registrations,
    max_body=MAX_BODY,
)
@answers_oauth
async def register_client(ctx: Context, request: Request) -> Answer:
    """Register a client. Spec: client-server-api#dynamic-client-registration-flow."""
    metadata = check_metadata(request.json_object())
    client_id = client_id_of(metadata)
    async with ctx.db.transaction() as tx:
        await clients.put(tx, client_id, client_metadata.encode(metadata))
    return Reply(
        201, client_metadata.told(client_id, metadata), {"Cache-Control": "no-store"}
    )


# ── Tokens ───────────────────────────────────────────────────────────────────────────


@route("POST", places.TOKEN, auth=nobody, limit=lookups, max_body=MAX_BODY)
@answers_oauth
async def give_tokens(ctx: Context, request: Request) -> Answer:
    """Tokens for a grant. Spec: client-server-api#grant-types."""
    form = parse_form(request)
    client = await known_client(ctx, form["client_id"])
    match form["grant_type"]:
        case "authorization_code":
            return await _by_code(ctx, request, form, client)
        case "refresh_token":
            return await _by_refresh_token(ctx, form)
        case client_metadata.DEVICE_GRANT:
            return await _by_device_code(ctx, request, form, client)
        case "":
            raise OAuthError("invalid_request", "grant_type is missing.")
        case _:
            raise OAuthError(
                "unsupported_grant_type",
                f"Known are {CODE_GRANT}, {REFRESH_GRANT} and {DEVICE_GRANT}.",
            )


async def _by_code(
    ctx: Context, request: Request, form: Form, client: Metadata
) -> Reply:
    """Spec: client-server-api#authorisation-code-grant."""
    refused = OAuthError("invalid_grant", "The code is not good, or not any more.")
    if not _VERIFIER.fullmatch(form["code_verifier"]):
        raise OAuthError(
            "invalid_request", "code_verifier: 43 to 128 signs are needed."
        )
    code_hash = tokens.hash_of(form["code"])
    async with ctx.db.transaction() as tx:
        code = await codes.take(tx, code_hash)
        if code is None or code.client_id != form["client_id"]:
            raise refused
        is_good = (
            not code.is_used
            and not code.is_expired
            and form["redirect_uri"] == code.redirect_uri
            and _fits(form["code_verifier"], code.challenge)
        )
        # Whoever tries a code with a wrong verifier has stolen it: it ends as well.
        await codes.use(tx, code_hash)
        replayed = await oauth_sessions.of_code(tx, code_hash) if code.is_used else None
    if replayed is not None:
        # RFC 6749, 4.1.2: "SHOULD revoke […] all tokens previously issued"
        await sessions.end(ctx, replayed)
    if not is_good:
        raise refused
    wanted = OAuthSession(
        code.user_id, code.device_id, code.client_id, code.scope, code_hash
    )
    session = await sessions.begin(ctx, wanted, client.name, request.ip, code.sign_on)
    return sessions.token_reply(session, code.scope)


def _fits(verifier: str, challenge: str) -> bool:
    """PKCE (RFC 7636, 4.6)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=")
    return hmac.compare_digest(made, challenge.encode())


async def _by_refresh_token(ctx: Context, form: Form) -> Reply:
    """Spec: client-server-api#refresh-token-grant."""
    token = form["refresh_token"]
    async with ctx.db.read() as tx:
        known = await oauth_sessions.of_refresh_token(tx, tokens.hash_of(token))
    if known is None:
        # The specification has it: "SHOULD revoke the session"
        await end_if_stolen(ctx.live, ctx.db, token)
        raise OAuthError("invalid_grant", "No client has this refresh token.")
    if known.client_id != form["client_id"]:
        raise OAuthError("invalid_grant", "This is the token of another client.")
    try:
        session = await refresh_session(ctx.db, ctx.clock, token)
    except MatrixError as error:  # it was used up just now
        if error.status >= 500:
            raise
        raise OAuthError("invalid_grant", error.safe_message) from None
    return sessions.token_reply(session, known.scope)


# ── Devices that cannot open a browser ───────────────────────────────────────────────


@route("POST", places.DEVICE, auth=nobody, limit=device_requests, max_body=MAX_BODY)
@answers_oauth
async def request_device(ctx: Context, request: Request) -> Answer:
    """A code that the user enters elsewhere to allow this device.

    Spec: client-server-api#device-authorisation-flow; RFC 8628, 3.1
    """
    form = parse_form(request)
    client = await known_client(ctx, form["client_id"])
    if DEVICE_GRANT not in client.grant_types:
        raise OAuthError(
            "unauthorized_client", "The client has not registered for this grant."
        )
    scope = parse_scope(form["scope"])
    wanted = device_codes.DeviceCode(form["client_id"], scope.device_id, scope.granted)
    device_code = tokens.new_token(DEVICE_CODE)
    for _ in range(_TRIES):
        user_code = "".join(
            secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH)
        )
        async with ctx.db.transaction() as tx:
            is_new = await device_codes.add(
                tx,
                tokens.hash_of(device_code),
                user_code,
                wanted,
                DEVICE_CODE_LIFETIME,
            )
        if is_new:
            break
    else:
        raise errors.unavailable()
    shown = f"{user_code[:4]}-{user_code[4:]}"
    link = own_pages.base_of(ctx, request) + places.LINK
    return Reply(
        200,
        {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": link,
            "verification_uri_complete": f"{link}?user_code={shown}",
            "expires_in": int(DEVICE_CODE_LIFETIME.total_seconds()),
            "interval": int(POLL_INTERVAL.total_seconds()),
        },
        {"Cache-Control": "no-store"},
    )


async def _by_device_code(
    ctx: Context, request: Request, form: Form, client: Metadata
) -> Reply:
    """Spec: client-server-api#device-authorisation-grant; RFC 8628, 3.5."""
    code_hash = tokens.hash_of(form["device_code"])
    async with ctx.db.transaction() as tx:
        waiting = await device_codes.poll(tx, code_hash, POLL_INTERVAL)
        if waiting is None or waiting.client_id != form["client_id"]:
            raise OAuthError("invalid_grant", "There is no such device code.")
    user_id = _allowed(waiting)
    async with ctx.db.transaction() as tx:
        if not await device_codes.delete(tx, code_hash):
            raise OAuthError("invalid_grant", "The device code has been used.")
    wanted = OAuthSession(user_id, waiting.device_id, waiting.client_id, waiting.scope)
    session = await sessions.begin(
        ctx, wanted, client.name, request.ip, waiting.sign_on
    )
    return sessions.token_reply(session, waiting.scope)


def _allowed(waiting: device_codes.DeviceCode) -> UserId:
    """Who has allowed the device. Raises: what it is told until then."""
    if waiting.is_expired:
        raise OAuthError("expired_token", "Nobody has allowed the device in time.")
    if waiting.allowed is False:
        raise OAuthError("access_denied", "The user does not want it.")
    if waiting.user_id is None and waiting.is_too_fast:
        raise OAuthError("slow_down", "Wait longer before you ask again.")
    if waiting.user_id is None:
        raise OAuthError("authorization_pending", "The user has not answered yet.")
    return waiting.user_id


# ── Revocation ───────────────────────────────────────────────────────────────────────


@route("POST", places.REVOKE, auth=nobody, limit=lookups, max_body=MAX_BODY)
@answers_oauth
async def revoke_token(ctx: Context, request: Request) -> Answer:
    """Log a device out, by one of its tokens; whoever has it may do so.

    Spec: client-server-api#token-revocation
    """
    token = parse_form(request)["token"]
    if not token:
        raise OAuthError("invalid_request", "token is missing.")
    async with ctx.db.read() as tx:
        device = await token_store.device_of(tx, tokens.hash_of(token))
    if device is not None:
        await end_sessions(ctx.live, device.user_id, (device.device_id,))
    return Reply(200, {}, {"Cache-Control": "no-store"})
