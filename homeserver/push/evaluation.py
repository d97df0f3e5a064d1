"""What a user's push rules say of an event: pure, and compiled once for each user.

Spec: client-server-api#conditions
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.auth_rules.power_levels import PowerLevels
from federation.canonical_json import JsonObject, JsonValue
from federation.pdu import Pdu
from homeserver.globs import MAX_PATTERN, Glob
from homeserver.push import rules
from homeserver.push.rules import Rule, RuleKind, Ruleset

_MEMBER_COUNT: Final = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})")
_BODY: Final = ("content", "body")
_ABSENT: Final = object()
_TYPES: Final = 16
_SCALARS: Final = (str, int, bool, type(None))


@dataclass(frozen=True, slots=True)
class Occasion:
    """An event, and what conditions ask of its room and of the one who is told.

    `levels` None: the sender may not notify the whole room. `follows`: whether who is
    told follows the event's thread; None: it is in none.
    """

    event: Pdu
    joined: int
    display_name: str | None = None
    levels: PowerLevels | None = None
    follows: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the first matching rule says; without one there are no actions."""

    actions: Sequence[JsonValue] = ()
    notifies: bool = False
    highlights: bool = False


SILENT: Final = Outcome()
Condition = Callable[[Occasion], bool]


class Evaluator:
    """A ruleset, compiled.

    `asks_levels`: a rule of the user's own asks for power levels, of whatever event.
    Most rules are for one type of events: the others are not looked at.
    """

    __slots__ = ("_of_types", "_rules", "asks_levels")

    def __init__(self, ruleset: Ruleset) -> None:
        self._rules: list[tuple[str | None, Sequence[Condition], Outcome]] = []
        self._of_types: dict[str, list[tuple[Sequence[Condition], Outcome]]] = {}
        self.asks_levels = any(
            isinstance(condition, dict)
            and condition.get("kind") == "sender_notification_permission"
            for _, rule in ruleset.in_order()
            if not rule.default
            for condition in rule.conditions or ()
        )
        for kind, rule in ruleset.in_order():
            conditions = _conditions_of(kind, rule)
            if conditions is not None:
                outcome = outcome_of(rule.actions)
                self._rules.append((_type_of(rule), conditions, outcome))

    def evaluate(self, occasion: Occasion) -> Outcome:
        """What the most important rule that matches says."""
        type_ = occasion.event.type
        rules = self._of_types.get(type_)
        if rules is None:
            rules = self._for_type(type_)
        for conditions, outcome in rules:
            for condition in conditions:
                if not condition(occasion):
                    break
            else:
                return outcome
        return SILENT

    def _for_type(self, type_: str) -> list[tuple[Sequence[Condition], Outcome]]:
        """The rules that may match events of a type."""
        folded = type_.casefold()
        found = [
            (conditions, outcome)
            for wanted, conditions, outcome in self._rules
            if wanted is None or wanted == folded
        ]
        if len(self._of_types) >= _TYPES:
            self._of_types.clear()
        self._of_types[type_] = found
        return found


def _type_of(rule: Rule) -> str | None:
    """The one type of events that the rule may match, without its capitals, if any."""
    for condition in rule.conditions or ():
        if not isinstance(condition, dict) or condition.get("key") != "type":
            continue
        kind = condition.get("kind")
        name = "pattern" if kind == "event_match" else "value"
        wanted = condition.get(name)
        if kind not in ("event_match", "event_property_is"):
            continue
        if isinstance(wanted, str) and "*" not in wanted and "?" not in wanted:
            return wanted.casefold()
    return None


def outcome_of(actions: Sequence[JsonValue]) -> Outcome:
    """What actions come to. Spec: client-server-api#actions."""
    if "notify" not in actions:
        return SILENT
    highlights = False
    for action in actions:
        if isinstance(action, dict) and action.get("set_tweak") == "highlight":
            highlights = action.get("value", True) is not False
    return Outcome(actions, notifies=True, highlights=highlights)


def _conditions_of(kind: RuleKind, rule: Rule) -> Sequence[Condition] | None:
    """The rule's conditions; None when it can never match."""
    match kind:
        case RuleKind.ROOM:
            return (_room_is(rule.rule_id),)
        case RuleKind.SENDER:
            return (_sender_is(rule.rule_id),)
        case RuleKind.CONTENT:
            compiled = [_event_match("content.body", rule.pattern)]
        case _:
            compiled = [_compile(each) for each in rule.conditions or ()]
    known = [condition for condition in compiled if condition is not None]
    return known if len(known) == len(compiled) else None


def _room_is(room_id: str) -> Condition:
    return lambda occasion: occasion.event.room_id == room_id


def _sender_is(user_id: str) -> Condition:
    return lambda occasion: occasion.event.sender == user_id


