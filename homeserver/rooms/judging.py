"""Judging events of other servers: checks 4 to 7 on receipt of a PDU.

Before this: the event has the right format (1), its signatures (2) and hashes (3) were
checked, its auth_events are stored, and its prev_events are stored with their states or
the caller brings the state before it (`missing`).

Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import CREATE
from homeserver.rooms.policy import POLICY, is_advised_against
from homeserver.state.states import NodeRow, insert_nodes


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
class Judged:
    """An event with all that was found out about it."""

    event: StoredEvent
    state_events: Mapping[StateKey, Pdu]  # that authorise it, before the event
    create: Pdu | None
    nodes: list[NodeRow]
    awaited: bool  # a stored event names it in its prev_events
    redactions: list[int]  # that wait for it
    is_outlier: bool  # it was stored before, as an outlier
    incoming: Incoming
    problem: Exception | None = None  # why it was not stored after all

    @property
    def is_accepted(self) -> bool:
        """Whether it comes into the room's timeline."""
        return self.event.rejected is None and not self.event.soft_failed


def is_unjudged(event: StoredEvent) -> bool:
    """Whether it is an outlier: stored because others rest on it, not as history."""
    return event.position is None and event.state_before is None


async def judge(
    db: Database,
    live: Live,
    writer: RoomWriter,
    incoming: Incoming,
    known: StoredEvent | None,
) -> Judged:
    """What is to become of an event. Raises: LacksEvents, Unsigned.

    `known`: the event as it is stored, when it is.
    """
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
    return Judged(
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
        incoming=incoming,
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


async def store_aside(db: Database, live: Live, judged: Judged) -> None:
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
