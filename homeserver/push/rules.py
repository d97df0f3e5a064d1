"""Push rulesets: the predefined rules, and what a user makes of them.

What is kept of a user is only what they changed: rules of their own, and what they set
on predefined rules. A ruleset is put together from that, so predefined rules can change
with the server.

Spec: client-server-api#push-rules
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from homeserver import errors

MAX_RULES: Final = 1_000
MAX_RULE_ID: Final = 1024  # bytes
MAX_BYTES: Final = 256 * 1024  # of all that a user changed, as JSON
# "Clients and homeservers MUST ignore these actions".
_HISTORICAL: Final = ("dont_notify", "coalesce")
MASTER: Final = ".m.rule.master"
THREAD_SUBSCRIPTION: Final = "io.element.msc4306.thread_subscription"
ENCRYPTED_EVENT: Final = ".org.matrix.msc4028.encrypted_event"


# Lists of JSON values; msgspec cannot decode into recursive types.
Values: TypeAlias = tuple[Any, ...]


class RuleKind(Enum):
    """The kinds of rules, in the order in which they are checked."""

    OVERRIDE = "override"
    CONTENT = "content"
    POSTCONTENT = "postcontent"  # MSC4306: predefined ones only
    ROOM = "room"
    SENDER = "sender"
    UNDERRIDE = "underride"


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule, as it is shown to clients."""

    rule_id: str
    actions: Values
    enabled: bool = True
    default: bool = False
    conditions: Values | None = None
    pattern: str | None = None

    def as_json(self) -> JsonObject:
        """The rule as clients get it."""
        shown: JsonObject = {
            "rule_id": self.rule_id,
            "actions": list(self.actions),
            "enabled": self.enabled,
            "default": self.default,
        }
        if self.conditions is not None:
            shown["conditions"] = list(self.conditions)
        if self.pattern is not None:
            shown["pattern"] = self.pattern
        return shown


class OnDefault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a user set on a predefined rule; None: as the server has it."""

    enabled: bool | None = None
    actions: Values | None = None


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a user changed: own rules by kind, and predefined ones by ID."""

    own: dict[str, tuple[Rule, ...]] = msgspec.field(default_factory=dict)
    on_default: dict[str, OnDefault] = msgspec.field(default_factory=dict)


NOTHING_CHANGED: Final = Changes()


def parse_changes(text: str | bytes) -> Changes:
    """What `encode_changes` made."""
    return msgspec.json.decode(text, type=Changes)


def encode_changes(changes: Changes) -> str:
    """The changes as text to keep. Raises: M_TOO_LARGE."""
    encoded = msgspec.json.encode(changes)
    if len(encoded) > MAX_BYTES:
        raise errors.too_large(f"Push rules can hold at most {MAX_BYTES} bytes in all.")
    return encoded.decode()


# ── Predefined rules ─────────────────────────────────────────────────────────────────

_LOUD: Final[JsonObject] = {"set_tweak": "sound", "value": "default"}
_RING: Final[JsonObject] = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT: Final[JsonObject] = {"set_tweak": "highlight"}


def _match(key: str, pattern: str) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _count(number: str) -> JsonObject:
    return {"kind": "room_member_count", "is": number}


def _default(
    name: str,
    conditions: Sequence[JsonObject],
    *actions: JsonValue,
    enabled: bool = True,
) -> Rule:
    return Rule(
        rule_id=f".m.rule.{name}",
        actions=actions,
        enabled=enabled,
        default=True,
        conditions=tuple(conditions),
    )


@dataclass(frozen=True, slots=True)
class Extras:
    """Predefined rules of proposals that not every server offers."""

    encrypted_events: bool = False
    thread_subscriptions: bool = False


NO_EXTRAS: Final = Extras()
_POLL: Final = "org.matrix.msc3381.poll."
_POLL_RULE: Final = ".org.matrix.msc3930.rule.poll_"


