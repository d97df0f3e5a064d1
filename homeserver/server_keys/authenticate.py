"""Which server made a request: the check of its X-Matrix signature.

Spec: server-server-api#request-authentication
"""

import asyncio
from typing import Final

from federation import x_matrix
from federation.canonical_json import JsonValue
from federation.errors import BadSignature, Malformed
from federation.ids import ServerName
from federation.x_matrix import XMatrix
from homeserver import errors
from homeserver.context import Context
from homeserver.http.requests import FederationRequest
from homeserver.server_keys.find import find_keys

# A request carries one header for each key that its server signs with.
_MAX_HEADERS: Final = 3
_INLINE_BYTES: Final = 100_000


async def authenticate_server(ctx: Context, request: FederationRequest) -> ServerName:
    """The server that signed the request.

    Raises: M_UNAUTHORIZED, when none did, or for another destination.
    """
    headers = request.raw.headers.getall("Authorization", [])
    given = [header for header in headers if x_matrix.is_x_matrix(header)]
    if not given:
        raise errors.unauthorized("Sign the request: 'Authorization: X-Matrix …'.")
    content = request.content()
    refusal = BadSignature("no signature")
    for header in given[:_MAX_HEADERS]:
        try:
            auth = x_matrix.parse(header)
            await _check(ctx, request, auth, content)
        except (Malformed, BadSignature) as error:
            refusal = BadSignature(str(error))
            continue
        ctx.wire.backoff.sign_of_life(auth.origin)
        for listener in ctx.on_sign_of_life:
            listener(auth.origin)
        return auth.origin
    reason = str(refusal).encode("utf-8", "backslashreplace").decode()
    raise errors.unauthorized(f"The request is not signed as it should: {reason}.")


async def _check(
    ctx: Context, request: FederationRequest, auth: XMatrix, content: JsonValue
) -> None:
    """Raise BadSignature unless the header's origin signed this request."""
    x_matrix.check_destination(auth, ctx.server_name)
    if auth.origin == ctx.server_name:
        raise BadSignature(f"{auth.origin} is this server")
    now = ctx.clock.ms()
    wanted = {auth.origin: {auth.key_id: now}}
    key = (await find_keys(ctx, wanted, insist=True)).get((auth.origin, auth.key_id))
    # "`old_verify_keys` … are only valid for signing events."
    if key is None or key.is_retired or key.valid_until_ms < now:
        raise BadSignature(f"{auth.origin} has no valid key {auth.key_id}")
    signed = x_matrix.signed_object(
        request.method,
        request.raw.rel_url.raw_path_qs,
        auth.origin,
        ctx.server_name,
        content,
    )
    if len(request.body_bytes) > _INLINE_BYTES:
        await asyncio.to_thread(x_matrix.check_signature, auth, signed, key.public)
    else:
        x_matrix.check_signature(auth, signed, key.public)
