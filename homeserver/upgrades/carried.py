"""What of a room's state goes into the room that replaces it.

Spec: client-server-api#room-upgrades
"""

from collections.abc import Collection, Mapping
from typing import Final

from federation.auth_rules.power_levels import level_of
from federation.canonical_json import MAX_INTEGER, JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_user_id
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from homeserver.rooms import presets
from homeserver.rooms.aliases import is_alias_of

# The state that the specification recommends, and what else does not depend on its
# sender. Power levels and join rules have functions of their own.
CARRIED: Final = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.policy",
    "m.room.retention",
)
# These have many state keys.
_NAMED: Final = frozenset({"m.space.child", "m.room.image_pack"})
_MAX_NAMED: Final = 2000
_LEVELS: Final = (
    *("users_default", "events_default", "state_default"),
    *("ban", "kick", "redact", "invite"),
)
_TABLES: Final = ("users", "events", "notifications")
_ADMIN: Final = 100


def named(state: Collection[StateKey]) -> list[StateKey]:
    """The children of a space, and the image packs of a room."""
    found = [key for key in state if key[0] in _NAMED]
    return sorted(found)[:_MAX_NAMED]


def create_content(
    old: Pdu, new_version: RoomVersion, last_event_id: str | None
) -> JsonObject:
    """What the new room's create event says besides its version and creators.

    Since version 12 the new room's ID depends on this, so that no event of the old room
    could name the room and be named here.
    """
    predecessor: dict[str, JsonValue] = {"room_id": old.room_id}
    if last_event_id is not None and not new_version.room_id_is_create_hash:
        predecessor["event_id"] = last_event_id
    kept: JsonObject = {
        name: old.content[name]
        for name in ("type", "m.federate")
        if name in old.content
    }
    return {**kept, "predecessor": predecessor}


def join_rules(content: JsonObject, new_version: RoomVersion) -> JsonObject:
    """The rule for joining; what the new version does not know becomes `invite`."""
    known = {
        "public": True,
        "invite": True,
        "knock": new_version.knock,
        "restricted": new_version.restricted_joins,
        "knock_restricted": new_version.knock_restricted,
    }
    rule = content.get("join_rule")
    if not isinstance(rule, str) or known.get(rule, False):
        return content
    if rule == "knock_restricted" and new_version.restricted_joins:
        return {**content, "join_rule": "restricted"}
    return {"join_rule": "invite"}


def canonical_alias(
    content: JsonObject, server_name: ServerName
) -> tuple[JsonObject, JsonObject]:
    """The aliases that move, and what stays with the old room: those of others."""
    moves, stays = dict(content), dict(content)
    alias, others = content.get("alias"), content.get("alt_aliases")
    (stays if is_alias_of(alias, server_name) else moves).pop("alias", None)
    if isinstance(others, list):
        moves["alt_aliases"] = [o for o in others if is_alias_of(o, server_name)]
        stays["alt_aliases"] = [o for o in others if not is_alias_of(o, server_name)]
    return moves, stays


# ── Power levels ─────────────────────────────────────────────────────────────────────


def power_levels(
    old: Mapping[StateKey, Pdu],
    old_version: RoomVersion,
    new_version: RoomVersion,
    creators: Collection[UserId],
) -> JsonObject:
    """The new room's power levels; `creators` are those of the new room, first first.

    Levels written as strings become numbers, and what is no level is left out. Creators
    of version 12 do not stand in it, and where the new version has no such creators,
    those of the old one keep as much power as there is.
    """
    first = next(iter(creators))
    event = old.get(("m.room.power_levels", ""))
    if event is None:
        return presets.power_levels(new_version, first)
    content = _tidied(event.content, old_version)
    users = dict(_table(content, "users"))
    if new_version.privileged_creators:
        users = {user: level for user, level in users.items() if user not in creators}
        _keep_replacing_to_few(content)
    elif old_version.privileged_creators:
        most = max(_ADMIN, *_all_levels(content))
        users |= dict.fromkeys(creators_of(old, old_version), most)
    return {**content, "users": users}


def creators_of(old: Mapping[StateKey, Pdu], version: RoomVersion) -> list[UserId]:
    """The creators of a room whose version gives them power without limit."""
    create = old.get(("m.room.create", ""))
    if create is None or not version.privileged_creators:
        return []
    more = create.content.get("additional_creators")
    others = more if isinstance(more, list) else []
    return [create.sender, *(UserId(str(user)) for user in others if _is_user(user))]


def _tidied(content: JsonObject, version: RoomVersion) -> dict[str, JsonValue]:
    tidied: dict[str, JsonValue] = {}
    for name in _LEVELS:
        level = level_of(content.get(name), version)
        if level is not None:
            tidied[name] = level
    for name in _TABLES:
        table = content.get(name)
        if isinstance(table, dict):
            tidied[name] = {
                key: level
                for key, value in table.items()
                if (level := level_of(value, version)) is not None
                and (name != "users" or _is_user(key))
            }
    return tidied


def _is_user(value: JsonValue) -> bool:
    try:
        return isinstance(value, str) and bool(parse_user_id(value))
    except Malformed:
        return False


def _table(content: Mapping[str, JsonValue], name: str) -> JsonObject:
    table = content.get(name)
    return table if isinstance(table, dict) else {}


def _all_levels(content: Mapping[str, JsonValue]) -> list[int]:
    values = [*content.values(), *_table(content, "events").values()]
    return [value for value in values if type(value) is int]


def _keep_replacing_to_few(content: dict[str, JsonValue]) -> None:
    """Have a tombstone need more than other state, as in a room that is made anew."""
    state_default = content.get("state_default", 50)
    events = _table(content, "events")
    level = events.get(presets.TOMBSTONE, state_default)
    if type(level) is int and type(state_default) is int and level <= state_default:
        raised = min(max(150, state_default + 50), MAX_INTEGER)
        content["events"] = {**events, presets.TOMBSTONE: raised}


def closed(content: JsonObject, version: RoomVersion) -> JsonObject:
    """The old room's power levels, so that few may speak and invite there.

    "setting `events_default` and `invite` to the greater of `50` and
    `users_default + 1`"
    """
    users_default = level_of(content.get("users_default"), version) or 0
    floor = min(max(50, users_default + 1), MAX_INTEGER)
    raised = {
        name: max(level_of(content.get(name), version) or 0, floor)
        for name in ("events_default", "invite")
    }
    return {**content, **raised}
