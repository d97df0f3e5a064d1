"""Power levels: what a state gives to whom, and who may change them.

Spec: rooms/v12#authorisation-rules, server-server-api#definitions,
client-server-api#mroompower_levels
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

from federation.auth_rules.create import creator_of, creators_of, is_creator
from federation.auth_rules.rules import Rule, refuse
from federation.canonical_json import JsonObject, JsonValue
from federation.ids import is_user_id
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion

# An integer, or math.inf: the power of version 12's creators. (To type checkers, an
# int is a float.)
Level: TypeAlias = float

_DEFAULTS: Final = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}
_DEFAULT_NOTIFICATION: Final = 50
_CREATOR_WITHOUT_POWER_LEVELS: Final = 100

_STRINGY: Final = re.compile(r"[+-]?[0-9]+")
# Python refuses to read longer numbers at its strictest setting, and so do we.
_MAX_DIGITS: Final = 600


def level_of(value: JsonValue, version: RoomVersion) -> int | None:
    """The integer that a value in a power levels event stands for, or None.

    Until version 9 strings of an integer count, until version 5 floats, cut at the
    point. Spec: rooms/v1#mroompower_levels-events-accept-values-as-strings
    """
    if type(value) is int:  # True is no integer
        return value
    if version.integer_power_levels:
        return None
    if isinstance(value, str):
        return _integer_in(value)
    if (
        isinstance(value, float)
        and not version.strict_canonical_json
        and math.isfinite(value)
    ):
        return int(value)
    return None


def _integer_in(text: str) -> int | None:
    text = text.strip()
    if not _STRINGY.fullmatch(text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS:
        return None
    return -int(digits) if text.startswith("-") else int(digits)


@dataclass(frozen=True, slots=True)
class PowerLevels:
    """The power levels in force in a state, with all defaults.

    Cheap to make: values are read when they are asked for. Hostile content is read
    as if it were not there.
    """

    version: RoomVersion
    create: Pdu | None
    content: JsonObject | None  # of the power levels event, when there is one

    @classmethod
    def of(
        cls,
        state: Mapping[StateKey, Pdu],
        version: RoomVersion,
        create: Pdu | None = None,
    ) -> "PowerLevels":
        """The power levels of a state; `create` counts where the state has none."""
        event = state.get(("m.room.power_levels", ""))
        return cls(
            version=version,
            create=state.get(("m.room.create", ""), create),
            content=None if event is None else event.content,
        )

    def user(self, user_id: str) -> Level:
        """How much power the user has."""
        create = self.create
        if create is not None:
            if is_creator(create, user_id):
                return math.inf
            if self.content is None and creator_of(create) == user_id:
                return _CREATOR_WITHOUT_POWER_LEVELS
        level = self._entry("users", user_id)
        return self.named("users_default") if level is None else level

    def required(self, event_type: str, is_state: bool) -> int:  # noqa: FBT001 - the two are one thing: the kind of event
        """The power needed to send events of a type (not members or redactions)."""
        level = self._entry("events", event_type)
        if level is not None:
            return level
        return self.named("state_default" if is_state else "events_default")

    @property
    def invite(self) -> int:
        """The power needed to invite."""
        return self.named("invite")

    @property
    def kick(self) -> int:
        """The power needed to kick, and with `ban` to unban."""
        return self.named("kick")

    @property
    def ban(self) -> int:
        """The power needed to ban."""
        return self.named("ban")

    @property
    def redact(self) -> int:
        """The power needed to redact what other servers' users sent."""
        return self.named("redact")

    def notification(self, key: str) -> int:
        """The power needed for a notification of the whole room, such as `room`."""
        level = self._entry("notifications", key)
        return _DEFAULT_NOTIFICATION if level is None else level

    def named(self, name: str) -> int:
        """One of the seven top-level properties, or its default."""
        if self.content is not None and name in self.content:
            level = level_of(self.content[name], self.version)
            if level is not None:
                return level
        return _DEFAULTS[name]

    def _entry(self, name: str, key: str) -> int | None:
        if self.content is None:
            return None
        entries = self.content.get(name)
        if not isinstance(entries, dict) or key not in entries:
            return None
        return level_of(entries[key], self.version)


def check_power_levels(event: Pdu, levels: PowerLevels) -> None:
    """Allow a power levels event that changes `levels`, or raise Rejected."""
    _check_form(event)
    _check_creators(event, levels)
    if levels.content is None:
        return
    sender = levels.user(event.sender)
    _check_named(event, levels.content, sender)
    _check_events(event, levels.content, sender)
    _check_users(event, levels.content, sender)


