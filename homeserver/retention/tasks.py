"""What is over is deleted now and then, so many messages at a time."""

import asyncio
from typing import Final

from federation import canonical_json
from homeserver.context import Context
from homeserver.db import leases
from homeserver.live.changes import Change, Kind
from homeserver.live.retention import RETENTION, Horizon, Retention
from homeserver.retention import store
from homeserver.retention.store import Pruned

EVERY_S: Final = 300.0
MOST: Final = 20_000  # messages in one go; the others wait for the next one
_AT_ONCE: Final = 100
_LEASE: Final = "retention"
_FIRST: Final = -(2**62)  # before what was fetched from other servers too


async def purge(ctx: Context) -> None:
    """Delete what is over. One process at a time does it."""
    retention = ctx.live.retention
    if retention is None:
        return
    async with ctx.db.transaction() as tx:
        if not await leases.claim(tx, _LEASE, retention.holder, EVERY_S):
            return
    left = MOST
    for room_nid in await _rooms(ctx, retention):
        horizon = await retention.horizon(room_nid)
        if horizon is not None:
            left -= await _purge_room(ctx, room_nid, horizon, left)
        if left <= 0:
            break


async def _rooms(ctx: Context, retention: Retention) -> list[int]:
    if retention.lifetimes.default is not None:
        async with ctx.db.read() as tx:
            return await store.all_rooms(tx)
    key_nids = await ctx.live.states.keys.nids((RETENTION,))
    if RETENTION not in key_nids:
        return []
    async with ctx.db.read() as tx:
        return await store.rooms_with(tx, key_nids[RETENTION])


async def _purge_room(ctx: Context, room_nid: int, horizon: Horizon, most: int) -> int:
    """How many messages of the room were deleted."""
    done, after = 0, _FIRST
    while done < most:
        async with ctx.db.read() as tx:
            places = await store.expired(
                tx, room_nid, horizon.before_ms, after, _AT_ONCE
            )
        if not places:
            break
        after = places[-1].position
        events = await ctx.live.events.by_nids(place.nid for place in places)
        over = [event for event in events.values() if horizon.hides(event)]
        await asyncio.gather(
            *(
                ctx.live.commit(
                    store.prune,
                    Pruned(
                        event.nid,
                        canonical_json.encode(event.pdu.redacted().json).decode(),
                    ),
                    Change(Kind.REDACTED, room_nid=room_nid, ref=event.nid),
                )
                for event in over
            )
        )
        done += len(over)
    return done
