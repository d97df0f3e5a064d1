"""Memberships of our users in rooms that this server is not in.

An invite to, a knock on and the end of either come without the room: the event is
stored as an outlier, and the membership takes a position of its own, so that the user's
clients hear of it.

Tables: memberships, stripped_state.

Spec: server-server-api#inviting-to-a-room, server-server-api#knocking-rooms
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_user_id, server_of
from federation.pdu import Pdu
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events import store
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind, Positioned
from homeserver.live.room import Room
from homeserver.rooms.outliers import LOCK
from homeserver.server_keys.verify import Verified

_PENDING: Final = frozenset({"invite", "knock"})
_ENDS: Final = frozenset({"leave", "ban"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AsideMembership:
    """A membership to write; `stripped` is a JSON list, None to forget it."""

    room_nid: int
    user_id: UserId
    membership: str
    event_nid: int
    stripped: str | None


async def set_membership(
    ctx: Context, room: Room, pdu: Pdu, stripped: Sequence[JsonObject] | None
) -> None:
    """Make a member event of a room we are not in its user's membership.

    `stripped` is what the user may see of the room, None when there is nothing to see
    any more.
    """
    user_id = parse_user_id(pdu.state_key or "")
    membership = pdu.membership or "leave"
    nid = await _store_event(ctx, room, pdu)
    text = None if stripped is None else orjson.dumps(list(stripped)).decode()
    await ctx.live.commit(
        upsert_memberships,
        AsideMembership(room.nid, user_id, membership, nid, text),
        Change(Kind.MEMBERSHIP, room.nid, user_id, nid, membership),
    )


async def _store_event(ctx: Context, room: Room, pdu: Pdu) -> int:
    """Store an outlier whose auth_events we lack, unless it is stored."""
    events = ctx.live.events
    auth = await events.nids_of(pdu.auth_events)
    await events.numbers.reserve(1)
    key_nids = {}
    event = StoredEvent(
        nid=events.numbers.next(),
        room_nid=room.nid,
        pdu=pdu,
        position=None,
        prev_nids=(),
        auth_nids=tuple(auth.values()),
        state_before=None,
        state_after=None,
        room_state=None,
        size=len(pdu.text),
    )
    if pdu.key is not None:
        key_nids[event.nid] = (await ctx.live.states.keys.intern((pdu.key,)))[pdu.key]
    async with ctx.db.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK, room.nid % 2**31)
        await store.insert_events(tx, (event,), key_nids)
        nids = await store.read_nids(tx, (pdu.event_id,))
    nid = nids[pdu.event_id]
    if nid == event.nid:
        events.put(event)
    return nid


async def upsert_memberships(
    tx: Tx, batch: Sequence[Positioned[AsideMembership]]
) -> None:
    """Write memberships, and what their users may see of the rooms."""
    # A statement may touch a row once; the last one counts.
    rows = {(p.item.room_nid, p.item.user_id): p for p in batch}.values()
    await tx.execute(
        """
        INSERT INTO memberships (room_nid, user_id, membership, event_nid, position,
                                 local)
        SELECT room_nid, user_id, membership, event_nid, position, true
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
                 AS u (room_nid, user_id, membership, event_nid, position)
        ON CONFLICT (room_nid, user_id) DO UPDATE
           SET membership = EXCLUDED.membership, event_nid = EXCLUDED.event_nid,
               position = EXCLUDED.position, forgotten = false
        """,
        [row.item.room_nid for row in rows],
        [row.item.user_id for row in rows],
        [row.item.membership for row in rows],
        [row.item.event_nid for row in rows],
        [row.position for row in rows],
    )
    await tx.execute(
        """
        INSERT INTO stripped_state (room_nid, user_id, state)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
        ON CONFLICT (room_nid, user_id) DO UPDATE SET state = EXCLUDED.state
        """,
        [row.item.room_nid for row in rows if row.item.stripped is not None],
        [row.item.user_id for row in rows if row.item.stripped is not None],
        [row.item.stripped for row in rows if row.item.stripped is not None],
    )
    await tx.execute(
        """
        DELETE FROM stripped_state AS s
         USING unnest($1::bigint[], $2::text[]) AS u (room_nid, user_id)
         WHERE s.room_nid = u.room_nid AND s.user_id = u.user_id
        """,
        [row.item.room_nid for row in rows if row.item.stripped is None],
        [row.item.user_id for row in rows if row.item.stripped is None],
    )


async def receive(
    ctx: Context, origin: ServerName, room: Room, verified: Verified
) -> str | None:
    """Take an event of a room we are not in; why not, when it is not taken.

    The one kind that we can use takes an invite back, or denies a knock. Nothing shows
    that its sender has the power to; so it must come from the server that invited, or
    that the knock was sent through, or from who invited.
    """
    refusal = "this server is not in the room"
    pdu = verified.pdu
    if pdu.membership not in _ENDS or pdu.state_key is None:
        return refusal
    try:
        user_id = parse_user_id(pdu.state_key)
    except Malformed:
        return refusal
    if server_of(user_id) != ctx.server_name:
        return refusal
    member = await ctx.live.membership(user_id, room.nid)
    if member is None or member.membership not in _PENDING:
        return refusal
    pending = await ctx.live.events.by_nid(member.event_nid)
    if pending is None or not _may_end(origin, pdu, pending.pdu):
        log.info("end of invite not believed", event_id=pdu.event_id, origin=origin)
        return "the event cannot be checked"
    await set_membership(ctx, room, pdu, None)
    return None


def _may_end(origin: ServerName, end: Pdu, pending: Pdu) -> bool:
    if pending.event_id not in end.auth_events:
        return False
    if pending.membership == "knock":
        # Any server in the room may have it; only those know the knock's event ID.
        return origin == server_of(end.sender)
    return origin in (server_of(pending.sender), server_of(end.sender)) and (
        server_of(end.sender) == server_of(pending.sender)
    )
