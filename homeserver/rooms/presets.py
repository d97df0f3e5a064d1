"""What a new room begins with: the events that a preset and the room version imply.

Spec: client-server-api#post_matrixclientv3createroom
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import MAX_INTEGER, JsonObject, JsonValue
from federation.ids import UserId
from federation.room_versions import RoomVersion

POWER_LEVELS: Final = "m.room.power_levels"
TOMBSTONE: Final = "m.room.tombstone"
_CREATOR_LEVEL: Final = 100


@dataclass(frozen=True, slots=True)
class Preset:
    """A row of the specification's table of presets."""

    join_rule: str
    history_visibility: str
    guest_access: str
    # "All invitees are given the same power level as the room creator."
    trusts_invitees: bool = False

    def events(self) -> list[tuple[str, JsonObject]]:
        """The state events of the preset, type and content, in order."""
        return [
            ("m.room.join_rules", {"join_rule": self.join_rule}),
            (
                "m.room.history_visibility",
                {"history_visibility": self.history_visibility},
            ),
            ("m.room.guest_access", {"guest_access": self.guest_access}),
        ]


PRESETS: Final = {
    "private_chat": Preset("invite", "shared", "can_join"),
    "trusted_private_chat": Preset(
        "invite", "shared", "can_join", trusts_invitees=True
    ),
    "public_chat": Preset("public", "shared", "forbidden"),
}


def create_content(
    version: RoomVersion,
    creator: UserId,
    given: JsonObject,
    trusted: Sequence[UserId] = (),
) -> JsonObject:
    """The content of the create event: what the client gave, and what we overwrite.

    `trusted` are invitees who shall have the creator's power.
    """
    content: JsonObject = {**given, "room_version": version.identifier}
    content.pop("creator", None)
    if not version.creator_is_sender:
        content["creator"] = creator
    if version.privileged_creators and trusted:
        already = given.get("additional_creators", [])
        if isinstance(already, list):  # else the rules refuse it, with a reason
            merged: list[JsonValue] = list(already)
            merged += [user for user in trusted if user not in already]
            content["additional_creators"] = merged
    return content


def power_levels(
    version: RoomVersion,
    creator: UserId,
    trusted: Sequence[UserId] = (),
    override: JsonObject | None = None,
) -> JsonObject:
    """The content of the first power levels event, with the client's on top.

    The creators of version 12 have no place in it; their power has no limit.
    """
    peers = () if version.privileged_creators else (creator, *trusted)
    users: JsonObject = dict.fromkeys(peers, _CREATOR_LEVEL)
    content: JsonObject = {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            POWER_LEVELS: 100,
            "m.room.history_visibility": 100,
            "m.room.encryption": 100,
            "m.room.server_acl": 100,
            TOMBSTONE: 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
        **(override or {}),
    }
    if version.privileged_creators:
        _raise_tombstone(content, override or {})
    return content


def _raise_tombstone(content: JsonObject, override: JsonObject) -> None:
    """Keep replacing the room to those who are more than moderators.

    "The power level for sending m.room.tombstone events MUST explicitly be higher than
    state_default", unless the client sets it.
    """
    events, state_default = content["events"], content["state_default"]
    given = override.get("events")
    if isinstance(given, dict) and TOMBSTONE in given:
        return
    if isinstance(events, dict) and type(state_default) is int:
        level = min(max(150, state_default + 50), MAX_INTEGER)
        content["events"] = {**events, TOMBSTONE: level}


def topic_content(topic: str) -> JsonObject:
    """The content of a topic event, in the plain form and the extensible one.

    Spec: client-server-api#mroomtopic
    """
    return {"topic": topic, "m.topic": {"m.text": [{"body": topic}]}}
