"""Rooms made of real PDUs (real hashes and event IDs, dummy signatures) for tests.

A Room is the event graph as somebody who saw all of it knows it. A Replica is one
server's copy: it gets events one by one and judges them on its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from federation.auth_rules import auth_keys, check, check_auth_events
from federation.canonical_json import JsonObject
from federation.errors import Rejected
from federation.ids import EventId, UserId, server_of
from federation.pdu import Pdu, StateKey, parse_pdu, reference_pairs
from federation.room_versions import EventIdFormat, RoomVersion, find
from federation.signatures import content_hash
from federation.state_resolution import Known, resolve_states, run

State = dict[StateKey, EventId]
K = TypeVar("K")
V = TypeVar("V")

ALICE = UserId("@alice:a.test")
BOB = UserId("@bob:b.test")
CAROL = UserId("@carol:c.test")
DAVE = UserId("@dave:a.test")
EVE = UserId("@eve:b.test")

CREATE: StateKey = ("m.room.create", "")
POWER: StateKey = ("m.room.power_levels", "")
RULES: StateKey = ("m.room.join_rules", "")
TOPIC: StateKey = ("m.room.topic", "")
NAME: StateKey = ("m.room.name", "")


def member(user: str) -> StateKey:
    return ("m.room.member", user)


class Asked(dict[K, V]):
    """A store that remembers which of its events it was asked for."""

    def __init__(self, events: Mapping[K, V]) -> None:
        super().__init__(events)
        self.touched: set[K] = set()

    def __getitem__(self, key: K) -> V:
        self.touched.add(key)
        return super().__getitem__(key)


def version_of(identifier: str) -> RoomVersion:
    version = find(identifier)
    assert version is not None
    return version


def make_pdu(
    version: RoomVersion,
    *,
    sender: str,
    kind: str,
    content: JsonObject,
    state_key: str | None = None,
    prev: Sequence[Pdu] = (),
    auth: Sequence[Pdu] = (),
    ts: int = 0,
    depth: int | None = None,
    room_id: str | None = None,
    event_id: str | None = None,
) -> Pdu:
    """One event with right hashes, whether it is allowed or not."""
    event: JsonObject = {
        "type": kind,
        "sender": sender,
        "content": content,
        "origin_server_ts": ts,
        "depth": max((p.depth for p in prev), default=0) + 1
        if depth is None
        else depth,
        "prev_events": reference_pairs(prev, version),
        "auth_events": reference_pairs(auth, version),
        "signatures": {server_of(UserId(sender)): {"ed25519:1": "dummy"}},
    }
    if state_key is not None:
        event["state_key"] = state_key
    if room_id is not None:
        event["room_id"] = room_id
    if version.event_id_format is EventIdFormat.FROM_SERVER:
        event["event_id"] = event_id or f"$dummy:{server_of(UserId(sender))}"
    event["hashes"] = {"sha256": content_hash(event)}
    if version.event_id_format is EventIdFormat.FROM_SERVER and event_id is None:
        # A name that says what the event is, so that equal events are one event.
        name = content_hash(event).replace("+", "_").replace("/", "-")
        event["event_id"] = f"${name}:{server_of(UserId(sender))}"
        event["hashes"] = {"sha256": content_hash(event)}
    return parse_pdu(event, version)


@dataclass
class Replica:
    """What one server knows of the room, and the states it worked out."""

    version: RoomVersion
    events: dict[EventId, Known] = field(default_factory=dict)
    before: dict[EventId, State] = field(default_factory=dict)
    after: dict[EventId, State] = field(default_factory=dict)
    extremities: set[EventId] = field(default_factory=set)

    def resolve(self, states: Sequence[Mapping[StateKey, EventId]]) -> State:
        return run(resolve_states(self.version, states), self.events)

    def pdu(self, event_id: EventId) -> Pdu:
        return self.events[event_id].pdu

    def pdus(self, state: Mapping[StateKey, EventId]) -> dict[StateKey, Pdu]:
        return {key: self.pdu(event_id) for key, event_id in state.items()}

    def state_at(self, events: Iterable[EventId]) -> State:
        """The state after all these events together."""
        states = [self.after[event_id] for event_id in events]
        return self.resolve(states) if states else {}

    def current(self) -> State:
        return self.state_at(sorted(self.extremities))

    def create_of(self, event: Pdu) -> Pdu | None:
        known = self.events.get(EventId("$" + event.room_id[1:]))
        return None if known is None else known.pdu

    def why_rejected(self, event: Pdu, before: State) -> Rejected | None:
        """Receipt checks 4 and 5: by its auth events, by the state before it."""
        auth = [self.pdu(one) for one in event.auth_events]
        rejected = {one for one, known in self.events.items() if known.rejected}
        create = self.create_of(event)
        try:
            check_auth_events(event, auth, rejected, create)
            by_key = {one.key: one for one in auth if one.key is not None}
            check(event, by_key, create=create)
            check(event, self.pdus(before), create=create)
        except Rejected as refusal:
            return refusal
        return None

    def receive(self, event: Pdu) -> bool:
        """Judge and keep an event whose references are here; whether it is accepted."""
        if event.event_id in self.events:
            return not self.events[event.event_id].rejected
        before = self.state_at(event.prev_events)
        rejected = self.why_rejected(event, before) is not None
        soft_failed = False
        if not rejected and self.extremities:
            try:
                current = self.pdus(self.current())
                check(event, current, create=self.create_of(event))
            except Rejected:
                soft_failed = True
        self.events[event.event_id] = Known(event, rejected)
        self.before[event.event_id] = before
        after = dict(before)
        if event.key is not None and not rejected:
            after[event.key] = event.event_id
        self.after[event.event_id] = after
        if not rejected and not soft_failed:
            self.extremities -= set(event.prev_events)
            self.extremities.add(event.event_id)
        return not rejected

    def leaves(self) -> list[EventId]:
        """Accepted events that no accepted event follows: the same on every server."""
        accepted = [k.pdu for k in self.events.values() if not k.rejected]
        followed = {prev for event in accepted for prev in event.prev_events}
        return sorted(e.event_id for e in accepted if e.event_id not in followed)

    def selected(
        self,
        state: State,
        kind: str,
        state_key: str | None,
        sender: str,
        content: JsonObject,
    ) -> list[Pdu]:
        """The auth events of an event that is sent in that state."""
        keys = auth_keys(self.version, kind, state_key, sender, content)
        return [self.pdu(state[key]) for key in keys if key in state]


class Room(Replica):
    """A room that a test tells event by event; each event is a second younger."""

    def __init__(self, version: str, creator: str = ALICE, **content: object) -> None:
        super().__init__(version_of(version))
        self.clock = 1_000_000
        self.room_id: str | None = None
        if not self.version.room_id_is_create_hash:
            self.room_id = f"!room:{server_of(UserId(creator))}"
        made: JsonObject = {"room_version": version, **content}  # type: ignore[dict-item]
        if not self.version.creator_is_sender:
            made["creator"] = creator
        self.create = self.send(creator, "m.room.create", made, "", after=[])
        self.room_id = self.create.room_id

    def send(
        self,
        sender: str,
        kind: str,
        content: JsonObject,
        state_key: str | None = None,
        *,
        after: Sequence[Pdu] | None = None,
        auth: Sequence[Pdu] | None = None,
        ts: int | None = None,
        depth: int | None = None,
        allowed: bool = True,
    ) -> Pdu:
        """Add an event after those named, or after the last ones; expect it allowed."""
        prev = (
            [self.pdu(e) for e in sorted(self.extremities)] if after is None else after
        )
        before = self.state_at([p.event_id for p in prev])
        if auth is None:
            auth = self.selected(before, kind, state_key, sender, content)
        self.clock += 1000
        event = make_pdu(
            self.version,
            sender=sender,
            kind=kind,
            content=content,
            state_key=state_key,
            prev=prev,
            auth=auth,
            ts=self.clock if ts is None else ts,
            depth=depth,
            room_id=self.room_id,
        )
        refusal = self.why_rejected(event, before)
        assert (refusal is None) is allowed, refusal
        self.receive(event)
        return event

    # ── dialogue ────────────────────────────────────────────────────────────────────

    def member(self, sender: str, target: str, membership: str, **how: object) -> Pdu:
        content: JsonObject = {"membership": membership}
        extra = how.pop("content", {})
        assert isinstance(extra, dict)
        content.update(extra)
        return self.send(sender, "m.room.member", content, target, **how)  # type: ignore[arg-type]

    def join(self, user: str, **how: object) -> Pdu:
        return self.member(user, user, "join", **how)

    def leave(self, user: str, **how: object) -> Pdu:
        return self.member(user, user, "leave", **how)

    def ban(self, sender: str, target: str, **how: object) -> Pdu:
        return self.member(sender, target, "ban", **how)

    def kick(self, sender: str, target: str, **how: object) -> Pdu:
        return self.member(sender, target, "leave", **how)

    def invite(self, sender: str, target: str, **how: object) -> Pdu:
        return self.member(sender, target, "invite", **how)

    def levels(self, sender: str, users: Mapping[str, int], **how: object) -> Pdu:
        """Set power levels; creators of version 12 are left out, as they must."""
        if self.version.privileged_creators:
            users = {u: p for u, p in users.items() if u != self.create.sender}
        content: JsonObject = {"users": dict(users)}
        return self.send(sender, "m.room.power_levels", content, "", **how)  # type: ignore[arg-type]

    def rules(self, sender: str, rule: str, **how: object) -> Pdu:
        return self.send(sender, "m.room.join_rules", {"join_rule": rule}, "", **how)  # type: ignore[arg-type]

    def topic(self, sender: str, topic: str, **how: object) -> Pdu:
        return self.send(sender, "m.room.topic", {"topic": topic}, "", **how)  # type: ignore[arg-type]

    def message(self, sender: str, body: str = "hello", **how: object) -> Pdu:
        return self.send(sender, "m.room.message", {"body": body}, **how)  # type: ignore[arg-type]

    # ── questions ───────────────────────────────────────────────────────────────────

    def merged(self, *events: Pdu) -> dict[StateKey, Pdu]:
        """The state after these branches have met."""
        return self.pdus(self.state_at([event.event_id for event in events]))

    def membership(self, user: str, *events: Pdu) -> str | None:
        found = self.merged(*events).get(member(user))
        return None if found is None else found.membership


def public_room(version: str, users: Mapping[str, int], creator: str = ALICE) -> Room:
    """A room of these users and powers, in which everybody may send everything."""
    room = Room(version, creator)
    room.join(creator)
    room.levels(creator, {creator: 100, **{u: p for u, p in users.items() if p}})
    room.rules(creator, "public")
    for user in users:
        if user != creator:
            room.join(user)
    return room
