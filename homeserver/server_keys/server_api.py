"""Our keys, and as a notary those of others.

Spec: server-server-api#retrieving-server-keys
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from federation import server_keys
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import KeyId, ServerName
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import lookups
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.server_keys import find, store
from homeserver.server_keys.store import DocumentRow

_VALID_MS: Final = 24 * 3600 * 1000
_MAX_SERVERS: Final = 100
_AT_ONCE: Final = 10


def our_document(ctx: Context) -> JsonObject:
    """Our keys, and those we had, signed. Valid for a day: then others ask again."""
    return server_keys.build(
        ctx.server_name, (ctx.key,), ctx.old_keys, ctx.clock.ms() + _VALID_MS
    )


@route("GET", "/_matrix/key/v2/server", auth=nobody)
async def get_server_key(ctx: Context, _request: Request) -> Answer:
    """Our keys.

    Spec: server-server-api#get_matrixkeyv2server
    """
    return our_document(ctx)


@route("GET", "/_matrix/key/v2/query/{serverName}", auth=nobody, limit=lookups)
async def perspectives_key_query(ctx: Context, request: Request) -> Answer:
    """The keys of one server, signed by us as well.

    Spec: server-server-api#get_matrixkeyv2queryservername
    """
    server = request.path(ServerName, "serverName")
    minimum = request.query_int("minimum_valid_until_ts", ctx.clock.ms())
    found = await _documents_of(ctx, server, {}, minimum)
    return server_keys.build_notary_response(found)


@route("POST", "/_matrix/key/v2/query", auth=nobody, limit=lookups)
async def bulk_perspectives_key_query(ctx: Context, request: Request) -> Answer:
    """The keys of many servers, signed by us as well.

    Spec: server-server-api#post_matrixkeyv2query
    """
    try:
        criteria = server_keys.parse_notary_query(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    if len(criteria) > _MAX_SERVERS:
        raise errors.invalid_param(f"Ask for at most {_MAX_SERVERS} servers at once.")
    now = ctx.clock.ms()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(
        server: ServerName, keys: Mapping[KeyId, int | None]
    ) -> list[JsonObject]:
        minimum = max([now, *(until for until in keys.values() if until is not None)])
        async with slots:
            return await _documents_of(ctx, server, keys, minimum)

    found = await asyncio.gather(*(look(*item) for item in criteria.items()))
    return server_keys.build_notary_response(d for some in found for d in some)


async def _documents_of(
    ctx: Context, server: ServerName, keys: Mapping[KeyId, int | None], minimum: int
) -> list[JsonObject]:
    """What we can vouch for: fresh when the server answers, else what we kept."""
    if server == ctx.server_name:
        return [our_document(ctx)]
    rows = await _kept(ctx, server, keys)
    if _is_stale(rows, keys, minimum, ctx.clock.ms()):
        async with ctx.turns.take(("keys", server)):
            asked = ctx.asked_for_keys.get(server)
            now = ctx.clock.monotonic()
            if asked is None or now - asked >= find.ASK_AGAIN_SECONDS:
                ctx.asked_for_keys.put(server, now)
                await find.fetch_from(ctx, server)
        rows = await _kept(ctx, server, keys)
    return [server_keys.countersign(row.json, ctx.server_name, ctx.key) for row in rows]


async def _kept(
    ctx: Context, server: ServerName, keys: Mapping[KeyId, int | None]
) -> list[DocumentRow]:
    async with ctx.db.read() as tx:
        return await store.read_documents(tx, server, list(keys))


def _is_stale(
    rows: list[DocumentRow],
    keys: Mapping[KeyId, int | None],
    minimum: int,
    now: int,
) -> bool:
    """Whether to ask the server.

    "Intermediate notary servers should cache a response for half of its lifetime".
    """
    if not rows:
        return True
    newest = rows[0]
    if newest.valid_until < minimum:
        return True
    held = {
        key_id
        for row in rows
        for name in ("verify_keys", "old_verify_keys")
        if isinstance(listed := row.json.get(name), dict)
        for key_id in listed
    }
    half = newest.fetched_at + (newest.valid_until - newest.fetched_at) // 2
    return now > half or not keys.keys() <= held
