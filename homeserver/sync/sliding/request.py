"""What a client asks for, in today's form and in that of the proposal's last text.

Clients send `ranges`, required state in pairs with `$ME`, `$LAZY` and `*`, `is_invite`,
and `pos` and `timeout` in the query; the proposal moved on to `range`, objects for
required state, `is_invited`, and both in the body. Either is understood; who sends
objects for required state gets the names of the newer form back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import UserId
from homeserver.sync.sliding.required import (
    MEMBER,
    Pattern,
    Required,
    RoomConfig,
    parts_of,
)

MAX_TIMELINE: Final = 100
_MAX_LISTS: Final = 100
# COMPAT(matrix-rust-sdk): the proposal says 100; clients add one for each room opened.
_MAX_SUBSCRIPTIONS: Final = 1000
_MAX_REQUIRED: Final = 500
_MAX_ENTRIES: Final = 500  # of any list in filters and extensions
_MAX_RANGES: Final = 50
_MAX_NAME: Final = 255

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rooms a list has; None: no matter."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    spaces: frozenset[str] | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] = frozenset()
    room_name_like: str | None = None
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] = frozenset()

    @property
    def needs_facts(self) -> bool:
        """Whether it asks about the rooms themselves."""
        return (
            self.is_encrypted is not None
            or self.room_types is not None
            or bool(self.not_room_types)
            or self.room_name_like is not None
        )

    @property
    def needs_own(self) -> bool:
        """Whether it asks about what the user says of the rooms."""
        return self.is_dm is not None or self.tags is not None or bool(self.not_tags)


@dataclass(frozen=True, slots=True)
class ListConfig:
    """One list. `ranges` None: all of it."""

    ranges: tuple[tuple[int, int], ...] | None
    filters: Filters
    config: RoomConfig


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension that is on; `lists` and `rooms` None: all of them."""

    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None
    since: str | None = None  # of to_device
    limit: int | None = None
    fields: frozenset[str] | None = None  # of profiles; None: all

    def covers(self, room_id: str, lists: frozenset[str], *, subscribed: bool) -> bool:
        """Whether it speaks of a room that these lists or a subscription show."""
        by_list = bool(lists) if self.lists is None else bool(lists & self.lists)
        by_room = subscribed and (self.rooms is None or room_id in self.rooms)
        return by_list or by_room


@dataclass(frozen=True, slots=True)
class SlidingRequest:
    """One call. `pos` None: a new connection."""

    conn_id: str = ""
    pos: str | None = None
    timeout_ms: int | None = None
    lists: Mapping[str, ListConfig] = field(default_factory=dict)
    subscriptions: Mapping[str, RoomConfig] = field(default_factory=dict)
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    is_newer: bool = False  # speaks the newer form


def parse_request(body: JsonObject, user_id: UserId) -> SlidingRequest:
    """The request that a body is. Raises: Malformed."""
    parser = _Parser(user_id)
    lists = _mapping(body, "lists", _MAX_LISTS, parser.list_config)
    subscriptions = _mapping(
        body, "room_subscriptions", _MAX_SUBSCRIPTIONS, parser.room_config
    )
    extensions = _mapping(body, "extensions", _MAX_LISTS, _extension)
    timeout = body.get("timeout")
    return SlidingRequest(
        conn_id=_text(body, "conn_id") or "",
        pos=_text(body, "pos"),
        timeout_ms=None if timeout is None else _integer(timeout, "timeout"),
        lists=lists,
        subscriptions=subscriptions,
        extensions={k: found for k, found in extensions.items() if found is not None},
        is_newer=parser.is_newer,
    )


class _Parser:
    """Parses what names the user or shows the form."""

    def __init__(self, user_id: UserId) -> None:
        self._user_id = user_id
        self.is_newer = False

    def list_config(self, value: JsonObject) -> ListConfig:
        filters = _object(value.get("filters", {}), "filters")
        return ListConfig(_ranges(value), _filters(filters), self.room_config(value))

    def room_config(self, value: JsonObject) -> RoomConfig:
        limit = _integer(value.get("timeline_limit", 0), "timeline_limit")
        wanted = value.get("required_state", [])
        if isinstance(wanted, dict):
            self.is_newer = True
            parts = parts_of(
                _patterns(wanted, "include"),
                _patterns(wanted, "exclude"),
                lazy=_boolean(wanted, "lazy_members") or False,
            )
        else:
            parts = self._pairs(_list(wanted, "required_state", _MAX_REQUIRED))
        return RoomConfig(min(limit, MAX_TIMELINE), parts)

    def _pairs(self, pairs: list[JsonValue]) -> frozenset[Required]:
        include: set[Pattern] = set()
        lazy = False
        for pair in pairs:
            match pair:
                case [str(event_type), "$LAZY"]:
                    lazy = lazy or event_type in {MEMBER, "*"}
                case [str(event_type), str(state_key)]:
                    key = str(self._user_id) if state_key == "$ME" else state_key
                    include.add((_unless_any(event_type), _unless_any(key)))
                case _:
                    raise Malformed("required_state has pairs of type and state key")
        return parts_of(include, frozenset(), lazy=lazy)


