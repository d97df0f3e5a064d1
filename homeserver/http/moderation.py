"""What users may still do while their account is locked or suspended: the two lists.

Spec: client-server-api#account-moderation
"""

from collections.abc import Mapping, Sequence
from typing import Final

from homeserver import errors

# All that is left to who is locked.
WHEN_LOCKED: Final = frozenset(("logout", "logout_all"))
# What is barred while suspended, unless a path parameter has that value. Of redactions
# only those of others' events are, which is seen where they are made.
NOT_WHEN_SUSPENDED: Final[Mapping[str, Mapping[str, str]]] = {
    "join_room": {},
    "join_room_by_id": {},
    "knock_room": {},
    "invite_user": {},
    "create_room": {},
    "upgrade_room": {},
    "kick": {},
    "ban": {},
    "unban": {},
    "send_message": {"eventType": "m.room.redaction"},
    "schedule_delayed_event": {},
    "set_room_state_with_key": {},
    "set_profile_field": {},
    "delete_profile_field": {},
    "set_room_alias": {},
    "set_room_visibility_on_directory": {},
    "upload_content": {},
    "create_content": {},
    "upload_content_to_mxc": {},
}


def check_locked(operation: str) -> None:
    """Refuse who is locked. Raises: M_USER_LOCKED."""
    if operation not in WHEN_LOCKED:
        raise errors.user_locked()


def check_suspended(
    operation: str, names: Sequence[str], values: Sequence[str]
) -> None:
    """Refuse who is suspended what would be an activity. Raises: M_USER_SUSPENDED."""
    but = NOT_WHEN_SUSPENDED.get(operation)
    if but is None:
        return
    given = dict(zip(names, values, strict=False))
    if not but or any(given.get(name) != value for name, value in but.items()):
        raise errors.user_suspended()
