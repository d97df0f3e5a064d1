"""Receipts of other servers' users.

Spec: server-server-api#receipts
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from federation import edu
from federation.canonical_json import JsonObject
from federation.ids import ServerName
from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.receipts import store
from homeserver.receipts.store import READ, Move, Receipt
from homeserver.receipts.threads import is_thread_id

_MAX_TS: Final = 2**53 - 1
_AT_ONCE: Final = 100
MOST: Final = 1000  # of one EDU


async def receive(ctx: Context, origin: ServerName, content: JsonObject) -> None:
    """Take the receipts of an `m.receipt` EDU that the origin may give.

    Those of users who are not in the room are left out, and what is too much for one.
    """
    told = edu.parse_receipts(content, origin)[:MOST]
    receipts = [each for each in told if _is_sane(each)]
    for start in range(0, len(receipts), _AT_ONCE):
        await _move(ctx, receipts[start : start + _AT_ONCE])


def _is_sane(receipt: edu.Receipt) -> bool:
    thread_id = receipt.thread_id
    return 0 <= receipt.ts <= _MAX_TS and (thread_id is None or is_thread_id(thread_id))


async def _move(ctx: Context, receipts: Sequence[edu.Receipt]) -> None:
    events = await ctx.live.events.by_ids(each.event_id for each in receipts)
    commits = []
    for each in receipts:
        room = await ctx.live.room(each.room_id)
        if room is None or not room.may_be_joined(each.user_id):
            continue
        event = events.get(each.event_id)
        if event is not None and event.room_nid != room.nid:
            continue
        receipt = Receipt(
            room_nid=room.nid,
            user_id=each.user_id,
            receipt_type=READ,
            event_id=each.event_id,
            ts=each.ts,
            thread_id=each.thread_id,
        )
        position = None if event is None else event.position
        commits.append(
            ctx.live.commit(
                store.move,
                Move(receipt, position, is_local=False),
                Change(Kind.RECEIPT, room_nid=room.nid, user_id=each.user_id),
            )
        )
    await asyncio.gather(*commits)
