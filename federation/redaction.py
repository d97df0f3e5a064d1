"""The redaction algorithm: what survives of an event, by room version.

Spec: client-server-api#redactions, rooms/v11#redactions
"""

from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.room_versions import RoomVersion

_KEPT: Final = frozenset(
    {
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "auth_events",
        "origin_server_ts",
    }
)
# "The top-level origin, membership, and prev_state properties are no longer
# protected from redaction" since v11.
_KEPT_UNTIL_V10: Final = _KEPT | {"origin", "membership", "prev_state"}

_POWER_LEVELS: Final = (
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
)


def redact(event: JsonObject, version: RoomVersion) -> JsonObject:
    """A new event with only what the room version protects from redaction.

    Redacting twice gives the same, and the reference hash does not change.
    """
    kept = _KEPT if version.updated_redaction else _KEPT_UNTIL_V10
    pruned = {key: value for key, value in event.items() if key in kept}
    content = event.get("content")
    pruned["content"] = (
        _redact_content(event.get("type"), content, version)
        if isinstance(content, dict)
        else {}
    )
    return pruned


def _redact_content(
    event_type: JsonValue, content: JsonObject, version: RoomVersion
) -> JsonObject:
    if event_type == "m.room.create" and version.updated_redaction:
        return dict(content)
    if event_type == "m.room.member":
        return _redact_member(content, version)
    return {
        key: content[key]
        for key in _kept_content_keys(event_type, version)
        if key in content
    }


def _kept_content_keys(event_type: JsonValue, version: RoomVersion) -> tuple[str, ...]:
    match event_type:
        case "m.room.create":
            return ("creator",)
        case "m.room.join_rules":
            return (
                ("join_rule", "allow") if version.restricted_joins else ("join_rule",)
            )
        case "m.room.power_levels":
            return (
                (*_POWER_LEVELS, "invite")
                if version.updated_redaction
                else (_POWER_LEVELS)
            )
        case "m.room.history_visibility":
            return ("history_visibility",)
        case "m.room.aliases" if version.special_aliases:
            return ("aliases",)
        case "m.room.redaction" if version.updated_redaction:
            return ("redacts",)
        case _:
            return ()


def _redact_member(content: JsonObject, version: RoomVersion) -> JsonObject:
    pruned: JsonObject = {}
    if "membership" in content:
        pruned["membership"] = content["membership"]
    if (
        version.keeps_join_authorisation
        and "join_authorised_via_users_server" in content
    ):
        pruned["join_authorised_via_users_server"] = content[
            "join_authorised_via_users_server"
        ]
    if version.updated_redaction:
        invite = content.get("third_party_invite")
        if isinstance(invite, dict):
            # COMPAT: the text leaves open what remains of an invite that is not
            # signed; deployed servers keep the empty object, and event IDs depend
            # on it.
            pruned["third_party_invite"] = {
                key: invite[key] for key in ("signed",) if key in invite
            }
    return pruned
