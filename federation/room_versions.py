"""Room versions as values: each is the one before it with named differences.

Code asks for a field by what it means and never compares versions.

Spec: rooms#complete-list-of-room-versions
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final


class EventIdFormat(Enum):
    """How events of a room version get their IDs."""

    FROM_SERVER = "v1"  # `$opaque:domain`, in the event itself
    HASH = "v3"  # `$` + unpadded base64 of the reference hash
    URLSAFE_HASH = "v4"  # the same in the URL-safe alphabet


class StateResolution(Enum):
    """Which algorithm resolves the room's state."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """What differs between room versions; each field names one difference."""

    identifier: str
    stable: bool = True
    event_id_format: EventIdFormat = EventIdFormat.FROM_SERVER
    state_resolution: StateResolution = StateResolution.V1
    # v6: floats and integers outside ±(2^53-1) are refused.
    strict_canonical_json: bool = False
    # v5: signatures count only while their key was valid at origin_server_ts.
    enforce_key_validity: bool = False
    # v1-v5: m.room.aliases is special in auth rules, and keeps `aliases` redacted.
    special_aliases: bool = True
    # v1-v2: auth rules check the right to redact; v3+ check when it is applied.
    redaction_in_auth_rules: bool = True
    # v6: changes to `notifications` in power levels are checked.
    checks_notification_levels: bool = False
    # v7: membership `knock` and join rule `knock`.
    knock: bool = False
    # v8: join rule `restricted`; `allow` survives redaction of join rules.
    restricted_joins: bool = False
    # v9: `join_authorised_via_users_server` survives redaction.
    keeps_join_authorisation: bool = False
    # v10: join rule `knock_restricted`.
    knock_restricted: bool = False
    # v10: power levels must be integers; strings are refused.
    integer_power_levels: bool = False
    # v11: the creator is the create event's sender; content has no `creator`.
    creator_is_sender: bool = False
    # v11: `redacts` lives in a redaction's content.
    redacts_in_content: bool = False
    # v11: the updated redaction rules (MSC2176, MSC3821, MSC3989).
    updated_redaction: bool = False
    # v12: the room ID is the create event's reference hash, and is the event's only
    # link to it: no create event among auth_events, no room_id in the create event.
    room_id_is_create_hash: bool = False
    # v12: creators (with additional_creators) have infinite power.
    privileged_creators: bool = False

    def __str__(self) -> str:
        return self.identifier


V1: Final = RoomVersion("1")
V2: Final = replace(V1, identifier="2", state_resolution=StateResolution.V2)
V3: Final = replace(
    V2,
    identifier="3",
    event_id_format=EventIdFormat.HASH,
    redaction_in_auth_rules=False,
)
V4: Final = replace(V3, identifier="4", event_id_format=EventIdFormat.URLSAFE_HASH)
V5: Final = replace(V4, identifier="5", enforce_key_validity=True)
V6: Final = replace(
    V5,
    identifier="6",
    strict_canonical_json=True,
    special_aliases=False,
    checks_notification_levels=True,
)
V7: Final = replace(V6, identifier="7", knock=True)
V8: Final = replace(V7, identifier="8", restricted_joins=True)
V9: Final = replace(V8, identifier="9", keeps_join_authorisation=True)
V10: Final = replace(
    V9, identifier="10", knock_restricted=True, integer_power_levels=True
)
V11: Final = replace(
    V10,
    identifier="11",
    creator_is_sender=True,
    redacts_in_content=True,
    updated_redaction=True,
)
V12: Final = replace(
    V11,
    identifier="12",
    state_resolution=StateResolution.V2_1,
    room_id_is_create_hash=True,
    privileged_creators=True,
)

ROOM_VERSIONS: Final = {
    version.identifier: version
    for version in (V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12)
}


def find(identifier: str) -> RoomVersion | None:
    """The room version of that name, or None when we do not know it."""
    return ROOM_VERSIONS.get(identifier)
