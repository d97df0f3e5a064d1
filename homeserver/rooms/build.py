"""Building events of our own users upon a room, and the step that stores them.

A Builder holds the room's writer. Each event it adds builds on the one before, so a
room can be created, or a state event sent, in one step.

Spec: server-server-api#pdus, server-server-api#auth-events-selection
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from federation import auth_rules, canonical_json, signatures
from federation.canonical_json import JsonObject
from federation.errors import Malformed, TooLarge
from federation.ids import UserId, parse_user_id, server_of
from federation.pdu import (
    MAX_FIELD_BYTES,
    MAX_PDU_BYTES,
    MAX_PREV_EVENTS,
    Pdu,
    StateKey,
    reference_pairs,
    stored_pdu,
)
from federation.room_versions import EventIdFormat
from federation.signatures import SigningKey
from homeserver.events.sticky import STICKY
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.live.room import Head
from homeserver.live.steps import Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.redact_on_ban import redacted_by

MAX_DEPTH: Final = 2**53 - 1
CREATE: Final = ("m.room.create", "")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a client wants to say; the builder adds the rest.

    `content` has been through `canonical_json.check`. `txn` is the device and the
    transaction ID that it was sent under, `sticky_ms` how long it is to be sticky.
    """

    type: str
    sender: UserId
    content: JsonObject
    state_key: str | None = None
    redacts: str | None = None
    origin_server_ts: int | None = None
    txn: tuple[str, str] | None = None
    sticky_ms: int | None = None


