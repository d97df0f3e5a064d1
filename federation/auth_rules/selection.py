"""Which events of the room state an event has to name as its `auth_events`.

Spec: server-server-api#auth-events-selection
"""

from federation.canonical_json import JsonObject
from federation.pdu import StateKey
from federation.room_versions import RoomVersion


def auth_keys(
    version: RoomVersion,
    event_type: str,
    state_key: str | None,
    sender: str,
    content: JsonObject,
) -> list[StateKey]:
    """The places in the room state whose events, where there are any, authorise it.

    Each place occurs once. A create event needs none.
    """
    if event_type == "m.room.create":
        return []
    keys: list[StateKey] = [
        ("m.room.power_levels", ""),
        ("m.room.member", sender),
    ]
    if not version.room_id_is_create_hash:
        keys.insert(0, ("m.room.create", ""))
    if event_type == "m.room.member":
        keys.extend(_member_keys(version, state_key, content))
        keys = list(dict.fromkeys(keys))
    return keys


def _member_keys(
    version: RoomVersion, target: str | None, content: JsonObject
) -> list[StateKey]:
    keys: list[StateKey] = []
    if target is not None:
        keys.append(("m.room.member", target))
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        keys.append(("m.room.join_rules", ""))
    if membership == "invite":
        token = token_of(content)
        if token is not None:
            keys.append(("m.room.third_party_invite", token))
    if membership == "join" and version.restricted_joins:
        voucher = content.get("join_authorised_via_users_server")
        if isinstance(voucher, str):
            keys.append(("m.room.member", voucher))
    return keys


def token_of(content: JsonObject) -> str | None:
    """`content.third_party_invite.signed.token` of a member event, if it has one."""
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    token = signed.get("token") if isinstance(signed, dict) else None
    return token if isinstance(token, str) else None
