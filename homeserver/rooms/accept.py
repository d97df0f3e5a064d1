"""Judging and storing events of other servers: checks 4 to 7 on receipt of a PDU.

Before this: the event has the right format (1), its signatures (2) and hashes (3) were
checked, its auth_events are stored, and its prev_events are stored with their states or
the caller brings the state before it (`missing`).

Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import asyncpg
import structlog

from federation import auth_rules
from federation.errors import Rejected
from federation.ids import EventId, ServerName
from federation.pdu import Pdu, StateKey
from homeserver.db.pool import Database
from homeserver.events import store
from homeserver.events.sticky import sticky_ms
from homeserver.events.sticky_store import insert_sticky
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.partial import note_servers
from homeserver.live.room import Head, Room
from homeserver.live.steps import Conflict, Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import CREATE, note_redaction
from homeserver.rooms.current import note_state
from homeserver.rooms.extremities import covered_by
from homeserver.rooms.policy import POLICY, is_advised_against
from homeserver.rooms.redact_on_ban import redacted_by
from homeserver.rooms.reversals import reversals
from homeserver.state.states import NodeRow, insert_nodes

_TRIES = 5

log = structlog.get_logger(__name__)


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    SOFT_FAILED = "soft-failed"
    REJECTED = "rejected"
    KNOWN = "known"  # it was judged before


class LacksEvents(Exception):  # noqa: N818 - tells the caller what to fetch
    """The event cannot be judged before these others are stored with their states."""

    def __init__(self, auth_events: Iterable[EventId], prev: Iterable[EventId]) -> None:
        super().__init__("auth_events or prev_events are not stored")
        self.auth_events = tuple(auth_events)
        self.prev_events = tuple(prev)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A PDU on its way in.

    `vouched`: whether the server named by `join_authorised_via_users_server` signed it.
    `outgoing`: whether we are to pass it on to the room's servers: it was handed to us
    as to a resident server.
    `begins`: the room begins here, or after an absence anew, with this event. It is our
    user's join through another server: the state before it becomes the room's state and
    what we knew before counts no more.
    `state_before`: given when prev_events are missing, then `missing` names them.
    `recommended`: what the room's policy server makes of it; None: it was not asked.
    `ours`: it was made here, and is not stored unless it is accepted. `txn` is the
    device and the transaction ID that it was sent under.
    """

    pdu: Pdu
    vouched: bool = True
    recommended: bool | None = None
    ours: bool = False
    txn: tuple[str, str] | None = None
    state_before: int | None = None
    missing: tuple[EventId, ...] = ()
    outgoing: bool = False
    begins: bool = False
    # With `begins`: the state lacks members, and these servers can tell them.
    lacks_members_of: tuple[ServerName, ...] = ()
    whole_root: int | None = None  # the state with all of them, where they are stored


@dataclass(slots=True)
class _Judged:
    """An event with all that was found out about it."""

    event: StoredEvent
    state_events: Mapping[StateKey, Pdu]  # that authorise it, before the event
    create: Pdu | None
    nodes: list[NodeRow]
    awaited: bool  # a stored event names it in its prev_events
    redactions: list[int]  # that wait for it
    is_outlier: bool  # it was stored before, as an outlier


async def accept(
    db: Database, live: Live, room: Room, incoming: Incoming
) -> tuple[Outcome, StoredEvent | None]:
    """Judge an event and store it: accepted, soft-failed or rejected.

    Raises: LacksEvents; Unsigned, when the room's policy server has to be asked;
    Conflict when other processes keep writing to the room.
    """
    for attempt in range(_TRIES):
        with contextlib.suppress(Conflict):
            async with live.retrying(room, attempt):
                async with live.writers.hold(room) as writer:
                    outcome, event, step = await _accept(db, live, writer, incoming)
                    if step is not None:
                        _submit(live, writer, step)
                if step is not None:
                    await _committed(live, step)
                return outcome, event
    raise Conflict


def _submit(live: Live, writer: RoomWriter, step: Step) -> None:
    """Hand the step to the committer. Raises: Overloaded."""
    try:
        writer.submit(step)
    except BaseException:
        _discard(live, step.events)
        raise


