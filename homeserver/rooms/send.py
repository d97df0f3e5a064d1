"""Sending: one event of a local user into a room.

In the steady state this reads nothing and costs one share of one batch.
"""

from typing import Final

import asyncpg

from federation.errors import Rejected
from federation.ids import EventId, UserId
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.events.stored import StoredEvent
from homeserver.live.committer import is_duplicate_transaction
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.rooms.build import Builder, NewEvent
from homeserver.rooms.partial import until_whole

_TRIES: Final = 10


async def send_event(ctx: Context, room: Room, new: NewEvent) -> EventId:
    """Put an event into a room; its ID, once it is durable and in the view.

    A repetition of a device's transaction ID gives the event that it gave before. So
    does a state event that would change nothing.

    Raises: Rejected, TooLarge; Conflict when other processes keep being faster.
    """
    if new.type == "m.room.member" and new.state_key != new.sender:
        room = await until_whole(ctx.live, room)
    for attempt in range(_TRIES):
        try:
            async with ctx.live.retrying(room, attempt):
                return await _try(ctx, room, new, is_alone=attempt > 1)
        except Conflict:
            continue
        except (Rejected, asyncpg.UniqueViolationError) as error:
            # Refused now, perhaps, but allowed when it was sent for the first time.
            if isinstance(error, Rejected) or is_duplicate_transaction(error):
                earlier = await _event_of_transaction(ctx, room, new)
                if earlier is not None:
                    return earlier
            raise
    raise Conflict


async def _try(ctx: Context, room: Room, new: NewEvent, *, is_alone: bool) -> EventId:
    if new.state_key is not None:
        # Not while the room is held: others write to it meanwhile.
        await ctx.live.states.keys.intern(((new.type, new.state_key),))
    async with ctx.live.writers.hold(room) as writer:
        with writer.unmoved():
            builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
            same = await _unchanged(builder, new)
            if same is not None:
                return same.event_id
            event = await builder.add(new)
        step = builder.submit(is_alone=is_alone)
    await step.future
    return event.event_id


async def _unchanged(builder: Builder, new: NewEvent) -> StoredEvent | None:
    """The state event that says the same already, from the same sender."""
    if new.state_key is None or new.sticky_ms is not None:
        return None
    event = await builder.state_event((new.type, new.state_key))
    if event is None or event.pdu.sender != new.sender or event.redaction is not None:
        return None
    return event if event.pdu.content == new.content else None


async def _event_of_transaction(
    ctx: Context, room: Room, new: NewEvent
) -> EventId | None:
    """The event that the device sent under this transaction ID before."""
    if new.txn is None:
        return None
    async with ctx.db.read() as tx:
        return await find_transaction(tx, room.nid, new.sender, new.type, new.txn)


async def find_transaction(
    tx: Tx, room_nid: int, sender: UserId, event_type: str, txn: tuple[str, str]
) -> EventId | None:
    """The event of a device's transaction ID, if there is one."""
    found: str | None = await tx.fetchval(
        """
        SELECT event_id FROM events
         WHERE sender = $1 AND txn_device = $2 AND room_nid = $3 AND type = $4
           AND txn_id = $5
        """,
        sender,
        to_text(txn[0]),
        room_nid,
        to_text(event_type),
        to_text(txn[1]),
    )
    return None if found is None else EventId(found)
