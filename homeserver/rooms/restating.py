"""The states of a room anew, once its members are known.

Every event since our join was judged by a state that lacked members, helped by what its
own auth_events claim. Here each gets its true state, and is judged by it.

Spec: MSC3902
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from federation import auth_rules
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.partial import note_servers
from homeserver.live.room import Head
from homeserver.live.steps import Restated, Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import CREATE
from homeserver.rooms.current import note_changes
from homeserver.rooms.judging import refusal, state_pdus_of
from homeserver.state.states import insert_nodes


@dataclass(slots=True)
class _Restating:
    """Our join, the state before it as we had it and as it is, and what became anew."""

    ctx: Context
    writer: RoomWriter
    join: StoredEvent
    whole: int
    after: dict[int, int] = field(default_factory=dict)  # by event number
    lifted: dict[int, int] = field(default_factory=dict)  # by root

    @property
    def partial(self) -> int:
        """The state before our join, as we had it."""
        return self.join.state_before or 0

    async def changed(
        self, root: int, changes: Mapping[tuple[str, str], int | None]
    ) -> int:
        """A state with those changes, stored."""
        live = self.ctx.live
        new, nodes = await live.states.update(root, self.writer.room.nid, changes)
        if nodes:
            async with self.ctx.db.preparation() as tx:
                await insert_nodes(tx, nodes)
        return new

    async def lift(self, root: int) -> int:
        """A state that was made without the members, with them."""
        if root not in self.lifted:
            difference = await self.ctx.live.states.diff(self.partial, root)
            changes = {
                key: new
                for key, (_, new) in difference.items()
                if new is not None or key[0] != "m.room.member"
            }
            self.lifted[root] = await self.changed(self.whole, changes)
        return self.lifted[root]

    async def before(self, event: StoredEvent) -> int:
        """The state before an event, by its prev_events."""
        if event.nid == self.join.nid:
            return self.whole
        live = self.ctx.live
        roots: list[int] = []
        for nid, prev in (await live.events.by_nids(event.prev_nids)).items():
            root = self.after.get(nid, prev.state_after)
            if root is not None:
                roots.append(root)
        if not roots or len(event.prev_nids) < len(set(event.pdu.prev_events)):
            roots.append(await self.lift(event.state_before or 0))
        room = self.writer.room
        return await live.resolver.resolve(room.version, room.nid, roots)

    async def restate(self, event: StoredEvent) -> Restated:
        """The event's states; why it is refused, now that the members are known."""
        before = after = await self.before(event)
        rejected = event.rejected
        if rejected is None and event.position is not None:
            rejected = await self._refusal(event, before)
        key = event.pdu.key
        if key is not None and rejected is None:
            after = await self.changed(before, {key: event.nid})
        self.after[event.nid] = after
        current = event.room_state
        if current is not None:
            same = current == event.state_after
            current = after if same else await self.lift(current)
        return Restated(event.nid, before, after, current, rejected)

    async def left_over(
        self, root: int
    ) -> dict[tuple[str, str], tuple[int | None, int | None]]:
        """What differs between the current state and the new one of that root.

        The members are a part of the current state already, all but those of whom we
        heard since our join.
        """
        states, writer = self.ctx.live.states, self.writer
        keys = {
            *await states.diff(self.whole, root),
            *await states.diff(self.partial, writer.head.state_root),
        }
        new = await states.get(root, keys)
        pairs = {key: (writer.state_nid(key), new.get(key)) for key in keys}
        return {key: (old, nid) for key, (old, nid) in pairs.items() if old != nid}

    async def _refusal(self, event: StoredEvent, before: int) -> str | None:
        live, pdu = self.ctx.live, event.pdu
        keys = auth_rules.auth_keys(
            pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
        )
        state = await state_pdus_of(
            live, await live.states.get(before, (*keys, CREATE))
        )
        return refusal(pdu, state, state.get(CREATE), vouched=True)


async def bring_in(
    ctx: Context, writer: RoomWriter, some: Mapping[tuple[str, str], int]
) -> Step | None:
    """A step that adds some of the members; None when all of them are there.

    Only the tables and the view learn of them. What an event's state was is for
    `make_whole` to say, and what we heard since our join counts more.
    """
    head = writer.head
    new = {
        key: (None, nid) for key, nid in some.items() if writer.state_nid(key) is None
    }
    if not new:
        return None
    await ctx.live.events.numbers.reserve(1)
    step = Step(
        room=writer.room,
        expected=head.guard,
        head=replace(head, guard=ctx.live.events.numbers.next()),
        events=[],
    )
    await note_changes(ctx.live, writer, step, new)
    return step


async def make_whole(
    ctx: Context, writer: RoomWriter, join: StoredEvent, whole: int
) -> Step:
    """The step that gives the room its members. `whole`: the state before our join."""
    live, head, room = ctx.live, writer.head, writer.room
    work = _Restating(ctx, writer, join, whole)
    async with ctx.db.read() as tx:
        nids = await _read_meanwhile(tx, room.nid, join)
    events = await live.events.by_nids(nids)
    restated = [await work.restate(event) for event in _in_order(events)]
    heads = await live.events.by_nids(head.extremities)
    roots = [
        root
        for nid, event in heads.items()
        if (root := work.after.get(nid, event.state_after)) is not None
    ]
    root = await live.resolver.resolve(room.version, room.nid, roots)
    await live.events.numbers.reserve(1)
    step = Step(
        room=room,
        expected=head.guard,
        head=Head(
            guard=live.events.numbers.next(),
            extremities=head.extremities,
            state_root=root,
            depth=head.depth,
        ),
        events=[],
        is_whole=True,
        restated=restated,
        changes=[
            Change(Kind.BACKFILLED, room_nid=room.nid, ref=each.nid)
            for each in restated
        ],
    )
    await note_changes(live, writer, step, await work.left_over(root))
    note_servers(step, head)
    # Our users come into the room that is now whole: /sync shows it to them anew.
    for user_id in room.joined_local:
        member = room.members[user_id]
        step.members.setdefault(user_id, (member.membership, member.event_nid))
    return step


async def _read_meanwhile(tx: Tx, room_nid: int, join: StoredEvent) -> list[int]:
    """Our join and all events since that have states, in the order of their arrival."""
    rows = await tx.fetch(
        """
        SELECT event_nid FROM events
         WHERE room_nid = $1 AND state_before IS NOT NULL
           AND (position >= $2 OR position IS NULL AND event_nid > $3)
         ORDER BY position NULLS LAST, event_nid
        """,
        room_nid,
        join.position,
        join.nid,
    )
    return [row["event_nid"] for row in rows]


def _in_order(events: Mapping[int, StoredEvent]) -> list[StoredEvent]:
    """The events, each after those of them that it comes after."""
    ordered: list[StoredEvent] = []
    done: set[int] = set()
    for start in events:
        stack = [(start, False)]
        while stack:
            nid, is_left = stack.pop()
            if is_left:
                ordered.append(events[nid])
            elif nid not in done:
                done.add(nid)
                stack.append((nid, True))
                stack.extend((p, False) for p in events[nid].prev_nids if p in events)
    return ordered