def _discard(live: Live, events: Iterable[StoredEvent]) -> None:
    """Forget events that looked as if they were about to be stored."""
    for event in events:
        live.events.discard(event)


async def _committed(live: Live, step: Step) -> None:
    """Wait for the commit. Raises: Conflict, when another process was first."""
    try:
        await step.future
    except BaseException as error:
        _discard(live, step.events)
        if _is_known_meanwhile(error):
            raise Conflict from error
        raise


def _is_known_meanwhile(error: BaseException) -> bool:
    """Whether the event was stored under another number while it was judged."""
    return (
        isinstance(error, asyncpg.UniqueViolationError)
        and error.constraint_name == "events_event_id_key"
    )


async def _accept(
    db: Database, live: Live, writer: RoomWriter, incoming: Incoming
) -> tuple[Outcome, StoredEvent | None, Step | None]:
    pdu = incoming.pdu
    known = await live.events.by_id(pdu.event_id)
    if known is not None and not _is_unjudged(known):
        return Outcome.KNOWN, known, None
    if incoming.begins and writer.room.is_resident:
        # Another process has brought the room in meanwhile: this is one join more.
        incoming = replace(incoming, begins=False)
    judged: _Judged | None = None
    try:
        with writer.unmoved():
            judged = await _judge(db, live, writer, incoming, known)
            if judged.event.rejected is None and not judged.event.soft_failed:
                step = await _step(live, writer, judged, incoming)
                return Outcome.ACCEPTED, judged.event, step
            # What it rests on may be on its way only; it must not outlast it.
            await writer.settled()
            # Nor may it be refused because of a state that is no longer the room's.
            await live.follower.was_behind()
    except BaseException:
        if judged is not None:
            _discard(live, (judged.event,))
        raise
    if not incoming.ours:
        await _store_aside(db, live, judged)
    event = judged.event
    log.info(
        "event not accepted",
        event_id=pdu.event_id,
        room_id=pdu.room_id,
        rejected=event.rejected,
        soft_failed=event.soft_failed,
    )
    outcome = Outcome.SOFT_FAILED if event.rejected is None else Outcome.REJECTED
    return outcome, event, None


def _is_unjudged(event: StoredEvent) -> bool:
    """Whether it is an outlier: stored because others rest on it, not as history."""
    return event.position is None and event.state_before is None


async def _judge(
    db: Database,
    live: Live,
    writer: RoomWriter,
    incoming: Incoming,
    known: StoredEvent | None,
) -> _Judged:
    pdu, room = incoming.pdu, writer.room
    auth = await live.events.by_ids(pdu.auth_events)
    prev = await live.events.by_ids(pdu.prev_events)
    _check_all_there(incoming, auth, prev)
    before = await _state_before(live, room, incoming, prev.values())
    create = await _create(live, writer, before)
    keys = auth_rules.auth_keys(
        pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
    )
    unknown = members_in(auth.values()) if _is_partial(writer, incoming) else {}
    at_event = unknown | await state_pdus_of(live, await live.states.get(before, keys))
    rejected = refusal_by_auth_events(pdu, auth, create, vouched=incoming.vouched)
    if rejected is None and known is not None:
        rejected = known.rejected
    rejected = rejected or refusal(pdu, at_event, create, vouched=incoming.vouched)
    soft_failed = False
    if rejected is None and before != writer.head.state_root and not incoming.begins:
        nids = {k: nid for k in keys if (nid := writer.state_nid(k)) is not None}
        now = unknown | await state_pdus_of(live, nids)
        soft_failed = refusal(pdu, now, create, vouched=incoming.vouched) is not None
    if rejected is None and not soft_failed and not incoming.begins:
        at = writer.state_nid(POLICY)
        soft_failed = await is_advised_against(
            live, room, at, pdu, said=incoming.recommended
        )
    if known is None:
        await live.events.numbers.reserve(1)
    nid = live.events.numbers.next() if known is None else known.nid
    after, nodes = before, list[NodeRow]()
    if pdu.key is not None and rejected is None:
        after, nodes = await live.states.update(before, room.nid, {pdu.key: nid})
    async with db.read() as tx:
        awaited, redactions = await store.read_expectations(tx, room.nid, pdu.event_id)
    return _Judged(
        event=StoredEvent(
            nid=nid,
            room_nid=room.nid,
            pdu=pdu,
            position=None,
            # Those that are missing are linked when they arrive.
            prev_nids=tuple(
                event.nid for e, event in prev.items() if e not in incoming.missing
            ),
            auth_nids=tuple(event.nid for event in auth.values()),
            state_before=before,
            state_after=after,
            room_state=None,
            size=len(pdu.text),
            rejected=rejected,
            soft_failed=soft_failed,
            outgoing=incoming.outgoing,
            txn_device=incoming.txn[0] if incoming.txn else None,
            txn_id=incoming.txn[1] if incoming.txn else None,
        ),
        state_events=at_event,
        create=create,
        nodes=nodes,
        awaited=awaited,
        redactions=redactions,
        is_outlier=known is not None,
    )


