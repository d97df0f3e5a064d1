"""Filters: which events a client wants, as pure functions over events.

The structs are the shapes of the specification; decoding one checks its types.

Spec: client-server-api#filtering
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.pdu import Pdu
from homeserver.events.relations import relation_of

MAX_LIMIT: Final = 1000
_MAX_ENTRIES: Final = 2000

Shape = TypeVar("Shape", bound=msgspec.Struct)


class EventFilter(msgspec.Struct, frozen=True):
    """Which events to keep, by sender and type."""

    limit: int | None = None
    not_senders: tuple[str, ...] = ()
    not_types: tuple[str, ...] = ()
    senders: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None

    def keeps(self, sender: str | None, event_type: str) -> bool:
        """Whether sender and type pass; a sender of None passes every list."""
        if sender is not None:
            if sender in self.not_senders:
                return False
            if self.senders is not None and sender not in self.senders:
                return False
        if matches_any(self.not_types, event_type):
            return False
        return self.types is None or matches_any(self.types, event_type)


class RoomEventFilter(EventFilter, frozen=True):
    """Which events of rooms to keep."""

    contains_url: bool | None = None
    include_redundant_members: bool = False
    lazy_load_members: bool = False
    unread_thread_notifications: bool = False
    not_rooms: tuple[str, ...] = ()
    rooms: tuple[str, ...] | None = None
    # MSC3440: with children by whom, and of which kinds.
    related_by_senders: tuple[str, ...] | None = None
    related_by_rel_types: tuple[str, ...] | None = None
    # MSC3874: which kinds of relations, by both of their names.
    rel_types: tuple[str, ...] | None = None
    not_rel_types: tuple[str, ...] = ()
    unstable_rel_types: tuple[str, ...] | None = msgspec.field(
        default=None, name="org.matrix.msc3874.rel_types"
    )
    unstable_not_rel_types: tuple[str, ...] = msgspec.field(
        default=(), name="org.matrix.msc3874.not_rel_types"
    )

    @property
    def relation_types(self) -> Iterable[tuple[str, ...] | None]:
        """Every list of kinds of relations."""
        yield from (self.rel_types, self.not_rel_types, self.related_by_rel_types)
        yield from (self.unstable_rel_types, self.unstable_not_rel_types)

    @property
    def asks_for_children(self) -> bool:
        """Whether it matters what relates to an event."""
        senders, rel_types = self.related_by_senders, self.related_by_rel_types
        return senders is not None or rel_types is not None

    @property
    def keeps_all_alone(self) -> bool:
        """Whether no event can fail it, whatever relates to the event."""
        return self.keeps_all and not self.asks_for_children

    @property
    def _asks_for_relations(self) -> bool:
        return (
            self.rel_types is not None
            or self.unstable_rel_types is not None
            or bool(self.not_rel_types or self.unstable_not_rel_types)
        )

    def _keeps_relation(self, rel_type: str | None) -> bool:
        """Whether an event with that relation, or with none, passes."""
        if rel_type in (*self.not_rel_types, *self.unstable_not_rel_types):
            return False
        return all(
            wanted is None or rel_type in wanted
            for wanted in (self.rel_types, self.unstable_rel_types)
        )

    @property
    def keeps_all(self) -> bool:
        """Whether no event can fail it."""
        return (
            self.senders is None
            and self.types is None
            and self.contains_url is None
            and not self._asks_for_relations
            and self.rooms is None
            and not (self.not_senders or self.not_types or self.not_rooms)
        )

    def keeps_event(self, event: Pdu) -> bool:
        """Whether the event passes, as far as the event itself tells.

        What relates to it is looked up besides: homeserver/rooms/kept.py.
        """
        if self.keeps_all:
            return True
        if self._asks_for_relations:
            relation = relation_of(event)
            rel_type = None if relation is None else relation.rel_type
            if not self._keeps_relation(rel_type):
                return False
        if self.contains_url is not None:
            has_url = isinstance(event.content.get("url"), str)
            if has_url != self.contains_url:
                return False
        return self.keeps_room(event.room_id) and self.keeps(event.sender, event.type)

    def keeps_room(self, room_id: str) -> bool:
        """Whether events of this room may pass at all."""
        if room_id in self.not_rooms:
            return False
        return self.rooms is None or room_id in self.rooms


class RoomFilter(msgspec.Struct, frozen=True):
    """What to sync of rooms."""

    not_rooms: tuple[str, ...] = ()
    rooms: tuple[str, ...] | None = None
    include_leave: bool = False
    account_data: RoomEventFilter = RoomEventFilter()
    ephemeral: RoomEventFilter = RoomEventFilter()
    state: RoomEventFilter = RoomEventFilter()
    timeline: RoomEventFilter = RoomEventFilter()

    def keeps_room(self, room_id: str) -> bool:
        """Whether the room is to be synced."""
        if room_id in self.not_rooms:
            return False
        return self.rooms is None or room_id in self.rooms


class ProfileFilter(msgspec.Struct, frozen=True):
    """Which profile fields of others to sync (MSC4429)."""

    ids: tuple[str, ...] = ()


class Filter(msgspec.Struct, frozen=True):
    """A whole filter, as defined or given inline."""

    account_data: EventFilter = EventFilter()
    event_fields: tuple[str, ...] | None = None
    event_format: str = "client"
    presence: EventFilter = EventFilter()
    room: RoomFilter = RoomFilter()
    profile_fields: ProfileFilter = msgspec.field(
        name="org.matrix.msc4429.profile_fields", default=ProfileFilter()
    )


def parse_filter(given: JsonObject) -> Filter:
    """Check a filter's shape. Raises: Malformed."""
    parsed = _convert(given, Filter)
    if parsed.event_format not in ("client", "federation"):
        raise Malformed("event_format must be 'client' or 'federation'")
    for name in ("account_data", "presence"):
        _check(getattr(parsed, name), name)
    if len(parsed.profile_fields.ids) > _MAX_ENTRIES:
        raise Malformed(f"profile_fields lists more than {_MAX_ENTRIES} fields")
    for name in ("account_data", "ephemeral", "state", "timeline"):
        _check(getattr(parsed.room, name), f"room.{name}")
    _check_ids("!", parsed.room.rooms, "room.rooms")
    _check_ids("!", parsed.room.not_rooms, "room.not_rooms")
    return parsed


