"""Sending: one event of a local user into a room.

In the steady state this reads nothing and costs one share of one batch. Where the room
has a policy server, the event is built, shown to that server while others write to the
room, and then put in as one that comes from elsewhere.
"""

from dataclasses import replace
from typing import Final

import asyncpg

from federation import auth_rules
from federation.errors import Rejected
from federation.ids import EventId, UserId
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.events.stored import StoredEvent
from homeserver.live.committer import is_duplicate_transaction
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.rooms.accept import Outcome, accept
from homeserver.rooms.build import Builder, Draft, NewEvent
from homeserver.rooms.judging import Incoming, LacksEvents
from homeserver.rooms.partial import until_whole
from homeserver.rooms.policy import (
    POLICY,
    NotRecommended,
    PolicyServer,
    Unsigned,
    policy_server,
    recommended,
)

_TRIES: Final = 10


async def send_event(ctx: Context, room: Room, new: NewEvent) -> EventId:
    """Put an event into a room; its ID, once it is durable and in the view.

    A repetition of a device's transaction ID gives the event that it gave before. So
    does a state event that would change nothing.

    Raises: Rejected, TooLarge; what the room's policy server says against it; Conflict
    when other processes keep being faster.
    """
    if new.type == "m.room.member" and new.state_key != new.sender:
        room = await until_whole(ctx.live, room)
    for attempt in range(_TRIES):
        try:
            async with ctx.live.retrying(room, attempt):
                return await _try(ctx, room, new)
        except Conflict:
            continue
        except Unsigned:
            return await _send_through_policy_server(ctx, room, new)
        except (Rejected, asyncpg.UniqueViolationError) as error:
            # Refused now, perhaps, but allowed when it was sent for the first time.
            if isinstance(error, Rejected) or is_duplicate_transaction(error):
                earlier = await event_of_transaction(ctx, room, new)
                if earlier is not None:
                    return earlier
            raise
    raise Conflict


async def _try(ctx: Context, room: Room, new: NewEvent) -> EventId:
    if new.state_key is not None:
        # Not while the room is held: others write to it meanwhile.
        await ctx.live.states.keys.intern(((new.type, new.state_key),))
    async with ctx.live.writers.hold(room) as writer:
        with writer.unmoved():
            builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
            same = await _unchanged(builder, new)
            if same is not None:
                return same.event_id
            server = await _policy_server(ctx, builder, new)
            if server is not None:
                raise Unsigned(server)
            event = await builder.add(new)
        step = builder.submit()
    await step.future
    return event.event_id


async def _policy_server(
    ctx: Context, builder: Builder, new: NewEvent
) -> PolicyServer | None:
    if (new.type, new.state_key) == POLICY:
        return None
    return await policy_server(ctx.live, builder.room, builder.state_nid(POLICY))


async def _send_through_policy_server(
    ctx: Context, room: Room, new: NewEvent
) -> EventId:
    """Have the room's policy server sign the event, then put it into the room."""
    earlier = await event_of_transaction(ctx, room, new)
    if earlier is not None:
        return earlier
    for _ in range(_TRIES):
        try:
            async with ctx.live.writers.hold(room) as writer:
                with writer.unmoved():
                    builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
                    draft = await builder.draft(new)
                    auth_rules.check(draft.pdu, draft.state, create=draft.create)
                    server = await _policy_server(ctx, builder, new)
            draft = await shown_to(ctx, room, server, draft)
            incoming = Incoming(
                draft.pdu, recommended=True, outgoing=True, ours=True, txn=new.txn
            )
            outcome, _ = await accept(ctx.db, ctx.live, room, incoming)
        except (Conflict, LacksEvents):  # what it was built upon has failed
            await ctx.live.follower.pull()
            continue
        except asyncpg.UniqueViolationError as error:
            earlier = await event_of_transaction(ctx, room, new)
            if earlier is None or not is_duplicate_transaction(error):
                raise
            return earlier
        if outcome is Outcome.ACCEPTED:
            return draft.pdu.event_id
        # The room has changed; the next attempt says how.
        room = await ctx.live.room(room.room_id) or room
    raise Conflict


async def shown_to(
    ctx: Context, room: Room, server: PolicyServer | None, draft: Draft
) -> Draft:
    """The draft with the policy server's signature, if there is such a server.

    Nobody is kept in a room: of a user's own leave the server is told, no more.

    Raises: TooLarge; a MatrixError with what the server says against it; Conflict, when
    the room has meanwhile done away with that server.
    """
    if server is None:
        return draft
    try:
        pdu = await recommended(ctx, server, draft.pdu)
    except NotRecommended as error:
        if draft.pdu.membership == "leave" and draft.pdu.state_key == draft.pdu.sender:
            return draft
        await ctx.live.follower.pull()  # another process may be a moment ahead
        now = await ctx.live.room(room.room_id) or room
        if await policy_server(ctx.live, now, now.state.get(POLICY)) != server:
            raise Conflict from None
        raise error.answer from None
    return replace(draft, pdu=pdu)


async def _unchanged(builder: Builder, new: NewEvent) -> StoredEvent | None:
    """The state event that says the same already, from the same sender."""
    if new.state_key is None or new.sticky_ms is not None:
        return None
    event = await builder.state_event((new.type, new.state_key))
    if event is None or event.pdu.sender != new.sender or event.redaction is not None:
        return None
    return event if event.pdu.content == new.content else None


async def event_of_transaction(
    ctx: Context, room: Room, new: NewEvent
) -> EventId | None:
    """The event that the device sent under this transaction ID before."""
    if new.txn is None:
        return None
    async with ctx.db.read() as tx:
        return await _find_transaction(tx, room.nid, new.sender, new.type, new.txn)


async def _find_transaction(
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
