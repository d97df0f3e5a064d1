"""Rooms that two real Synapses made, replayed event by event through our own rules.

`recorded/record.py` made the files and describes them; `recorded/story.py` is what
happens in the rooms: joins, bans, knocks, redactions, and four times a fork.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from federation import auth_rules
from federation.canonical_json import JsonObject
from federation.errors import BadSignature, Malformed, Rejected
from federation.ids import EventId, ServerName
from federation.pdu import Pdu, StateKey, parse_pdu
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.signatures import (
    check_event,
    decode_base64,
    has_valid_content_hash,
    key_ids_of,
)
from federation.state_resolution import Known, resolve_states, run

RECORDED = Path(__file__).parent / "recorded"
State = dict[StateKey, EventId]


@dataclass(frozen=True)
class Line:
    event_id: str
    event: JsonObject
    rejected: str = ""
    soft_failed: bool = False
    state_after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Room:
    version: RoomVersion
    room_id: str
    servers: dict[ServerName, dict[str, str]]
    lines: list[Line]
    current_state: list[str]


@cache
def recorded(version: str) -> Room:
    text = (RECORDED / f"v{version}.jsonl").read_text()
    first, *lines, last = (json.loads(line) for line in text.splitlines())
    return Room(
        ROOM_VERSIONS[version],
        first["room_id"],
        first["servers"],
        [Line(**line) for line in lines],
        last["current_state"],
    )


@pytest.fixture(params=ROOM_VERSIONS)
def room(request: pytest.FixtureRequest) -> Room:
    return recorded(request.param)


def pdus_of(room: Room) -> dict[EventId, Pdu]:
    pdus = (parse_pdu(line.event, room.version) for line in room.lines)
    return {pdu.event_id: pdu for pdu in pdus}


class Replay:
    """The room as a server knows it that received the events in this order."""

    def __init__(self, room: Room) -> None:
        self.version = room.version
        self.events: dict[EventId, Known] = {}
        self.after: dict[EventId, State] = {}
        self.extremities: set[EventId] = set()
        self.soft_failed: set[EventId] = set()
        self.create: Pdu | None = None

    def resolved(self, events: Iterable[EventId]) -> State:
        """The state after all of these events."""
        states = [self.after[event_id] for event_id in sorted(events)]
        return run(resolve_states(self.version, states), self.events)

    def pdus(self, state: Mapping[StateKey, EventId]) -> dict[StateKey, Pdu]:
        return {key: self.events[event_id].pdu for key, event_id in state.items()}

    def auth_state(self, pdu: Pdu) -> dict[StateKey, Pdu]:
        events = (self.events[event_id].pdu for event_id in pdu.auth_events)
        return {event.key: event for event in events if event.key is not None}

    def check(self, pdu: Pdu, state: Mapping[StateKey, Pdu]) -> None:
        auth_rules.check(pdu, state, create=self.create)

    def add(self, pdu: Pdu, before: State, *, soft_failed: bool = False) -> None:
        if pdu.is_create:
            self.create = pdu
        self.events[pdu.event_id] = Known(pdu)
        changed = {} if pdu.key is None else {pdu.key: pdu.event_id}
        self.after[pdu.event_id] = before | changed
        if soft_failed:
            self.soft_failed.add(pdu.event_id)
        else:
            self._build_on(pdu.prev_events)
            self.extremities.add(pdu.event_id)

    def _build_on(self, previous: Iterable[EventId]) -> None:
        """What an event builds on ends being an extremity, also behind soft-failed.

        A soft-failed event is no extremity and ends none, until an event that is not
        soft-failed builds on it.
        """
        left = list(previous)
        while left:
            event_id = left.pop()
            self.extremities.discard(event_id)
            if event_id in self.soft_failed:
                left += self.events[event_id].pdu.prev_events


def replay(room: Room) -> Iterable[tuple[Replay, Line, Pdu, State]]:
    """Each event with what was known before it and the state that it met."""
    known = Replay(room)
    for line in room.lines:
        pdu = parse_pdu(line.event, room.version)
        before = known.resolved(pdu.prev_events)
        yield known, line, pdu, before
        known.add(pdu, before, soft_failed=line.soft_failed)


def ids_of(state: State) -> list[str]:
    return sorted(state.values())


def test_every_event_is_parsed_and_named_as_its_server_named_it(room: Room) -> None:
    assert list(pdus_of(room)) == [line.event_id for line in room.lines]
    assert {pdu.room_id for pdu in pdus_of(room).values()} == {room.room_id}


def test_every_content_hash_is_right_until_something_changes(room: Room) -> None:
    for line in room.lines:
        assert has_valid_content_hash(line.event)
        assert not has_valid_content_hash({**line.event, "depth": 10**6})


def test_every_needed_signature_is_there_and_verifies(room: Room) -> None:
    signers = set()
    for pdu in pdus_of(room).values():
        for server in required(pdu):
            signers.add(server)
            for key_id in key_ids_of(pdu.json, server):
                public = decode_base64(room.servers[server][key_id])
                check_event(pdu.json, room.version, server, key_id, public)
    assert signers == set(room.servers)


def required(pdu: Pdu) -> set[ServerName]:
    servers = set(pdu.required_signers())
    voucher = pdu.content.get("join_authorised_via_users_server")
    if isinstance(voucher, str) and pdu.membership == "join":
        servers.add(ServerName(voucher.partition(":")[2]))
    assert all(key_ids_of(pdu.json, server) for server in servers)
    return servers


def test_no_signature_survives_a_change_of_what_it_covers(room: Room) -> None:
    for pdu in pdus_of(room).values():
        forged = {**pdu.json, "origin_server_ts": 1}
        for server in pdu.required_signers():
            for key_id in key_ids_of(pdu.json, server):
                public = decode_base64(room.servers[server][key_id])
                with pytest.raises(BadSignature):
                    check_event(forged, room.version, server, key_id, public)


def test_a_redacted_event_keeps_its_name_and_signatures(room: Room) -> None:
    for pdu in pdus_of(room).values():
        redacted = parse_pdu(pdu.redacted().json, room.version)
        assert redacted.event_id == pdu.event_id
        for server in pdu.required_signers():
            for key_id in key_ids_of(redacted.json, server):
                public = decode_base64(room.servers[server][key_id])
                check_event(redacted.json, room.version, server, key_id, public)


def test_the_rules_allow_what_synapse_allowed(room: Room) -> None:
    for known, line, pdu, before in replay(room):
        named = [known.events[event_id].pdu for event_id in pdu.auth_events]
        auth_rules.check_auth_events(pdu, named, frozenset(), known.create)
        known.check(pdu, known.auth_state(pdu))
        known.check(pdu, known.pdus(before))
        assert not line.rejected


def test_we_would_have_named_the_same_auth_events(room: Room) -> None:
    for _, _, pdu, before in replay(room):
        keys = auth_rules.auth_keys(
            room.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
        )
        ours = {before[key] for key in keys if key in before}
        assert ours == set(pdu.auth_events), pdu.json


def test_branches_join_to_the_state_that_synapse_computed(room: Room) -> None:
    joined = 0
    for known, line, pdu, before in replay(room):
        if len(pdu.prev_events) > 1:
            changed = {} if pdu.key is None else {pdu.key: pdu.event_id}
            assert ids_of(before | changed) == line.state_after, pdu.event_id
            joined += len({tuple(ids_of(known.after[e])) for e in pdu.prev_events}) > 1
    assert joined >= 4, "the story has four quarrels"


def test_the_order_of_branches_does_not_matter(room: Room) -> None:
    for known, _, pdu, before in replay(room):
        states = [known.after[event_id] for event_id in pdu.prev_events]
        for turned in (states[::-1], states[1:] + states[:1]):
            assert run(resolve_states(room.version, turned), known.events) == before


def test_the_same_events_are_soft_failed(room: Room) -> None:
    refused: set[str] = set()
    for known, _, pdu, _ in replay(room):
        current = known.pdus(known.resolved(known.extremities))
        try:
            known.check(pdu, current)
        except Rejected:
            refused.add(pdu.event_id)
    soft_failed = {line.event_id for line in room.lines if line.soft_failed}
    assert soft_failed
    assert soft_failed <= refused
    # send_join, send_leave and send_knock do not ask for the current state.
    assert all(is_of_oneself(room, event_id) for event_id in refused - soft_failed)


def is_of_oneself(room: Room, event_id: str) -> bool:
    event = next(line.event for line in room.lines if line.event_id == event_id)
    return event.get("state_key") == event["sender"]


def test_the_room_ends_in_the_state_that_synapse_ended_in(room: Room) -> None:
    known = Replay(room)
    for known, line, pdu, before in replay(room):
        known.add(pdu, before, soft_failed=line.soft_failed)
    assert ids_of(known.resolved(known.extremities)) == room.current_state


def test_a_rule_breaker_is_refused_at_every_place_of_the_story(room: Room) -> None:
    """Nobody who is not in the room may speak, whatever the state is."""
    for known, _, pdu, before in replay(room):
        if pdu.is_create:
            continue
        foreign: dict[str, Any] = {
            **pdu.json,
            "type": "m.room.message",
            "sender": "@nobody:elsewhere.example",
        }
        foreign.pop("state_key", None)
        if room.version.event_id_format.value == "v1":
            foreign["event_id"] = "$forged:elsewhere.example"
        try:
            forged = parse_pdu(foreign, room.version)
        except Malformed:
            pytest.fail("the forged event must be refused by a rule, not by its form")
        with pytest.raises(Rejected):
            known.check(forged, known.pdus(before))