class Builder:
    """Events being built upon a room; becomes one Step."""

    def __init__(
        self, live: Live, key: SigningKey, writer: RoomWriter, now_ms: int
    ) -> None:
        self._live = live
        self._key = key
        self._writer = writer
        self._now_ms = now_ms
        self.room = writer.room
        self._head = writer.head
        self._step = Step(self.room, self._head.guard, self._head, [])

    # ── The room as the next event sees it ───────────────────────────────────────

    def state_nid(self, key: StateKey) -> int | None:
        """The number of the event at that key of the state."""
        if key in self._step.state:
            return self._step.state[key]
        return self._writer.state_nid(key)

    async def state_event(self, key: StateKey) -> StoredEvent | None:
        """The event at that key of the state."""
        nid = self.state_nid(key)
        return None if nid is None else await self._live.events.by_nid(nid)

    def is_joined(self, user_id: UserId) -> bool:
        """Whether the user is joined, as of the next event."""
        if user_id in self._step.members:
            return self._step.members[user_id][0] == "join"
        return self._writer.membership(user_id) == "join"

    # ── Adding ───────────────────────────────────────────────────────────────────

    async def add(self, new: NewEvent) -> StoredEvent:
        """Build, authorise, hash and sign an event and put it on top.

        Raises: Rejected when the rules refuse it, TooLarge, Malformed.
        """
        draft = await self.draft(new)
        auth_rules.check(draft.pdu, draft.state, create=draft.create)
        if len(draft.prev_nids) < len(self._head.extremities):
            await self._check_by_current_state(draft)
        event = await self._store(draft, new)
        if event.pdu.redacts is not None:
            await self._redact(event, draft)
        for target in await redacted_by(self._live, event, draft.state, draft.create):
            note_redaction(self._step, target, event)
        return event

    async def draft(self, new: NewEvent) -> "Draft":
        """Build, hash and sign an event without putting it on top."""
        version = self.room.version
        prev = await self._prev_events()
        keys = auth_rules.auth_keys(
            version, new.type, new.state_key, new.sender, new.content
        )
        if len(prev) < len(self._head.extremities):
            # Others judge it by the state after what it cites, not by all that we have.
            before = await self._state_after(tuple(prev))
            nids = await self._live.states.get(before, keys)
        else:
            nids = {k: nid for k in keys if (nid := self.state_nid(k)) is not None}
        create_nid = self.state_nid(CREATE)
        wanted = {*nids.values(), *(() if create_nid is None else (create_nid,))}
        events = await self._live.events.by_nids(wanted)
        state = {k: events[nid].pdu for k, nid in nids.items()}
        create = None if create_nid is None else events[create_nid].pdu
        raw = self._raw(new, prev, state.values())
        signed = signatures.hash_and_sign_event(
            raw, version, self._live.our_name, self._key
        )
        size = _check_sizes(signed)
        event_id = signatures.event_id_of(signed, version)
        room_id = self.room.room_id
        return Draft(
            pdu=stored_pdu(signed, version, event_id, room_id),
            prev_nids=tuple(prev),
            auth_nids=tuple(nids.values()),
            state=state,
            create=create,
            size=size,
        )

    async def _check_by_current_state(self, draft: "Draft") -> None:
        """What servers check that have all branches: else it would be soft-failed.

        Raises: Rejected.
        """
        pdu = draft.pdu
        keys = auth_rules.auth_keys(
            pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
        )
        nids = {k: nid for k in keys if (nid := self.state_nid(k)) is not None}
        events = await self._live.events.by_nids(nids.values())
        state = {key: events[nid].pdu for key, nid in nids.items()}
        auth_rules.check(pdu, state, create=draft.create)

    async def _prev_events(self) -> dict[int, StoredEvent]:
        """The extremities to build on: the deepest, when there are too many."""
        events = await self._live.events.by_nids(self._head.extremities)
        if len(events) > MAX_PREV_EVENTS:
            deepest = sorted(events.values(), key=lambda e: -e.pdu.depth)
            events = {event.nid: event for event in deepest[:MAX_PREV_EVENTS]}
        return events

    def _raw(
        self,
        new: NewEvent,
        prev: Mapping[int, StoredEvent],
        auth: Iterable[Pdu],
    ) -> JsonObject:
        version = self.room.version
        content = new.content
        raw: JsonObject = {
            "type": new.type,
            "sender": new.sender,
            "content": content,
            "depth": min(self._head.depth + 1, MAX_DEPTH),
            "origin_server_ts": (
                self._now_ms if new.origin_server_ts is None else new.origin_server_ts
            ),
            "prev_events": reference_pairs((e.pdu for e in prev.values()), version),
            "auth_events": reference_pairs(auth, version),
        }
        if new.state_key is not None:
            raw["state_key"] = new.state_key
        if new.sticky_ms is not None:
            raw[STICKY] = {"duration_ms": new.sticky_ms}
        if new.redacts is not None:
            if version.redacts_in_content:
                raw["content"] = {**content, "redacts": new.redacts}
            else:
                raw["redacts"] = new.redacts
        is_create = (new.type, new.state_key) == CREATE
        if not (is_create and version.room_id_is_create_hash):
            raw["room_id"] = self.room.room_id
        if version.event_id_format is EventIdFormat.FROM_SERVER:
            raw["event_id"] = f"${secrets.token_urlsafe(18)}:{self._live.our_name}"
        return raw

    async def _store(self, draft: "Draft", new: NewEvent) -> StoredEvent:
        live, step, head = self._live, self._step, self._head
        await live.events.numbers.reserve(1)
        nid = live.events.numbers.next()
        pdu = draft.pdu
        before = head.state_root
        left = tuple(n for n in head.extremities if n not in draft.prev_nids)
        if left:  # more than fit: the state before it is that of those it cites
            before = await self._state_after(draft.prev_nids)
        after = before
        if pdu.key is not None:
            after, nodes = await live.states.update(
                before, self.room.nid, {pdu.key: nid}
            )
            step.nodes += nodes
        event = StoredEvent(
            nid=nid,
            room_nid=self.room.nid,
            pdu=pdu,
            position=None,
            prev_nids=draft.prev_nids,
            auth_nids=draft.auth_nids,
            state_before=before,
            state_after=after,
            room_state=after,
            size=draft.size,
            outgoing=True,
            txn_device=new.txn[0] if new.txn else None,
            txn_id=new.txn[1] if new.txn else None,
        )
        live.events.put(event)
        root = after
        if left:
            root = await self._state_with(left, after)
            event = replace(event, room_state=root)
            live.events.put(event)
        step.events.append(event)
        if pdu.key is not None:
            step.key_nids[nid] = (await live.states.keys.intern((pdu.key,)))[pdu.key]
        if left:
            await self._set_states(root)
        elif pdu.key is not None:
            self._set_state(pdu.key, step.key_nids[nid], event)
        self._head = Head(
            guard=nid,
            extremities=(*left, nid),
            state_root=root,
            depth=pdu.depth,
            partial=self._head.partial,
        )
        step.head = self._head
        return event

    async def _state_with(self, left: tuple[int, ...], after: int) -> int:
        """The room's state over branches that are not merged and the merged ones."""
        events = await self._live.events.by_nids(left)
        roots = [e.state_after for e in events.values() if e.state_after is not None]
        return await self._live.resolver.resolve(
            self.room.version, self.room.nid, [*roots, after]
        )

    async def _state_after(self, prev_nids: tuple[int, ...]) -> int:
        events = await self._live.events.by_nids(prev_nids)
        roots = [e.state_after for e in events.values() if e.state_after is not None]
        return await self._live.resolver.resolve(
            self.room.version, self.room.nid, roots
        )

    def _set_state(self, key: StateKey, key_nid: int, event: StoredEvent) -> None:
        step = self._step
        if key[0] == "m.room.member":
            note_membership(step, self.is_joined, key[1], event.pdu, event.nid)
        step.state[key] = event.nid
        step.state_key_nids[key] = key_nid

    async def _set_states(self, root: int) -> None:
        """Note all that differs between the state so far and that one."""
        live, step = self._live, self._step
        difference = await live.states.diff(self._head.state_root, root)
        key_nids = await live.states.keys.nids(difference)
        nids = {nid for pair in difference.values() for nid in pair if nid is not None}
        events = await live.events.by_nids(nids)
        for key, (old, new) in difference.items():
            if new is not None:
                self._set_state(key, key_nids[key], events[new])
                continue
            if key[0] == "m.room.member" and old is not None:
                note_membership(step, self.is_joined, key[1], None, old)
            step.state[key] = None
            step.state_key_nids[key] = key_nids[key]

    async def _redact(self, event: StoredEvent, draft: "Draft") -> None:
        target = await self._live.events.by_id(event.pdu.redacts or "")
        if target is None or target.room_nid != self.room.nid:
            self._step.waiting_redactions.append((event.nid, event.pdu.redacts or ""))
        elif auth_rules.may_redact(
            event.pdu, target.pdu, draft.state, create=draft.create
        ):
            note_redaction(self._step, target, event)

    # ── Done ─────────────────────────────────────────────────────────────────────

    def submit(self) -> Step:
        """Hand the events to the committer; await the step's future for the result."""
        step = self._step
        events = self._live.events

        def discard(_: object) -> None:
            if step.future.cancelled() or step.future.exception() is not None:
                for event in step.events:
                    events.discard(event)

        self._writer.submit(step)
        step.future.add_done_callback(discard)
        return step


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that is complete and signed, and what its authorization rests on."""

    pdu: Pdu
    prev_nids: tuple[int, ...]
    auth_nids: tuple[int, ...]
    state: dict[StateKey, Pdu]
    create: Pdu | None
    size: int  # bytes of its JSON


def note_membership(
    step: Step,
    was_joined: Callable[[UserId], bool],
    state_key: str,
    pdu: Pdu | None,
    nid: int,
) -> None:
    """Note in the step what a member event in the current state changes.

    `pdu` is None when the state has lost its entry: the user has left.
    """
    try:
        user_id = parse_user_id(state_key)
    except Malformed:
        return  # nobody's membership
    membership = (pdu.membership if pdu else None) or "leave"
    joins = (membership == "join") - was_joined(user_id)
    step.servers[server_of(user_id)] += joins
    step.members[user_id] = (membership, nid)


def note_redaction(step: Step, target: StoredEvent, redaction: StoredEvent) -> None:
    """Note in the step that an event is redacted."""
    step.redactions.append((target.nid, redaction.nid))
    step.changes.append(Change(Kind.REDACTED, room_nid=target.room_nid, ref=target.nid))


def _check_sizes(event: JsonObject) -> int:
    for name in ("type", "state_key", "sender", "room_id", "event_id"):
        value = event.get(name)
        if isinstance(value, str) and len(value.encode()) > MAX_FIELD_BYTES:
            raise TooLarge(f"{name} is longer than {MAX_FIELD_BYTES} bytes")
    size = len(canonical_json.encode_strict(event))
    if size > MAX_PDU_BYTES:
        raise TooLarge(f"the event is larger than {MAX_PDU_BYTES} bytes")
    return size
