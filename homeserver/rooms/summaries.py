"""What may be told of a room to those who are not in it.

Spec: client-server-api#published-room-directory
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import RoomId, parse_room_alias
from homeserver.db.pool import Database
from homeserver.live.live import Live
from homeserver.rooms.restricted import allowed_rooms

_FIELDS: Final = {
    "m.room.create": "create",
    "m.room.name": "name",
    "m.room.topic": "topic",
    "m.room.avatar": "avatar",
    "m.room.canonical_alias": "canonical_alias",
    "m.room.join_rules": "join_rules",
    "m.room.guest_access": "guest_access",
    "m.room.history_visibility": "history_visibility",
    "m.room.encryption": "encryption",
}
_WORLD_READABLE: Final = "world_readable"


@dataclass(frozen=True, slots=True)
class Outline:
    """The contents of the state events that a summary is made of; `{}` for absent."""

    create: JsonObject
    name: JsonObject
    topic: JsonObject
    avatar: JsonObject
    canonical_alias: JsonObject
    join_rules: JsonObject
    guest_access: JsonObject
    history_visibility: JsonObject
    encryption: JsonObject

    @property
    def room_type(self) -> str | None:
        """The room's type. Spec: client-server-api#types."""
        return _text(self.create.get("type"))

    @property
    def federates(self) -> bool:
        """Whether users of other servers may come."""
        return self.create.get("m.federate") is not False

    def summary(self, room_id: RoomId, joined: int) -> JsonObject:
        """The room as directories show it."""
        rule = self.join_rules.get("join_rule")
        summary: dict[str, JsonValue] = {
            "room_id": room_id,
            "num_joined_members": joined,
            "world_readable": self.history_visibility.get("history_visibility")
            == _WORLD_READABLE,
            "guest_can_join": self.guest_access.get("guest_access") == "can_join",
            # Absent it would mean `public`; a room without a rule wants invites.
            "join_rule": rule if isinstance(rule, str) else "invite",
            "name": _text(self.name.get("name")),
            "topic": _plain_topic(self.topic),
            "canonical_alias": _alias(self.canonical_alias.get("alias")),
            "avatar_url": _mxc(self.avatar.get("url")),
            "room_type": self.room_type,
        }
        return {key: value for key, value in summary.items() if value is not None}

    def full_summary(self, room_id: RoomId, joined: int) -> JsonObject:
        """The room as previews and spaces show it."""
        summary = dict(self.summary(room_id, joined))
        if summary["join_rule"] in ("restricted", "knock_restricted"):
            summary["allowed_room_ids"] = list[JsonValue](
                allowed_rooms(self.join_rules)
            )
        summary["room_version"] = _text(self.create.get("room_version")) or "1"
        algorithm = _text(self.encryption.get("algorithm"))
        return summary if algorithm is None else {**summary, "encryption": algorithm}


def outline_of(events: Iterable[JsonObject]) -> Outline:
    """The outline that stripped state events give, as far as they go."""
    contents: dict[str, JsonObject] = {}
    for event in events:
        field, content = _FIELDS.get(str(event["type"])), event["content"]
        if field is not None and event["state_key"] == "" and isinstance(content, dict):
            contents[field] = content
    return Outline(**{field: contents.get(field, {}) for field in _FIELDS.values()})


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _mxc(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value.startswith("mxc://") else None


def _alias(value: JsonValue) -> str | None:
    try:
        return parse_room_alias(value) if isinstance(value, str) else None
    except Malformed:
        return None


def _plain_topic(content: JsonObject) -> str | None:
    """The topic in plain text. Spec: client-server-api#mroomtopic."""
    block = content.get("m.topic")
    texts = block.get("m.text") if isinstance(block, dict) else None
    if not isinstance(texts, list):
        return _text(content.get("topic"))
    for text in texts:
        if (
            isinstance(text, dict)
            and text.get("mimetype", "text/plain") == "text/plain"
            and (body := _text(text.get("body"))) is not None
        ):
            return body
    return None


async def read_outlines(
    db: Database, live: Live, room_nids: Sequence[int]
) -> Mapping[int, Outline]:
    """The outlines of those rooms that have begun, without loading the whole rooms."""
    keys = await live.states.keys.nids((kind, "") for kind in _FIELDS)
    rows = await db.read_old(
        lambda tx: tx.fetch(
            """
            SELECT room_nid, key_nid, event_nid FROM current_state
             WHERE room_nid = ANY($1) AND key_nid = ANY($2)
            """,
            room_nids,
            list(keys.values()),
        )
    )
    events = await live.events.by_nids(row["event_nid"] for row in rows)
    fields = {nid: _FIELDS[key[0]] for key, nid in keys.items()}
    found: dict[int, dict[str, JsonObject]] = {}
    for room_nid, key_nid, event_nid in rows:
        event = events.get(event_nid)
        if event is not None:
            found.setdefault(room_nid, {})[fields[key_nid]] = event.shown.content
    return {
        nid: Outline(**{field: contents.get(field, {}) for field in _FIELDS.values()})
        for nid, contents in found.items()
        if "create" in contents
    }
