"""What writers hand to the committer, and how it is written."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.ids import ServerName, UserId
from federation.pdu import StateKey
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.events import store
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind, StoreFunction
from homeserver.live.room import Head, Member, Room, RoomDelta
from homeserver.state.states import NodeRow


class Conflict(Exception):  # noqa: N818 - reads as what happened
    """Another process wrote to the room first: read again and retry."""


def _new_future() -> "asyncio.Future[int]":
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class Restated:
    """What the states around an event are after all, and why it is refused if it is."""

    nid: int
    state_before: int
    state_after: int
    room_state: int | None
    rejected: str | None


@dataclass(frozen=True, slots=True)
class Reversal:
    """An event that lost its place in the state to another, or to none, by number.

    `by` is the event with whose arrival that came about; `refused` says why the rules
    refuse it now, if they do.
    """

    lost: int
    won: int | None
    by: int
    refused: str | None


@dataclass(slots=True, eq=False)
class Step:
    """One write to a room: its new events and all that follows from them.

    `expected` is the guard that the room must still have; `head.guard` the one it gets.
    """

    room: Room
    expected: int
    head: Head
    events: list[StoredEvent]
    key_nids: dict[int, int] = field(default_factory=dict)  # of state events, by nid
    nodes: list[NodeRow] = field(default_factory=list)
    state: dict[StateKey, int | None] = field(default_factory=dict)
    state_key_nids: dict[StateKey, int] = field(default_factory=dict)
    members: dict[UserId, tuple[str, int]] = field(default_factory=dict)
    servers: Counter[ServerName] = field(default_factory=Counter)  # joined, ±
    # prev_events of these events that we lack, and lacking ones that have arrived.
    missing: list[tuple[str, int]] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    # (event redacted, redaction) by number, and redactions that wait for their event:
    # (redaction's number, event ID).
    redactions: list[tuple[int, int]] = field(default_factory=list)
    waiting_redactions: list[tuple[int, str]] = field(default_factory=list)
    # What else takes a position.
    changes: list[Change] = field(default_factory=list)
    # The members are to be fetched yet, from these servers; or they are all there.
    # Once they are stored, `whole_root` is the state before our join with all of them.
    awaits_members: tuple[ServerName, ...] = ()
    whole_root: int | None = None
    is_whole: bool = False
    restated: list[Restated] = field(default_factory=list)
    reversals: list[Reversal] = field(default_factory=list)
    is_alone: bool = False  # its writer has asked the other processes to wait
    future: "asyncio.Future[int]" = field(default_factory=_new_future)

    @property
    def width(self) -> int:
        """How many positions it takes: one for each event, one when there is none."""
        return len(self.events) or 1

    def delta(self, first: int) -> RoomDelta:
        """What it means for the view, committed with `first` as its first position."""
        last = first + self.width - 1
        for position, event in enumerate(self.events, first):
            event.position = position
        return RoomDelta(
            room_nid=self.room.nid,
            first=first,
            last=last,
            events=self.events,
            head=self.head,
            state=self.state,
            members={
                user_id: Member(membership, nid, last)
                for user_id, (membership, nid) in self.members.items()
            },
        )


@dataclass(slots=True, eq=False)
class Write:
    """One item for a store function, and the change it makes."""

    function: StoreFunction
    item: Any
    change: Change
    future: "asyncio.Future[int]" = field(default_factory=_new_future)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What must happen with stored events, inside the transaction that stores them.

    `is_due` tells whether a step needs it, so that most commits are one statement.
    `run` gets the steps that do, each with the position of its first event.
    """

    is_due: Callable[[Step], bool]
    run: Callable[[Tx, Sequence[tuple[int, Step]]], Awaitable[None]]