def _check_form(event: Pdu) -> None:
    version, content = event.version, event.content
    if version.integer_power_levels:
        if any(
            name in content and type(content[name]) is not int for name in _DEFAULTS
        ):
            raise refuse(
                version, Rule.LEVELS_NAMED, "the default levels must be integers"
            )
        if not all(
            _has_levels(content.get(name, {}), version)
            for name in ("events", "notifications")
        ):
            raise refuse(
                version,
                Rule.LEVELS_EVENTS,
                "events and notifications must be objects with integers",
            )
    # An absent `users` is an empty one: no schema requires it.
    users = content.get("users", {})
    if not _has_levels(users, version) or not all(map(is_user_id, users)):
        raise refuse(
            version,
            Rule.LEVELS_USERS,
            "users must be an object with user IDs and integers",
        )


def _has_levels(
    entries: JsonValue, version: RoomVersion
) -> TypeGuard[dict[str, JsonValue]]:
    return isinstance(entries, dict) and all(
        level_of(value, version) is not None for value in entries.values()
    )


def _check_creators(event: Pdu, levels: PowerLevels) -> None:
    users, create = event.content.get("users"), levels.create
    if (
        event.version.privileged_creators
        and create is not None
        and isinstance(users, dict)
        and not creators_of(create).isdisjoint(users)
    ):
        raise refuse(
            event.version, Rule.LEVELS_CREATORS, "creators have no place in users"
        )


@dataclass(frozen=True, slots=True)
class _Change:
    """An entry that was added (no `current`), changed or removed (no `new`)."""

    key: str
    current: Level | None
    new: Level | None


def _changes(current: JsonValue, new: JsonValue, version: RoomVersion) -> list[_Change]:
    """What differs between two objects with levels, in the order of the first."""
    old_entries = current if isinstance(current, dict) else {}
    new_entries = new if isinstance(new, dict) else {}
    changes: list[_Change] = []
    if old_entries == new_entries:
        return changes
    for key in dict.fromkeys((*old_entries, *new_entries)):
        old_level = level_of(old_entries.get(key), version)
        new_level: Level | None = level_of(new_entries.get(key), version)
        if new_level is None and new_entries.get(key) != old_entries.get(key):
            # Until version 9 nothing forbids values that are no numbers, and no
            # rule can compare them: they count as more than anybody may give.
            new_level = math.inf if key in new_entries else None
        if old_level != new_level:
            changes.append(_Change(key, old_level, new_level))
    return changes


def _check_changes(
    event: Pdu, changes: Iterable[_Change], sender: Level, current: Rule, new: Rule
) -> None:
    for change in changes:
        if change.current is not None and change.current > sender:
            raise refuse(
                event.version,
                current,
                f"the present level of {change.key[:80]} is above the sender's",
            )
    for change in changes:
        if change.new is not None and change.new > sender:
            raise refuse(
                event.version,
                new,
                f"the new level of {change.key[:80]} is above the sender's",
            )


def _check_named(event: Pdu, current: JsonObject, sender: Level) -> None:
    changes = _changes(
        {name: current[name] for name in _DEFAULTS if name in current},
        {name: event.content[name] for name in _DEFAULTS if name in event.content},
        event.version,
    )
    _check_changes(
        event, changes, sender, Rule.LEVELS_NAMED_CURRENT, Rule.LEVELS_NAMED_NEW
    )


def _check_events(event: Pdu, current: JsonObject, sender: Level) -> None:
    names = ["events"]
    if event.version.checks_notification_levels:
        names.append("notifications")
    changes = [
        change
        for name in names
        for change in _changes(
            current.get(name), event.content.get(name), event.version
        )
    ]
    _check_changes(
        event, changes, sender, Rule.LEVELS_EVENTS_CURRENT, Rule.LEVELS_EVENTS_NEW
    )


def _check_users(event: Pdu, current: JsonObject, sender: Level) -> None:
    changes = _changes(current.get("users"), event.content.get("users"), event.version)
    for change in changes:
        if (
            change.key != event.sender
            and change.current is not None
            and change.current >= sender
        ):
            raise refuse(
                event.version,
                Rule.LEVELS_USERS_CURRENT,
                f"{change.key[:80]} has as much power as the sender",
            )
    for change in changes:
        if change.new is not None and change.new > sender:
            raise refuse(
                event.version,
                Rule.LEVELS_USERS_NEW,
                f"the new level of {change.key[:80]} is above the sender's",
            )