def _unless_any(text: str) -> str | None:
    return None if text == "*" else text


def _patterns(value: JsonObject, name: str) -> frozenset[Pattern]:
    found: set[Pattern] = set()
    for element in _list(value.get(name, []), name, _MAX_REQUIRED):
        entry = _object(element, name)
        event_type, state_key = entry.get("type"), entry.get("state_key")
        if not isinstance(event_type, str | None):
            raise Malformed("type is not a string")
        if not isinstance(state_key, str | None):
            raise Malformed("state_key is not a string")
        found.add((event_type, state_key))
    return frozenset(found)


def _ranges(value: JsonObject) -> tuple[tuple[int, int], ...] | None:
    ranges = value.get("ranges")
    if ranges is None:
        ranges = [value["range"]] if value.get("range") is not None else None
    if ranges is None:
        return None
    found = []
    for each in _list(ranges, "ranges", _MAX_RANGES):
        match each:
            case [int(first), int(last)] if 0 <= first <= last:
                found.append((first, last))
            case _:
                raise Malformed("a range is two numbers, the first not the greater one")
    return tuple(found)


def _filters(value: JsonObject) -> Filters:
    is_invite = _boolean(value, "is_invite")
    room_types = _strings(value, "room_types", nulls=True)
    not_room_types = _strings(value, "not_room_types", nulls=True)
    return Filters(
        is_dm=_boolean(value, "is_dm"),
        is_encrypted=_boolean(value, "is_encrypted"),
        is_invite=_boolean(value, "is_invited") if is_invite is None else is_invite,
        spaces=_only_text(_strings(value, "spaces")),
        room_types=room_types,
        not_room_types=not_room_types or frozenset(),
        room_name_like=_text(value, "room_name_like"),
        tags=_only_text(_strings(value, "tags")),
        not_tags=_only_text(_strings(value, "not_tags")) or frozenset(),
    )


def _extension(value: JsonObject) -> Extension | None:
    if not _boolean(value, "enabled"):
        return None
    limit = value.get("limit")
    return Extension(
        lists=_scope(value, "lists"),
        rooms=_scope(value, "rooms"),
        since=_text(value, "since"),
        limit=None if limit is None else _integer(limit, "limit"),
        fields=_only_text(_strings(value, "fields")),
    )


def _scope(value: JsonObject, name: str) -> frozenset[str] | None:
    names = _only_text(_strings(value, name))
    return None if names is None or "*" in names else names


def _mapping(
    body: JsonObject, name: str, at_most: int, parse: Callable[[JsonObject], Value]
) -> dict[str, Value]:
    value = body.get(name)
    if value is None:
        return {}
    entries = _object(value, name)
    if len(entries) > at_most:
        raise Malformed(f"{name} has more than {at_most} entries")
    found = {}
    for key, entry in entries.items():
        if len(key) > _MAX_NAME:
            raise Malformed(f"a name in {name} is too long")
        found[key] = parse(_object(entry, name))
    return found


def _object(value: JsonValue, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def _list(value: JsonValue, name: str, at_most: int) -> list[JsonValue]:
    if not isinstance(value, list):
        raise Malformed(f"{name} is not a list")
    if len(value) > at_most:
        raise Malformed(f"{name} has more than {at_most} entries")
    return value


def _strings(
    value: JsonObject, name: str, *, nulls: bool = False
) -> frozenset[str | None] | None:
    if value.get(name) is None:
        return None
    found: set[str | None] = set()
    for entry in _list(value[name], name, _MAX_ENTRIES):
        if not (isinstance(entry, str) or (nulls and entry is None)):
            raise Malformed(f"{name} is not a list of strings")
        found.add(entry)
    return frozenset(found)


def _only_text(names: frozenset[str | None] | None) -> frozenset[str] | None:
    if names is None:
        return None
    return frozenset(name for name in names if name is not None)


def _text(value: JsonObject, name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _MAX_NAME:
        raise Malformed(f"{name} is not a string of up to {_MAX_NAME} characters")
    return text


def _boolean(value: JsonObject, name: str) -> bool | None:
    flag = value.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise Malformed(f"{name} is neither true nor false")
    return flag


def _integer(value: JsonValue, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Malformed(f"{name} is not a number from 0 on")
    return value