def _compile(condition: JsonValue) -> Condition | None:
    """One condition; None when it is not known or malformed: it matches nothing."""
    if not isinstance(condition, dict):
        return None
    match condition.get("kind"):
        case "event_match":
            return _event_match(condition.get("key"), condition.get("pattern"))
        case "event_property_is":
            return _property_is(condition)
        case "event_property_contains":
            return _property_contains(condition)
        case "contains_display_name":
            return _contains_display_name
        case "room_member_count":
            return _member_count(condition.get("is"))
        case "sender_notification_permission":
            return _sender_may_notify(condition.get("key"))
        case rules.THREAD_SUBSCRIPTION:
            return _follows(condition.get("subscribed"))
        case _:
            return None


# ── Properties ───────────────────────────────────────────────────────────────────────


def path_of(key: str) -> tuple[str, ...]:
    r"""The names in a dotted path; `\.` and `\\` stand for a dot and a backslash.

    Spec: appendices#dot-separated-property-paths
    """
    parts = [""]
    at = 0
    while at < len(key):
        char = key[at]
        if char == "\\" and key[at + 1 : at + 2] in (".", "\\"):
            at += 1
            parts[-1] += key[at]
        elif char == ".":
            parts.append("")
        else:
            parts[-1] += char
        at += 1
    return tuple(parts)


def _property(event: Pdu, path: Sequence[str]) -> object:
    """What stands at the path of the event as clients get it; else `_ABSENT`."""
    name = path[0]
    if name == "content":
        value: object = event.content
        for part in path[1:]:
            if not isinstance(value, dict) or part not in value:
                return _ABSENT
            value = value[part]
        return value
    if len(path) > 1:
        return _ABSENT
    match name:
        case "type" | "sender" | "room_id" | "event_id" | "origin_server_ts":
            return getattr(event, name)
        case "state_key" | "redacts":
            found = getattr(event, name)
            return _ABSENT if found is None else found
        case _:
            return _ABSENT


def _event_match(key: JsonValue, pattern: JsonValue) -> Condition | None:
    if not isinstance(key, str) or not isinstance(pattern, str):
        return None
    if len(pattern) > MAX_PATTERN:
        return None
    path = path_of(key)
    if "*" not in pattern and "?" not in pattern and path != _BODY:
        return _is_text(path, pattern)
    glob = Glob(pattern, words=path == _BODY)

    def matches(occasion: Occasion) -> bool:
        value = _property(occasion.event, path)
        return isinstance(value, str) and glob.matches(value)

    return matches


def _is_text(path: Sequence[str], pattern: str) -> Condition:
    """A pattern without wildcards: nearly all that are evaluated."""
    folded = pattern.casefold()

    def matches(occasion: Occasion) -> bool:
        value = _property(occasion.event, path)
        if value == pattern:
            return True
        return isinstance(value, str) and value.casefold() == folded

    return matches


def _same(one: object, other: object) -> bool:
    """Whether two scalars are the same, without casts: `true` is not 1."""
    return type(one) is type(other) and one == other


def _property_is(condition: JsonObject) -> Condition | None:
    key, wanted = condition.get("key"), condition.get("value", _ABSENT)
    if not isinstance(key, str) or not isinstance(wanted, _SCALARS):
        return None
    path = path_of(key)
    return lambda occasion: _same(_property(occasion.event, path), wanted)


def _property_contains(condition: JsonObject) -> Condition | None:
    key, wanted = condition.get("key"), condition.get("value", _ABSENT)
    if not isinstance(key, str) or not isinstance(wanted, _SCALARS):
        return None
    path = path_of(key)

    def matches(occasion: Occasion) -> bool:
        values = _property(occasion.event, path)
        if not isinstance(values, list):
            return False
        return any(_same(value, wanted) for value in values)

    return matches


# ── Rooms and users ──────────────────────────────────────────────────────────────────


def _contains_display_name(occasion: Occasion) -> bool:
    name = occasion.display_name
    body = _property(occasion.event, _BODY)
    if not name or len(name) > MAX_PATTERN or not isinstance(body, str):
        return False
    at = re.search(
        rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", body, re.IGNORECASE
    )
    return at is not None


def _member_count(wanted: JsonValue) -> Condition | None:
    found = _MEMBER_COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if found is None:
        return None
    sign, number = found[1] or "==", int(found[2])
    match sign:
        case "<":
            return lambda occasion: occasion.joined < number
        case ">":
            return lambda occasion: occasion.joined > number
        case "<=":
            return lambda occasion: occasion.joined <= number
        case ">=":
            return lambda occasion: occasion.joined >= number
        case _:
            return lambda occasion: occasion.joined == number


def _follows(wanted: JsonValue) -> Condition | None:
    """Whether the user follows the thread; out of threads it is neither. MSC4306."""
    if not isinstance(wanted, bool):
        return None
    return lambda occasion: occasion.follows is wanted


def _sender_may_notify(key: JsonValue) -> Condition | None:
    if not isinstance(key, str):
        return None

    def matches(occasion: Occasion) -> bool:
        levels = occasion.levels
        if levels is None:
            return False
        return levels.user(occasion.event.sender) >= levels.notification(key)

    return matches
