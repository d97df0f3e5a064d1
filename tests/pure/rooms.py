"""Rooms of any version whose state a test sets by hand, event by event.

Events are parsed as if they had come from another server; they are not signed, and no
rule is asked before one takes its place in the state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from federation import auth_rules
from federation.auth_rules.rules import Rule, numbers
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Rejected
from federation.pdu import Pdu, StateKey, parse_pdu
from federation.room_versions import ROOM_VERSIONS, EventIdFormat, RoomVersion

ALICE, ANNA = "@alice:a.test", "@anna:a.test"
BOB, CAROL, DAVE = "@bob:b.test", "@carol:c.test", "@dave:d.test"

VERSIONS = list(ROOM_VERSIONS.values())

_MOMENTS = count(1)  # no two events are alike


class Room:
    """A room that Alice created and joined."""

    def __init__(
        self, version: RoomVersion, *, joined: Sequence[str] = (), **create: JsonValue
    ) -> None:
        self.version = version
        self.state: dict[StateKey, Pdu] = {}
        self.room_id = "!room:a.test"
        content: JsonObject = {"room_version": version.identifier, **create}
        if not version.creator_is_sender:
            content.setdefault("creator", ALICE)
        self.create = self.event("m.room.create", content, state_key="", prev=())
        self.room_id = self.create.room_id
        self.state["m.room.create", ""] = self.create
        for user_id in (ALICE, *joined):
            self.has_member(user_id)

    def event(
        self,
        event_type: str,
        content: JsonObject | None = None,
        *,
        sender: str = ALICE,
        state_key: str | None = None,
        prev: Sequence[Pdu] | None = None,
        auth: Sequence[Pdu] = (),
        **fields: JsonValue,
    ) -> Pdu:
        """An event of the room that stands beside its state."""
        raw: JsonObject = {
            "type": event_type,
            "sender": sender,
            "room_id": self.room_id,
            "content": {} if content is None else content,
            "origin_server_ts": next(_MOMENTS),
            "depth": 5,
            "hashes": {"sha256": "aGFzaA"},
            "signatures": {},
            "prev_events": self._references(
                [*self.state.values()][-2:] if prev is None else prev
            ),
            "auth_events": self._references(auth),
        }
        if state_key is not None:
            raw["state_key"] = state_key
        if self.version.event_id_format is EventIdFormat.FROM_SERVER:
            domain = sender.partition(":")[2]
            raw["event_id"] = f"${raw['origin_server_ts']}:{domain}"
        is_create = event_type == "m.room.create" and state_key == ""
        if self.version.room_id_is_create_hash and is_create:
            del raw["room_id"]
        return parse_pdu({**raw, **fields}, self.version)

    def _references(self, events: Sequence[Pdu]) -> list[JsonValue]:
        if self.version.event_id_format is EventIdFormat.FROM_SERVER:
            return [[event.event_id, {"sha256": "aGFzaA"}] for event in events]
        return [event.event_id for event in events]

    # ── what a test may ask for ─────────────────────────────────────────────────────

    def membership(
        self, user_id: str, membership: str, *, sender: str | None = None, **more
    ) -> Pdu:
        """A member event, by the user if nobody else is named."""
        content = {"membership": membership, **more.pop("content", {})}
        return self.event(
            "m.room.member",
            content,
            sender=sender or user_id,
            state_key=user_id,
            **more,
        )

    def message(self, sender: str = ALICE) -> Pdu:
        return self.event("m.room.message", {"body": "hello"}, sender=sender)

    def power_levels(self, sender: str = ALICE, /, **content: JsonValue) -> Pdu:
        return self.event("m.room.power_levels", content, sender=sender, state_key="")

    # ── what makes the state ────────────────────────────────────────────────────────

    def has(self, event: Pdu) -> Pdu:
        assert event.key is not None
        self.state[event.key] = event
        return event

    def has_member(self, user_id: str, membership: str = "join", **more) -> Pdu:
        return self.has(self.membership(user_id, membership, **more))

    def has_levels(self, **content: JsonValue) -> Pdu:
        return self.has(self.power_levels(**content))

    def has_join_rule(self, rule: JsonValue) -> Pdu:
        return self.has(
            self.event("m.room.join_rules", {"join_rule": rule}, state_key="")
        )

    # ── what the rules say ──────────────────────────────────────────────────────────

    def refusal(self, event: Pdu, *, vouched: bool = True) -> str | None:
        """The number of the rule that refuses the event, None when it is allowed."""
        try:
            auth_rules.check(event, self.state, vouched=vouched)
        except Rejected as rejected:
            return rejected.rule if rejected.why else "no reason given"
        return None

    def number(self, rule: Rule) -> str:
        return numbers(self.version)[rule]


# ── what versions know ──────────────────────────────────────────────────────────────


def knocks(version: RoomVersion) -> bool:
    return version.knock


def knows_no_knocks(version: RoomVersion) -> bool:
    return not version.knock


def restricts(version: RoomVersion) -> bool:
    return version.restricted_joins


def restricts_nothing(version: RoomVersion) -> bool:
    return not version.restricted_joins


def restricts_and_knocks(version: RoomVersion) -> bool:
    return version.knock_restricted


def knows_no_restricted_knocks(version: RoomVersion) -> bool:
    return not version.knock_restricted


# ── stories: one event in a room of every version ───────────────────────────────────

Story = Callable[[Room], Pdu]


def always(_version: RoomVersion) -> bool:
    return True


@dataclass
class Stories:
    """Short stories, each played in a room of every version that has the rule."""

    cases: list[tuple[Rule | None, Story, RoomVersion]] = field(default_factory=list)

    def refused_by(
        self, rule: Rule, when: Callable[[RoomVersion], bool] = always
    ) -> Callable[[Story], Story]:
        """The event that the story ends with is refused by this rule."""

        def add(story: Story) -> Story:
            self.cases += [
                (rule, story, version)
                for version in VERSIONS
                if rule in numbers(version) and when(version)
            ]
            return story

        return add

    def allowed(
        self, when: Callable[[RoomVersion], bool] = always
    ) -> Callable[[Story], Story]:
        """The event that the story ends with is allowed."""

        def add(story: Story) -> Story:
            self.cases += [
                (None, story, version) for version in VERSIONS if when(version)
            ]
            return story

        return add

    @property
    def parametrize(self) -> pytest.MarkDecorator:
        return pytest.mark.parametrize(
            ("rule", "story", "version"),
            [
                pytest.param(*case, id=f"v{case[2]}-{case[1].__name__}")
                for case in self.cases
            ],
        )

    def told_of(self) -> set[Rule]:
        return {rule for rule, _, _ in self.cases if rule is not None}


def play(rule: Rule | None, story: Story, version: RoomVersion) -> None:
    room = Room(version)
    event = story(room)
    assert room.refusal(event) == (None if rule is None else room.number(rule))