def _is_partial(writer: RoomWriter, incoming: Incoming) -> bool:
    if incoming.begins:
        return bool(incoming.lacks_members_of)
    return writer.head.partial is not None


def members_in(auth: Iterable[StoredEvent]) -> dict[StateKey, Pdu]:
    """The memberships that an event's auth_events claim.

    They stand for what a state that lacks members does not say.
    """
    return {
        event.pdu.key: event.pdu
        for event in auth
        if event.rejected is None
        and event.pdu.key is not None
        and event.pdu.type == "m.room.member"
    }


def _check_all_there(
    incoming: Incoming,
    auth: Mapping[EventId, StoredEvent],
    prev: Mapping[EventId, StoredEvent],
) -> None:
    lacking_auth = [e for e in incoming.pdu.auth_events if e not in auth]
    lacking_prev = [
        event_id
        for event_id in incoming.pdu.prev_events
        if event_id not in prev or prev[event_id].state_after is None
    ]
    if incoming.state_before is not None:
        lacking_prev = []
    if lacking_auth or lacking_prev:
        raise LacksEvents(lacking_auth, lacking_prev)


async def _state_before(
    live: Live, room: Room, incoming: Incoming, prev: Iterable[StoredEvent]
) -> int:
    if incoming.begins and incoming.state_before is not None:
        return incoming.state_before
    roots = [event.state_after for event in prev if event.state_after is not None]
    if incoming.state_before is not None:
        roots.append(incoming.state_before)
    return await live.resolver.resolve(room.version, room.nid, roots)


async def _create(live: Live, writer: RoomWriter, before: int) -> Pdu | None:
    nid = writer.state_nid(CREATE)
    if nid is None:  # the room begins
        nid = (await live.states.get(before, (CREATE,))).get(CREATE)
    event = None if nid is None else await live.events.by_nid(nid)
    return None if event is None else event.pdu


async def state_pdus_of(
    live: Live, nids: Mapping[StateKey, int]
) -> dict[StateKey, Pdu]:
    """The events of those numbers, by their keys."""
    events = await live.events.by_nids(nids.values())
    return {key: events[nid].pdu for key, nid in nids.items()}


def refusal_by_auth_events(
    pdu: Pdu,
    auth: Mapping[EventId, StoredEvent],
    create: Pdu | None,
    *,
    vouched: bool,
) -> str | None:
    """Check 4: the rules on the event's own auth_events, as a state."""
    rejected = {e for e, event in auth.items() if event.rejected is not None}
    pdus = [event.pdu for event in auth.values()]
    try:
        auth_rules.check_auth_events(pdu, pdus, rejected, create)
    except Rejected as refused:
        return str(refused)
    state = {p.key: p for p in pdus if p.key is not None}
    return refusal(pdu, state, create, vouched=vouched)


def refusal(
    pdu: Pdu, state: Mapping[StateKey, Pdu], create: Pdu | None, *, vouched: bool
) -> str | None:
    """Checks 5 and 6: the rules on a state; why they refuse the event, if they do."""
    try:
        auth_rules.check(pdu, state, create=create, vouched=vouched)
    except Rejected as refused:
        return str(refused)
    return None


async def refusal_now(live: Live, room: Room, pdu: Pdu) -> str | None:
    """Why the room as it is now refuses a message event, if it does."""
    keys = auth_rules.auth_keys(
        pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
    )
    nids = {key: room.state[key] for key in (*keys, CREATE) if key in room.state}
    state = await state_pdus_of(live, nids)
    return refusal(pdu, state, state.get(CREATE), vouched=True)