def _unstable(
    rule_id: str, conditions: Sequence[JsonObject], *actions: JsonValue
) -> Rule:
    """A rule of a proposal, under the name that clients know it by until then."""
    return msgspec.structs.replace(_default("", conditions, *actions), rule_id=rule_id)


def _default_overrides(user_id: str, extras: Extras) -> Iterator[Rule]:
    """Spec: client-server-api#default-override-rules; MSC4028, MSC3930."""
    yield _default("master", [], enabled=False)
    if extras.encrypted_events:
        yield _unstable(
            ENCRYPTED_EVENT,
            [
                {
                    "kind": "event_property_is",
                    "key": "type",
                    "value": "m.room.encrypted",
                }
            ],
            "notify",
            {"set_tweak": "org.matrix.msc4062.dont_email"},
        )
    yield _default("suppress_notices", [_match("content.msgtype", "m.notice")])
    yield _default(
        "invite_for_me",
        [
            _match("type", "m.room.member"),
            _match("content.membership", "invite"),
            _match("state_key", user_id),
        ],
        "notify",
        _LOUD,
    )
    yield _default("member_event", [_match("type", "m.room.member")])
    yield _default(
        "is_user_mention",
        [
            {
                "kind": "event_property_contains",
                "key": r"content.m\.mentions.user_ids",
                "value": user_id,
            }
        ],
        "notify",
        _LOUD,
        _HIGHLIGHT,
    )
    yield _default(
        "is_room_mention",
        [
            {
                "kind": "event_property_is",
                "key": r"content.m\.mentions.room",
                "value": True,
            },
            {"kind": "sender_notification_permission", "key": "room"},
        ],
        "notify",
        _HIGHLIGHT,
    )
    yield _default(
        "tombstone",
        [_match("type", "m.room.tombstone"), _match("state_key", "")],
        "notify",
        _HIGHLIGHT,
    )
    yield _default("reaction", [_match("type", "m.reaction")])
    yield _default(
        "room.server_acl",
        [_match("type", "m.room.server_acl"), _match("state_key", "")],
    )
    yield _default(
        "suppress_edits",
        [
            {
                "kind": "event_property_is",
                "key": r"content.m\.relates_to.rel_type",
                "value": "m.replace",
            }
        ],
    )
    yield _unstable(_POLL_RULE + "response", [_match("type", _POLL + "response")])


def _default_underrides() -> Iterator[Rule]:
    """Spec: client-server-api#default-underride-rules; MSC3930."""
    yield _default("call", [_match("type", "m.call.invite")], "notify", _RING)
    yield _default(
        "encrypted_room_one_to_one",
        [_count("2"), _match("type", "m.room.encrypted")],
        "notify",
        _LOUD,
    )
    yield _default(
        "room_one_to_one",
        [_count("2"), _match("type", "m.room.message")],
        "notify",
        _LOUD,
    )
    yield _default("message", [_match("type", "m.room.message")], "notify")
    yield _default("encrypted", [_match("type", "m.room.encrypted")], "notify")
    for what in ("start", "end"):
        of_that = _match("type", _POLL + what)
        name = _POLL_RULE + what
        yield _unstable(f"{name}_one_to_one", [_count("2"), of_that], "notify", _LOUD)
        yield _unstable(name, [of_that], "notify")


def _default_postcontents() -> Iterator[Rule]:
    """Whether a message in a thread notifies is decided here. MSC4306."""
    for name, subscribed in (("unsubscribed", False), ("subscribed", True)):
        condition: JsonObject = {"kind": THREAD_SUBSCRIPTION, "subscribed": subscribed}
        actions = ("notify", _LOUD) if subscribed else ()
        rule_id = f".io.element.msc4306.rule.{name}_thread"
        yield _unstable(rule_id, [condition], *actions)


def default_rules(
    kind: RuleKind, user_id: str, extras: Extras = NO_EXTRAS
) -> Sequence[Rule]:
    """The predefined rules of a kind, in order."""
    if kind is RuleKind.OVERRIDE:
        return tuple(_default_overrides(user_id, extras))
    if kind is RuleKind.POSTCONTENT and extras.thread_subscriptions:
        return tuple(_default_postcontents())
    return tuple(_default_underrides()) if kind is RuleKind.UNDERRIDE else ()