# Positions are base + offset. The sequencer row is locked first, so commits follow each
# other in the order of their positions; a room whose guard has moved writes nothing.
_WRITE = """
WITH seq AS (
    UPDATE sequencer SET position = position + $1::bigint
    RETURNING position - $1::bigint AS base
), room AS (
    UPDATE rooms r
       SET guard = u.guard, last_position = seq.base + u.last, depth = u.depth,
           state_root = u.state_root, extremities = u.extremities::bigint[]
      FROM seq, unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                       $6::bigint[], $7::bigint[], $8::text[], $34::boolean[])
             AS u (room_nid, expected, guard, last, depth, state_root, extremities,
                   is_alone)
     WHERE r.room_nid = u.room_nid AND r.guard = u.expected
       -- A process that lost too often asks the others to let it go first.
       AND (u.is_alone OR pg_try_advisory_xact_lock_shared(r.room_nid))
 RETURNING r.room_nid
), event AS (
    INSERT INTO events (event_nid, event_id, room_nid, depth, type, key_nid, sender,
                        origin_server_ts, prev_nids, auth_nids, state_before,
                        state_after, rejected, soft_failed, position, room_state,
                        outgoing, txn_device, txn_id, relates_to, rel_type)
    SELECT u.event_nid, u.event_id, u.room_nid, u.depth, u.type, u.key_nid, u.sender,
           u.ts, u.prev_nids::bigint[], u.auth_nids::bigint[], u.state_before,
           u.state_after, u.rejected, u.soft_failed, seq.base + u.at, u.room_state,
           u.outgoing, u.txn_device, u.txn_id, u.relates_to, u.rel_type
      FROM seq, unnest($9::bigint[], $10::text[], $11::bigint[], $12::bigint[],
                       $13::text[], $14::bigint[], $15::text[], $16::bigint[],
                       $17::text[], $18::text[], $19::bigint[], $20::bigint[],
                       $21::text[], $22::boolean[], $24::bigint[], $25::bigint[],
                       $26::boolean[], $27::text[], $28::text[], $35::text[],
                       $36::text[])
             AS u (event_nid, event_id, room_nid, depth, type, key_nid, sender, ts,
                   prev_nids, auth_nids, state_before, state_after, rejected,
                   soft_failed, at, room_state, outgoing, txn_device, txn_id,
                   relates_to, rel_type)
     WHERE u.room_nid IN (SELECT room_nid FROM room)
    ON CONFLICT (event_nid) DO UPDATE
       SET position = EXCLUDED.position, state_before = EXCLUDED.state_before,
           state_after = EXCLUDED.state_after, room_state = EXCLUDED.room_state,
           prev_nids = EXCLUDED.prev_nids, auth_nids = EXCLUDED.auth_nids,
           outgoing = EXCLUDED.outgoing, rejected = NULL, soft_failed = false
     WHERE events.position IS NULL
), json AS (
    INSERT INTO event_json (event_nid, json)
    SELECT u.event_nid, u.json
      FROM unnest($9::bigint[], $11::bigint[], $23::text[])
             AS u (event_nid, room_nid, json)
     WHERE u.room_nid IN (SELECT room_nid FROM room)
    ON CONFLICT (event_nid) DO NOTHING
), change AS (
    INSERT INTO changes (position, kind, room_nid, user_id, ref)
    SELECT seq.base + u.at, u.kind, u.room_nid, u.user_id, u.ref
      FROM seq, unnest($29::bigint[], $30::smallint[], $31::bigint[], $32::text[],
                       $33::bigint[], $37::boolean[])
                    AS u (at, kind, room_nid, user_id, ref, is_step)
     WHERE NOT u.is_step OR u.room_nid IN (SELECT room_nid FROM room)
)
SELECT seq.base, (SELECT array_agg(room_nid) FROM room) AS rooms FROM seq
"""

