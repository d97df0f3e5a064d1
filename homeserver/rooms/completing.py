"""Fetching the members of rooms that we joined without them.

The work is a row that any process claims for a while, so it goes on after a restart.
Each server that was in the room is asked in turn, again and again with growing pauses.
Once the members are stored, small steps bring them into the room, so that nobody waits
for a large one. Then the states of all that was accepted meanwhile are made anew and
judged anew, and one step makes the room whole: for clients it is joined once more.

Spec: MSC3902
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from federation.errors import Malformed, ProtocolError
from federation.ids import EventId, ServerName
from federation.pdu import StateKey
from federation.wire import calls
from federation.wire.errors import WireError
from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.stored import StoredEvent
from homeserver.live.committer import Overloaded
from homeserver.live.room import Room, RoomDelta
from homeserver.live.steps import Conflict, Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import CREATE
from homeserver.rooms.checked import check_events
from homeserver.rooms.outliers import places_of, store_outliers, stored_root
from homeserver.rooms.restating import bring_in, make_whole
from homeserver.rooms.unfinished import end_if_over

_AT_ONCE: Final = 2  # rooms in one process: each may hold a large answer
_MAX_PAUSE_SECONDS: Final = 600
_TRIES: Final = 8  # against other writers
_MEMBERS: Final = 250  # in one commit

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """One room to complete, ours for a while."""

    room_nid: int
    join_nid: int
    servers: tuple[ServerName, ...]
    tries: int
    whole: int | None  # the root of the state with all members, once they are stored


class Superseded(Exception):  # noqa: N818 - reads as what happened
    """Our users have left and joined anew: other members are awaited now."""


class Clearable(Protocol):
    """What holds events."""

    def clear(self) -> None:
        """Hold none any more."""


class Completer:
    """Completes rooms while the block lasts."""

    def __init__(self, ctx: Context) -> None:
        self._work = Claimed(
            ctx.db,
            "complete-rooms",
            claim=_claim,
            renew=_set_due,
            work=lambda claim: _complete(ctx, claim),
            at_once=_AT_ONCE,
        )
        ctx.live.on_events(self._on_events)

    async def __aenter__(self) -> Self:
        await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.__aexit__(kind, error, trace)

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        if delta.head.partial is not None:
            self._work.wake()


async def _claim(tx: Tx, seconds: float, most: int) -> list[Claim]:
    rows = await tx.fetch(
        """
        UPDATE partial_rooms AS p
           SET due_at = now() + $1 * interval '1 second', tries = tries + 1
          FROM (SELECT room_nid FROM partial_rooms
                 WHERE due_at <= now() ORDER BY due_at LIMIT $2
                   FOR UPDATE SKIP LOCKED) AS due
         WHERE p.room_nid = due.room_nid
     RETURNING p.room_nid, join_nid, servers, tries, whole_root
        """,
        seconds,
        most,
    )
    return [
        Claim(
            row["room_nid"],
            row["join_nid"],
            tuple(map(ServerName, row["servers"])),
            row["tries"],
            row["whole_root"],
        )
        for row in rows
    ]


async def _complete(ctx: Context, claim: Claim) -> None:
    """Complete the room, or leave it to a later attempt."""
    try:
        await ctx.live.follower.pull()
        room = await ctx.live.view.room(claim.room_nid)
        join = await ctx.live.events.by_nid(claim.join_nid)
        root = claim.whole
        if room is not None and join is not None and root is None:
            root = await _fetch(ctx, room, join, claim.servers)
            if root is not None:
                await _note_whole(ctx, claim, root)
        if room is not None and join is not None and root is not None:
            await _install(ctx, room, join, root)
            return
    except (Conflict, Overloaded, Malformed, Superseded) as error:
        log.warning("room not completed", room_nid=claim.room_nid, reason=repr(error))
    except Exception:
        # A slip of ours must not keep the other rooms from being completed.
        log.exception("room not completed", room_nid=claim.room_nid)
    if await end_if_over(ctx, claim.room_nid, claim.join_nid, claim.tries):
        return
    pause = min(2 ** min(claim.tries, 20), _MAX_PAUSE_SECONDS)
    async with ctx.db.transaction() as tx:
        await _set_due(tx, (claim,), pause)


async def _note_whole(ctx: Context, claim: Claim, root: int) -> None:
    """Note that nothing needs to be fetched any more, however this goes on."""
    async with ctx.db.transaction() as tx:
        await tx.execute(
            """
            UPDATE partial_rooms SET whole_root = $3
             WHERE room_nid = $1 AND join_nid = $2
            """,
            claim.room_nid,
            claim.join_nid,
            root,
        )


async def _set_due(tx: Tx, claims: Sequence[Claim], seconds: float) -> None:
    await tx.execute(
        """
        UPDATE partial_rooms AS p SET due_at = now() + $3 * interval '1 second'
          FROM unnest($1::bigint[], $2::bigint[]) AS u (room_nid, join_nid)
         WHERE p.room_nid = u.room_nid AND p.join_nid = u.join_nid
        """,
        [claim.room_nid for claim in claims],
        [claim.join_nid for claim in claims],
        seconds,
    )


# ── Fetching ─────────────────────────────────────────────────────────────────────────


async def _fetch(
    ctx: Context, room: Room, join: StoredEvent, servers: Sequence[ServerName]
) -> int | None:
    """The root of the whole state before our join; None when nobody tells it."""
    for server in servers:
        try:
            return await _fetch_from(ctx, room, join, server)
        except (WireError, ProtocolError) as error:
            log.info(
                "members not fetched",
                room_id=room.room_id,
                via=server,
                reason=str(error),
            )
    return None


async def _fetch_from(
    ctx: Context, room: Room, join: StoredEvent, server: ServerName
) -> int:
    """What we know of the state before our join, and all that one server adds.

    Raises: WireError, ProtocolError.
    """
    told = await calls.get_room_state(ctx.wire, server, room.room_id, join.event_id)
    raws: list[object] = [*told.pdus, *told.auth_chain]
    state = await check_events(ctx, room.room_id, room.version, told.pdus)
    chain = await check_events(
        ctx, room.room_id, room.version, told.auth_chain, known=state
    )
    del told
    await store_outliers(ctx, room, {**chain, **state})
    event_ids = list(state)
    await _let_go([*raws, *state.values(), *chain.values()], raws, state, chain)
    return await _merged(ctx, room, join.state_before or 0, event_ids)


async def _let_go(held: list[object], *holders: Clearable) -> None:
    """Free many events, some at a time: all at once would hold everybody up."""
    for holder in holders:
        holder.clear()
    while held:
        del held[-_MEMBERS:]
        await asyncio.sleep(0)


async def _merged(
    ctx: Context, room: Room, partial: int, event_ids: Sequence[EventId]
) -> int:
    create_nid = (await ctx.live.states.get(partial, (CREATE,))).get(CREATE)
    told = await places_of(ctx, room, event_ids)
    if create_nid not in told.values():
        raise Malformed("the state that was sent is not this room's")
    known = await ctx.live.states.nid_items(partial)
    added = {key: nid for key, nid in told.items() if key not in known}
    return await stored_root(ctx, room, partial, added)


# ── Making it whole ──────────────────────────────────────────────────────────────────


async def _install(ctx: Context, room: Room, join: StoredEvent, root: int) -> None:
    """Bring the members in, some at a time, and make the room whole.

    Raises: Conflict, Superseded.

    No commit is long, so that nobody else waits for it.
    """
    missing = await ctx.live.states.added(join.state_before or 0, root)
    for start in range(0, len(missing), _MEMBERS):
        some = await ctx.live.states.keyed(missing[start : start + _MEMBERS])

        async def brings(
            writer: RoomWriter, some: dict[StateKey, int] = some
        ) -> Step | None:
            return await bring_in(ctx, writer, some)

        await _write(ctx, room, join, brings)
    await _write(ctx, room, join, lambda writer: make_whole(ctx, writer, join, root))
    log.info("room is whole", room_id=room.room_id)


async def _write(
    ctx: Context,
    room: Room,
    join: StoredEvent,
    make: Callable[[RoomWriter], Awaitable[Step | None]],
) -> None:
    """Write one step, unless the room is whole. Raises: Conflict, Superseded."""
    for attempt in range(_TRIES):
        try:
            async with (
                ctx.live.retrying(room, attempt),
                ctx.live.writers.hold(room) as writer,
            ):
                await writer.settled()
                if not writer.room.is_partial:
                    return  # somebody was faster
                if not await _is_awaited(ctx, join):
                    raise Superseded("somebody has joined anew")
                with writer.unmoved():
                    step = await make(writer)
                if step is None:
                    return
                writer.submit(step)
                # Nobody may build on the states that the events had.
                await step.future
        except Conflict:
            room = await ctx.live.view.room(room.nid) or room
            continue
        return
    raise Conflict


async def _is_awaited(ctx: Context, join: StoredEvent) -> bool:
    """Whether the members that are awaited are those who were there at this join."""
    async with ctx.db.read() as tx:
        join_nid: int | None = await tx.fetchval(
            "SELECT join_nid FROM partial_rooms WHERE room_nid = $1", join.room_nid
        )
    return join_nid == join.nid