# ── Rulesets ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of a user, the most important first within each kind."""

    rules: Mapping[RuleKind, Sequence[Rule]]
    is_default: bool = False
    has_changed_defaults: bool = False

    def as_json(self) -> JsonObject:
        """What clients get as `global`."""
        return {
            kind.value: [rule.as_json() for rule in self.rules[kind]]
            for kind in RuleKind
            if self.rules[kind] or kind is not RuleKind.POSTCONTENT
        }

    def is_default_in(self, room_id: str) -> bool:
        """Whether it says of that room's events what the predefined rules say."""
        if self.is_default:
            return True
        own = [
            (kind, rule)
            for kind, rules in self.rules.items()
            for rule in rules
            if not rule.default
        ]
        elsewhere = [
            each
            for each in own
            if each[0] is RuleKind.ROOM and each[1].rule_id != room_id
        ]
        return not self.has_changed_defaults and len(own) == len(elsewhere)

    def find(self, kind: RuleKind, rule_id: str) -> Rule:
        """One rule. Raises: M_NOT_FOUND."""
        for rule in self.rules[kind]:
            if rule.rule_id == rule_id:
                return rule
        raise errors.not_found("There is no such push rule.")

    def in_order(self) -> Iterator[tuple[RuleKind, Rule]]:
        """Every rule that is enabled, in the order in which they are checked."""
        for kind in RuleKind:
            for rule in self.rules[kind]:
                if rule.enabled:
                    yield kind, rule


def ruleset_of(
    user_id: str, changes: Changes = NOTHING_CHANGED, extras: Extras = NO_EXTRAS
) -> Ruleset:
    """The user's rules: predefined ones come after their own, but for the master."""
    rules: dict[RuleKind, Sequence[Rule]] = {}
    for kind in RuleKind:
        own = changes.own.get(kind.value, ())
        defaults = [
            _with(rule, changes.on_default.get(rule.rule_id))
            for rule in default_rules(kind, user_id, extras)
        ]
        first = [rule for rule in defaults if rule.rule_id == MASTER]
        rules[kind] = (*first, *own, *(r for r in defaults if r.rule_id != MASTER))
    changed = bool(changes.on_default)
    is_default = not changed and not any(changes.own.values())
    return Ruleset(rules, is_default, changed)


def _with(rule: Rule, on: OnDefault | None) -> Rule:
    if on is None:
        return rule
    return msgspec.structs.replace(
        rule,
        enabled=rule.enabled if on.enabled is None else on.enabled,
        actions=rule.actions if on.actions is None else on.actions,
    )


# ── Changing them ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule is to stand: next to rules of the user's own."""

    before: str | None = None
    after: str | None = None


def checked_actions(actions: JsonValue) -> Values:
    """Actions as they are kept, without historical ones. Raises: M_BAD_JSON."""
    if not isinstance(actions, list):
        raise errors.bad_json("actions: a list is needed.")
    for action in actions:
        if isinstance(action, dict):
            if not isinstance(action.get("set_tweak"), str):
                raise errors.bad_json("actions: an object needs set_tweak, a string.")
        elif action != "notify" and action not in _HISTORICAL:
            raise errors.bad_json("actions: 'notify' and set_tweak are known.")
    return tuple(action for action in actions if action not in _HISTORICAL)


def _checked_conditions(body: JsonObject) -> Values:
    conditions = body.get("conditions", [])
    if not isinstance(conditions, list):
        raise errors.bad_json("conditions: a list is needed.")
    for condition in conditions:
        if not isinstance(condition, dict) or not isinstance(
            condition.get("kind"), str
        ):
            raise errors.bad_json("conditions: objects with a kind are needed.")
    return tuple(conditions)