# What only state events need; the rooms are those that the first statement wrote.
_WRITE_STATE = """
WITH node AS (
    INSERT INTO state_nodes (node_nid, room_nid, data)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])
        AS u (node_nid, room_nid, data)
), gone AS (
    DELETE FROM current_state c
     USING unnest($4::bigint[], $5::bigint[]) AS u (room_nid, key_nid)
     WHERE c.room_nid = u.room_nid AND c.key_nid = u.key_nid
), state AS (
    INSERT INTO current_state (room_nid, key_nid, event_nid)
    SELECT * FROM unnest($6::bigint[], $7::bigint[], $8::bigint[])
    ON CONFLICT (room_nid, key_nid) DO UPDATE SET event_nid = EXCLUDED.event_nid
), member AS (
    INSERT INTO memberships (room_nid, user_id, membership, event_nid, position, local)
    SELECT * FROM unnest($9::bigint[], $10::text[], $11::text[], $12::bigint[],
                         $13::bigint[], $14::boolean[])
    ON CONFLICT (room_nid, user_id) DO UPDATE
       SET membership = EXCLUDED.membership, event_nid = EXCLUDED.event_nid,
           position = EXCLUDED.position, forgotten = false
)
INSERT INTO room_servers AS s (room_nid, server_name, joined, since)
SELECT * FROM unnest($15::bigint[], $16::text[], $17::integer[], $18::bigint[])
ON CONFLICT (room_nid, server_name) DO UPDATE
   SET joined = s.joined + EXCLUDED.joined,
       since = CASE WHEN s.joined = 0 THEN EXCLUDED.since ELSE s.since END
"""