def parse_room_event_filter(given: JsonObject) -> RoomEventFilter:
    """Check the shape of a filter for events of rooms. Raises: Malformed."""
    parsed = _convert(given, RoomEventFilter)
    _check(parsed, "filter")
    return parsed


def _convert(given: JsonObject, kind: type[Shape]) -> Shape:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"the filter is malformed: {error}") from None


def _check(parsed: EventFilter, name: str) -> None:
    if parsed.limit is not None and parsed.limit < 0:
        raise Malformed(f"{name}.limit must not be negative")
    _check_ids("@", parsed.senders, f"{name}.senders")
    _check_ids("@", parsed.not_senders, f"{name}.not_senders")
    if isinstance(parsed, RoomEventFilter):
        _check_ids("!", parsed.rooms, f"{name}.rooms")
        _check_ids("!", parsed.not_rooms, f"{name}.not_rooms")
        _check_ids("@", parsed.related_by_senders, f"{name}.related_by_senders")
        for kinds in parsed.relation_types:
            _check_count(kinds, f"{name}.rel_types")
    for types in (parsed.types, parsed.not_types):
        _check_count(types, name)


def _check_count(types: Sequence[str] | None, name: str) -> None:
    if types is not None and len(types) > _MAX_ENTRIES:
        raise Malformed(f"{name} lists more than {_MAX_ENTRIES} types")


def _check_ids(sigil: str, ids: Sequence[str] | None, name: str) -> None:
    if ids is None:
        return
    if len(ids) > _MAX_ENTRIES:
        raise Malformed(f"{name} lists more than {_MAX_ENTRIES} entries")
    for value in ids:
        if not value.startswith(sigil) or (":" not in value[1:] and sigil == "@"):
            raise Malformed(f"{name}: {value[:80]!r} is not an identifier")


def matches_any(patterns: Iterable[str], event_type: str) -> bool:
    """Whether a type is listed; `*` in a pattern stands for any characters."""
    return any(
        _pattern(p).fullmatch(event_type) is not None if "*" in p else p == event_type
        for p in patterns
    )


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    # Repeated stars mean the same and would make matching slow.
    parts = re.sub(r"\*+", "*", pattern).split("*")
    return re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)


def pick_fields(event: JsonObject, fields: Iterable[str]) -> JsonObject:
    r"""An event with only those fields; `.` goes deeper, `\.` is a dot in a name.

    Spec: client-server-api#post_matrixclientv3useruseridfilter
    """
    picked: JsonObject = {}
    for field in fields:
        _pick(event, picked, _parts(field))
    return picked


@lru_cache(maxsize=1024)
def _parts(field: str) -> tuple[str, ...]:
    parts = re.split(r"(?<!\\)\.", field)
    return tuple(part.replace("\\.", ".").replace("\\\\", "\\") for part in parts)


def _pick(source: JsonObject, target: JsonObject, parts: Sequence[str]) -> None:
    for part in parts[:-1]:
        deeper: JsonValue = source.get(part)
        if not isinstance(deeper, dict):
            return
        below = target.setdefault(part, {})
        if not isinstance(below, dict):
            return
        source, target = deeper, below
    if parts[-1] in source:
        target[parts[-1]] = source[parts[-1]]