def parse_rule(kind: RuleKind, rule_id: str, body: JsonObject) -> Rule:
    """A rule as a client gives it.

    Raises: M_INVALID_PARAM, M_MISSING_PARAM, M_BAD_JSON.
    """
    if kind is RuleKind.POSTCONTENT:
        raise errors.invalid_param("All rules of this kind are the server's.")
    if rule_id.startswith("."):
        raise errors.invalid_param("Rule IDs with a dot in front are the server's.")
    if "/" in rule_id or "\\" in rule_id:
        raise errors.invalid_param("A rule ID has no slashes and no backslashes.")
    if not rule_id or len(rule_id.encode()) > MAX_RULE_ID:
        raise errors.invalid_param(f"A rule ID has 1 to {MAX_RULE_ID} bytes.")
    if "actions" not in body:
        raise errors.missing_param("actions is missing.")
    actions = checked_actions(body["actions"])
    if kind in (RuleKind.OVERRIDE, RuleKind.UNDERRIDE):
        return Rule(rule_id, actions, conditions=_checked_conditions(body))
    if kind is RuleKind.CONTENT:
        if "pattern" not in body:
            raise errors.missing_param("pattern is missing.")
        pattern = body["pattern"]
        if not isinstance(pattern, str):
            raise errors.bad_json("pattern: a string is needed.")
        return Rule(rule_id, actions, pattern=pattern)
    return Rule(rule_id, actions)


Change = Callable[[Changes], Changes]


def with_rule(changes: Changes, kind: RuleKind, rule: Rule, place: Place) -> Changes:
    """Add a rule, or change it. Raises: M_UNKNOWN when its neighbour is not there."""
    own = list(changes.own.get(kind.value, ()))
    at = next((i for i, each in enumerate(own) if each.rule_id == rule.rule_id), None)
    if at is not None:
        rule = msgspec.structs.replace(rule, enabled=own[at].enabled)
        del own[at]
    elif sum(map(len, changes.own.values())) >= MAX_RULES:
        raise errors.too_large(f"There can be at most {MAX_RULES} push rules.")
    if place.before is not None:
        at = _index(own, place.before)
    elif place.after is not None:
        at = _index(own, place.after) + 1
    own.insert(at or 0, rule)
    return _with_own(changes, kind, own)


def _index(rules: Sequence[Rule], rule_id: str) -> int:
    for index, rule in enumerate(rules):
        if rule.rule_id == rule_id:
            return index
    raise errors.unknown(f"before/after rule not found: {rule_id[:100]}")


def _with_own(changes: Changes, kind: RuleKind, own: Sequence[Rule]) -> Changes:
    return Changes({**changes.own, kind.value: tuple(own)}, changes.on_default)


def without_rule(changes: Changes, kind: RuleKind, rule_id: str) -> Changes:
    """Take a rule of the user's own away. Raises: M_NOT_FOUND."""
    own = changes.own.get(kind.value, ())
    kept = [rule for rule in own if rule.rule_id != rule_id]
    if len(kept) == len(own):
        raise errors.not_found("There is no such push rule of your own.")
    return _with_own(changes, kind, kept)


def with_set(
    changes: Changes,
    kind: RuleKind,
    rule_id: str,
    *,
    enabled: bool | None = None,
    actions: Values | None = None,
    extras: Extras = NO_EXTRAS,
) -> Changes:
    """Set something on a rule, predefined or not. Raises: M_NOT_FOUND."""
    given = OnDefault(enabled, actions)
    if any(rule.rule_id == rule_id for rule in default_rules(kind, "", extras)):
        old = changes.on_default.get(rule_id, OnDefault())
        new = OnDefault(
            old.enabled if enabled is None else enabled,
            old.actions if actions is None else actions,
        )
        return Changes(changes.own, {**changes.on_default, rule_id: new})
    own = changes.own.get(kind.value, ())
    if not any(rule.rule_id == rule_id for rule in own):
        raise errors.not_found("There is no such push rule.")
    changed = [_with(r, given) if r.rule_id == rule_id else r for r in own]
    return _with_own(changes, kind, changed)
