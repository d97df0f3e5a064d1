"""What guests may do: the one list.

Spec: client-server-api#guest-access
"""

from collections.abc import Mapping, Sequence
from typing import Final

# By operation; the values are path parameters that must have a certain value.
ALLOWED: Final[Mapping[str, Mapping[str, str]]] = {
    # Retrieving events and media.
    "get_room_state": {},
    "get_room_state_with_key": {},
    "get_event_context": {},
    "get_one_room_event": {},
    "get_room_events": {},
    "get_members_by_room": {},
    "room_initial_sync": {},
    "sync": {},
    "get_events": {},
    "get_content_authed": {},
    "get_content_override_name_authed": {},
    "get_content_thumbnail_authed": {},
    # Sending events. The second way to join is the first one, for aliases too.
    "join_room_by_id": {},
    "join_room": {},
    "leave_room": {},
    "send_message": {},
    "set_room_state_with_key": {},
    "send_to_device": {},
    # Their own account. Whoever may come may also go.
    "set_profile_field": {"keyName": "displayname"},
    "delete_profile_field": {"keyName": "displayname"},
    "get_devices": {},
    "get_device": {},
    "update_device": {},
    "get_token_owner": {},
    "logout": {},
    "logout_all": {},
    # End-to-end encryption.
    "upload_keys": {},
    "query_keys": {},
    "claim_keys": {},
}


def may_call(operation: str, names: Sequence[str], values: Sequence[str]) -> bool:
    """Whether a guest may call an operation with these path parameters."""
    needed = ALLOWED.get(operation)
    if needed is None:
        return False
    given = dict(zip(names, values, strict=False))
    return all(given.get(name) == value for name, value in needed.items())