def split_chains(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Steps that follow each other, room by room, and those that follow no step here.

    The first step of a room meets the database; the next ones must continue it.
    """
    guards: dict[int, int] = {}
    chained: list[Step] = []
    broken: list[Step] = []
    for step in steps:
        if guards.get(step.room.nid, step.expected) == step.expected:
            guards[step.room.nid] = step.head.guard
            chained.append(step)
        else:
            broken.append(step)
    return chained, broken


async def write_batch(
    tx: Tx,
    steps: Sequence[Step],
    changes: Sequence[tuple[int, Change]],
    count: int,
    writes: int,
) -> tuple[int, frozenset[int]]:
    """Write steps and changes at offsets 1 to `count` from the base that comes back.

    `changes` are those beside events, with their offsets, which follow the steps'. The
    last `writes` of them belong to no step.
    Also gives the rooms that were written; the others' guards had moved.
    """
    events: list[StoredEvent] = []
    key_nids: dict[int, int] = {}
    rooms: dict[int, tuple[int, Step, int]] = {}
    at = 0
    offsets: list[int] = []  # of the events
    stated: list[tuple[int, Change]] = []  # by steps without events
    for step in steps:
        events += step.events
        key_nids.update(step.key_nids)
        offsets += range(at + 1, at + 1 + len(step.events))
        at += step.width
        if not step.events:
            stated.append((at, Change(Kind.STATE, room_nid=step.room.nid)))
        first = rooms.get(step.room.nid)
        expected = first[0] if first else step.expected
        rooms[step.room.nid] = (expected, step, at)
    heads = [
        (nid, expected, step.head, at) for nid, (expected, step, at) in rooms.items()
    ]
    changes = [*stated, *changes]
    count_all = len(events) + len(changes)
    row = await tx.fetchrow(
        _WRITE,
        count,
        [nid for nid, _, _, _ in heads],
        [expected for _, expected, _, _ in heads],
        [head.guard for _, _, head, _ in heads],
        [last for _, _, _, last in heads],
        [head.depth for _, _, head, _ in heads],
        [head.state_root for _, _, head, _ in heads],
        [store.array_text(head.extremities) for _, _, head, _ in heads],
        *store.columns_of(events, key_nids),
        offsets,
        [event.room_state for event in events],
        [event.outgoing for event in events],
        [_text_or_none(event.txn_device) for event in events],
        [_text_or_none(event.txn_id) for event in events],
        [*offsets, *(offset for offset, _ in changes)],
        [1] * len(events) + [int(change.kind) for _, change in changes],
        [e.room_nid for e in events] + [change.room_nid for _, change in changes],
        [None] * len(events) + [change.user_id for _, change in changes],
        [e.nid for e in events] + [change.ref for _, change in changes],
        [step.is_alone for _, step, _ in rooms.values()],
        *store.relation_columns(events),
        [at < count_all - writes for at in range(count_all)],
    )
    assert row is not None  # noqa: S101 - the sequencer has its one row
    return row["base"], frozenset(row["rooms"] or ())


def _text_or_none(value: str | None) -> str | None:
    return None if value is None else to_text(value)


def needs_state(step: Step) -> bool:
    """Whether anything but the event rows follows from the step."""
    return bool(step.nodes or step.state or step.members)


async def write_state(
    tx: Tx, steps: Sequence[tuple[int, Step]], our_name: ServerName
) -> None:
    """Write what state events change, of steps with their first positions."""
    nodes: list[NodeRow] = []
    state: dict[tuple[int, int], int | None] = {}
    members: dict[tuple[int, str], tuple[str, int, int]] = {}
    servers: dict[tuple[int, str], tuple[int, int]] = {}
    for first, step in steps:
        room_nid = step.room.nid
        last = first + step.width - 1
        nodes += step.nodes
        for key, nid in step.state.items():
            state[room_nid, step.state_key_nids[key]] = nid
        for user_id, (membership, nid) in step.members.items():
            members[room_nid, user_id] = (membership, nid, last)
        for server, joined in step.servers.items():
            if server != our_name and joined:
                before, since = servers.get((room_nid, server), (0, last))
                servers[room_nid, server] = (before + joined, since)
    kept = [(*key, nid) for key, nid in state.items() if nid is not None]
    gone = [key for key, nid in state.items() if nid is None]
    await tx.execute(
        _WRITE_STATE,
        [node[0] for node in nodes],
        [node[1] for node in nodes],
        [node[2] for node in nodes],
        [room_nid for room_nid, _ in gone],
        [key_nid for _, key_nid in gone],
        [room_nid for room_nid, _, _ in kept],
        [key_nid for _, key_nid, _ in kept],
        [event_nid for _, _, event_nid in kept],
        [room_nid for room_nid, _ in members],
        [user_id for _, user_id in members],
        [membership for membership, _, _ in members.values()],
        [nid for _, nid, _ in members.values()],
        [position for _, _, position in members.values()],
        [user_id.endswith(":" + our_name) for _, user_id in members],
        [room_nid for room_nid, _ in servers],
        [server for _, server in servers],
        [joined for joined, _ in servers.values()],
        [since for _, since in servers.values()],
    )


async def _write_edges(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    for _, step in steps:
        if step.missing:
            await store.insert_backward_edges(tx, step.room.nid, step.missing)
        if step.arrived:
            await store.delete_backward_edges(tx, step.room.nid, step.arrived)


async def _write_redactions(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    pairs = [pair for _, step in steps for pair in step.redactions]
    await tx.execute(
        """
        UPDATE events SET redacted_by = u.redaction
          FROM unnest($1::bigint[], $2::bigint[]) AS u (target, redaction)
         WHERE event_nid = u.target AND redacted_by IS NULL
        """,
        [target for target, _ in pairs],
        [redaction for _, redaction in pairs],
    )
    waiting = [(s.room.nid, *w) for _, s in steps for w in s.waiting_redactions]
    await tx.execute(
        """
        INSERT INTO redactions (room_nid, event_nid, redacts)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])
        ON CONFLICT DO NOTHING
        """,
        [room_nid for room_nid, _, _ in waiting],
        [nid for _, nid, _ in waiting],
        [redacts for _, _, redacts in waiting],
    )


# The edges of the event graph, and redactions: consequences of the core itself.
EDGES = Consequence(lambda step: bool(step.missing or step.arrived), _write_edges)
REDACTIONS = Consequence(
    lambda step: bool(step.redactions or step.waiting_redactions), _write_redactions
)
