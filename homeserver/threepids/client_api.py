"""The addresses of an account.

Spec: client-server-api#adding-account-administrative-contact-information
"""

from typing import Final

import msgspec

from federation.canonical_json import JsonValue
from homeserver import errors
from homeserver.accounts import addresses, uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.identity_servers import Credentials, IdentityServers
from homeserver.accounts.store import threepids as store
from homeserver.accounts.store.threepids import Binding
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.threepids import store as sessions
from homeserver.threepids.validation import Purpose, check_secret, proven

THREEPID: Final = "/_matrix/client/v3/account/3pid"
MAX_OF_USER: Final = 50


@route("GET", THREEPID, auth=by_access_token)
async def get_account3_pids(ctx: Context, request: ClientRequest) -> Answer:
    """The user's addresses. Spec: client-server-api#get_matrixclientv3account3pid."""
    async with ctx.db.read() as tx:
        found = await store.of_user(tx, request.user_id)
    shown: list[JsonValue] = [
        {
            "medium": each.medium,
            "address": each.address,
            "validated_at": each.validated_ms,
            "added_at": each.added_ms,
        }
        for each in found
    ]
    return {"threepids": shown}


class _Addition(msgspec.Struct):
    client_secret: str
    sid: str
    auth: dict[str, object] | None = None


@route("POST", THREEPID + "/add", auth=by_access_token, limit=writes)
async def add3_pid(ctx: Context, request: ClientRequest) -> Answer:
    """Add an address that was confirmed. Raises: M_THREEPID_AUTH_FAILED.

    Spec: client-server-api#post_matrixclientv3account3pidadd
    """
    form = request.body(_Addition)
    check_secret(form.client_secret)
    user_id = request.user_id
    operation = await confirmation(ctx, request, "add_threepid", user_id)
    session = await operation.authenticate(ctx.db, form.auth, user_id)
    async with ctx.db.transaction() as tx:
        new = await proven(
            tx, Purpose.ADD, form.sid, form.client_secret, ctx.clock.ms()
        )
        if new is None or not await sessions.delete(tx, form.sid):
            # 400: with 401 a client would ask for the password again, and again.
            raise errors.MatrixError(
                400, "M_THREEPID_AUTH_FAILED", "The address is not confirmed yet."
            )
        if len(await store.of_user(tx, user_id)) >= MAX_OF_USER:
            raise errors.forbidden(f"{MAX_OF_USER} addresses are enough.")
        if not await store.add(tx, user_id, new):
            raise errors.threepid_in_use()
    await uia.finish(ctx.db, session)
    return {}


# ── Identity servers ─────────────────────────────────────────────────────────────────


class _Credentials(msgspec.Struct):
    client_secret: str
    id_server: str
    id_access_token: str
    sid: str


class _OldAddition(msgspec.Struct):
    three_pid_creds: _Credentials


async def _bind(ctx: Context, request: ClientRequest, form: _Credentials) -> None:
    servers = ctx.parts.get(IdentityServers)
    creds = Credentials(
        servers.check(form.id_server),
        form.id_access_token,
        form.sid,
        form.client_secret,
    )
    if not form.id_access_token.isprintable() or not form.id_access_token.isascii():
        raise errors.invalid_param("id_access_token: this can be none.")
    binding = await servers.bind(request.user_id, creds)
    async with ctx.db.transaction() as tx:
        await store.bind(tx, request.user_id, binding)


@route("POST", THREEPID + "/bind", auth=by_access_token, limit=writes)
async def bind3_pid(ctx: Context, request: ClientRequest) -> Answer:
    """Have an identity server tell others that an address is the user's.

    Spec: client-server-api#post_matrixclientv3account3pidbind
    """
    await _bind(ctx, request, request.body(_Credentials))
    return {}


@route("POST", THREEPID, auth=by_access_token, limit=writes)
async def post3_pids(ctx: Context, request: ClientRequest) -> Answer:
    """The same as `bind`, as older clients ask for it.

    Spec: client-server-api#post_matrixclientv3account3pid
    """
    await _bind(ctx, request, request.body(_OldAddition).three_pid_creds)
    return {}


class _Removal(msgspec.Struct):
    medium: str
    address: str
    id_server: str | None = None


async def _unbind(ctx: Context, request: ClientRequest, form: _Removal) -> str:
    """Unbind the address wherever it is bound; the result for the client."""
    servers, user_id = ctx.parts.get(IdentityServers), request.user_id
    async with ctx.db.read() as tx:
        bound = await store.bound(tx, user_id)
    wanted = [
        each
        for each in bound
        if (each.medium, each.address) == (form.medium, form.address)
    ]
    if form.id_server is not None:
        name = servers.check(form.id_server)
        wanted = [Binding(form.medium, form.address, name)]
    outcomes = []
    for binding in wanted:
        outcomes.append(await servers.unbind(user_id, binding))
        if outcomes[-1]:
            async with ctx.db.transaction() as tx:
                await store.unbind(tx, user_id, binding)
    return "success" if outcomes and all(outcomes) else "no-support"


def _removal(request: ClientRequest) -> _Removal:
    form = request.body(_Removal)
    form.address = addresses.canonical(form.medium, form.address)
    return form


@route("POST", THREEPID + "/unbind", auth=by_access_token, limit=writes)
async def unbind3pid_from_account(ctx: Context, request: ClientRequest) -> Answer:
    """Have an identity server forget whose an address is.

    Spec: client-server-api#post_matrixclientv3account3pidunbind
    """
    return {"id_server_unbind_result": await _unbind(ctx, request, _removal(request))}


@route("POST", THREEPID + "/delete", auth=by_access_token, limit=writes)
async def delete3pid_from_account(ctx: Context, request: ClientRequest) -> Answer:
    """Take an address away from the account, and unbind it.

    Spec: client-server-api#post_matrixclientv3account3piddelete
    """
    form = _removal(request)
    async with ctx.db.transaction() as tx:
        await store.remove(tx, request.user_id, form.medium, form.address)
    return {"id_server_unbind_result": await _unbind(ctx, request, form)}
