"""Finding keys: in memory, in the table, at their server, at a notary, in this order.

Spec: server-server-api#retrieving-server-keys
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from federation.ids import KeyId, ServerName, parse_server_name
from federation.server_keys import ServerKeys
from federation.wire import keys as wire_keys
from federation.wire.client import Limits
from federation.wire.errors import WireError
from homeserver.context import Context, KnownKey
from homeserver.server_keys import store

# server → key ID → the time (ms) at which the key should be valid; 0: no matter
Wanted = Mapping[ServerName, Mapping[KeyId, int]]
Found = dict[tuple[ServerName, KeyId], KnownKey]

# "Requesting servers should limit how frequently they query for certificates".
ASK_AGAIN_SECONDS: Final = 5.0
_AT_ONCE: Final = 20
# From so many servers on, a notary is asked first, for all of them in one request.
_MANY: Final = 4
_NOTARY_BATCH: Final = 100
_LIMITS: Final = Limits(seconds=15.0, max_bytes=2**20)

log = structlog.get_logger(__name__)


async def find_keys(ctx: Context, wanted: Wanted, *, insist: bool = False) -> Found:
    """Those keys that are to be had; a key may be valid for less than was wanted.

    With `insist` a server is asked although it did not answer lately: for whoever just
    got a request from it.
    """
    missing = _missing(ctx, wanted)
    if missing:
        async with ctx.db.read() as tx:
            rows = await store.read_keys(tx, list(missing))
        for row in rows:
            ctx.known_keys.put(
                (row.server_name, row.key_id),
                KnownKey(row.public_key, row.valid_until, row.retired),
            )
        missing = _missing(ctx, missing)
    if missing:
        await _fetch(ctx, missing, insist=insist)
    pairs = [(server, key_id) for server, keys in wanted.items() for key_id in keys]
    return {p: known for p in pairs if (known := _known(ctx, *p)) is not None}


def _known(ctx: Context, server: ServerName, key_id: KeyId) -> KnownKey | None:
    if server == ctx.server_name and key_id == ctx.key.key_id:
        return KnownKey(ctx.key.public, 2**63 - 1)
    if server == ctx.server_name and (old := ctx.old_keys.get(key_id)) is not None:
        return KnownKey(old.public, old.expired_ts, is_retired=True)
    return ctx.known_keys.get((server, key_id))


def _missing(ctx: Context, wanted: Wanted) -> dict[ServerName, dict[KeyId, int]]:
    """What is not known, or not known to be valid for long enough."""
    missing: dict[ServerName, dict[KeyId, int]] = {}
    for server, keys in wanted.items():
        lacking = {
            key_id: at
            for key_id, at in keys.items()
            if not _suffices(_known(ctx, server, key_id), at)
        }
        if lacking:
            missing[server] = lacking
    return missing


def _suffices(known: KnownKey | None, at: int) -> bool:
    # Nothing will make a retired key valid for longer.
    return known is not None and (known.is_retired or known.valid_until_ms >= at)


async def _fetch(ctx: Context, wanted: Wanted, *, insist: bool) -> None:
    others: Wanted = {s: keys for s, keys in wanted.items() if s != ctx.server_name}
    if len(others) >= _MANY:
        await _ask_notaries(ctx, others)
        others = _missing(ctx, others)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(server: ServerName) -> None:
        async with slots:
            await _ask_server(ctx, server, others[server], insist=insist)

    await asyncio.gather(*(ask(server) for server in others))
    rest = _missing(ctx, others)
    if rest and len(others) < _MANY:
        await _ask_notaries(ctx, rest)


async def _ask_server(
    ctx: Context, server: ServerName, keys: Mapping[KeyId, int], *, insist: bool
) -> None:
    """Ask a server for its keys, unless that was done just now."""
    async with ctx.turns.take(("keys", server)):
        if not _missing(ctx, {server: keys}):
            return
        asked = ctx.asked_for_keys.get(server)
        now = ctx.clock.monotonic()
        if asked is not None and now - asked < ASK_AGAIN_SECONDS:
            return
        ctx.asked_for_keys.put(server, now)
        await fetch_from(ctx, server, insist=insist)


async def fetch_from(ctx: Context, server: ServerName, *, insist: bool = False) -> bool:
    """Ask a server for its keys now and keep them; False when it gives none."""
    limits = _LIMITS.insist() if insist else _LIMITS
    try:
        keys = await wire_keys.fetch_server_keys(
            ctx.wire, server, ctx.clock.ms(), limits
        )
    except WireError as error:
        log.info("no keys", server=server, reason=error.why)
        return False
    await _keep(ctx, (keys,), from_themselves=True)
    return True


async def _ask_notaries(ctx: Context, wanted: Wanted) -> None:
    for name in ctx.config.federation.trusted_key_servers:
        rest = list(_missing(ctx, wanted).items())
        if not rest:
            return
        notary = await _keys_of_notary(ctx, parse_server_name(name))
        if notary is None:
            continue
        for start in range(0, len(rest), _NOTARY_BATCH):
            await _ask_notary(ctx, notary, dict(rest[start : start + _NOTARY_BATCH]))


async def _keys_of_notary(ctx: Context, notary: ServerName) -> ServerKeys | None:
    """The notary's own keys, which must be valid now."""
    if notary == ctx.server_name:
        return None
    for is_last in (False, True):
        async with ctx.db.read() as tx:
            rows = await store.read_keys(tx, (notary,))
        valid = [r for r in rows if not r.retired and r.valid_until >= ctx.clock.ms()]
        if valid:
            return ServerKeys(
                server_name=notary,
                valid_until_ts=min(row.valid_until for row in valid),
                verify_keys={row.key_id: row.public_key for row in valid},
                old_verify_keys={},
                json={},
            )
        if not is_last:
            await fetch_from(ctx, notary)
    return None


async def _ask_notary(ctx: Context, notary: ServerKeys, wanted: Wanted) -> None:
    try:
        answer = await wire_keys.fetch_through_notary(
            ctx.wire,
            notary,
            {
                server: {key_id: at or None for key_id, at in keys.items()}
                for server, keys in wanted.items()
                if server != notary.server_name
            },
            ctx.clock.ms(),
            _LIMITS,
        )
    except WireError as error:
        log.info("notary does not help", notary=notary.server_name, reason=error.why)
        return
    for refused in answer.refused:
        log.warning("bad notary answer", notary=notary.server_name, reason=str(refused))
    await _keep(ctx, answer.keys, from_themselves=False)


async def _keep(
    ctx: Context, documents: Iterable[ServerKeys], *, from_themselves: bool
) -> None:
    documents = [keys for keys in documents if keys.server_name != ctx.server_name]
    if not documents:
        return
    servers = [keys.server_name for keys in documents]
    async with ctx.db.transaction() as tx:
        await store.upsert_keys(tx, documents, from_themselves=from_themselves)
        rows = await store.read_keys(tx, servers)
    for row in rows:
        ctx.known_keys.put(
            (row.server_name, row.key_id),
            KnownKey(row.public_key, row.valid_until, row.retired),
        )