async def _store_aside(db: Database, live: Live, judged: _Judged) -> None:
    """Store a rejected or soft-failed event: known, but in nobody's timeline."""
    event = judged.event
    key_nids = {}
    if event.pdu.key is not None:
        interned = await live.states.keys.intern((event.pdu.key,))
        key_nids[event.nid] = interned[event.pdu.key]
    async with db.transaction() as tx:
        if judged.nodes:
            await insert_nodes(tx, judged.nodes)
        if judged.is_outlier:
            await store.judge_outlier(tx, event)
        else:
            await store.insert_events(tx, (event,), key_nids)
        nids = await store.read_nids(tx, (event.event_id,))
        if nids[event.event_id] != event.nid:
            raise Conflict  # another process has stored it meanwhile
        if event.rejected is None and sticky_ms(event.pdu) is not None:
            # Perhaps its sender may send it after all, before it sticks no longer.
            await insert_sticky(tx, ((event, None),))
    live.events.put(event)


async def _step(
    live: Live, writer: RoomWriter, judged: _Judged, incoming: Incoming
) -> Step:
    """The step that puts the event into the room's timeline."""
    event, room, head = judged.event, writer.room, writer.head
    covered = await covered_by(live, event)
    extremities = [
        n for n in head.extremities if n not in covered and not incoming.begins
    ]
    if not judged.awaited or not extremities:
        extremities.append(event.nid)
    live.events.put(event)
    at_heads = await live.events.by_nids(extremities)
    resolved = await live.resolver.explain(
        room.version,
        room.nid,
        [e.state_after for e in at_heads.values() if e.state_after is not None],
    )
    root = resolved.root
    event = replace(event, room_state=root)
    live.events.put(event)
    judged.event = event
    # An outlier's number may be tried several times, so it guards nothing.
    await live.events.numbers.reserve(1)
    step = Step(
        room=room,
        expected=head.guard,
        head=Head(
            guard=live.events.numbers.next(),
            extremities=tuple(extremities),
            state_root=root,
            depth=max(head.depth, event.pdu.depth),
            partial=head.partial,
        ),
        events=[event],
        nodes=judged.nodes,
        missing=[(event_id, event.nid) for event_id in incoming.missing],
        arrived=[event.event_id] if judged.awaited else [],
    )
    if event.pdu.key is not None:
        interned = await live.states.keys.intern((event.pdu.key,))
        step.key_nids[event.nid] = interned[event.pdu.key]
    await note_state(live, writer, step, root)
    if event.state_before != head.state_root and not incoming.begins:
        step.reversals = await reversals(
            live, event, step.state, writer.state_nid, resolved
        )
    if incoming.begins:
        servers = incoming.lacks_members_of
        step.head = replace(step.head, partial=frozenset(servers) or None)
        step.awaits_members, step.is_whole = servers, not servers
        step.whole_root = incoming.whole_root
        note_servers(step, head)
    await _note_redactions(live, step, judged)
    return step


async def _note_redactions(live: Live, step: Step, judged: _Judged) -> None:
    event = judged.event
    if event.pdu.redacts is not None:
        target = await live.events.by_id(event.pdu.redacts)
        if target is None or target.room_nid != event.room_nid:
            step.waiting_redactions.append((event.nid, event.pdu.redacts))
        elif auth_rules.may_redact(
            event.pdu, target.pdu, judged.state_events, create=judged.create
        ):
            note_redaction(step, target, event)
    targets = await redacted_by(live, event, judged.state_events, judged.create)
    for target in targets:
        note_redaction(step, target, event)
    for redaction in (await live.events.by_nids(judged.redactions)).values():
        keys = auth_rules.auth_keys(
            event.pdu.version,
            redaction.pdu.type,
            None,
            redaction.pdu.sender,
            redaction.pdu.content,
        )
        found = await live.states.get(redaction.state_before or 0, keys)
        state = await state_pdus_of(live, found)
        if redaction.is_visible and auth_rules.may_redact(
            redaction.pdu, event.pdu, state, create=judged.create
        ):
            note_redaction(step, event, redaction)
            break
