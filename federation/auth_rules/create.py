"""The first rule, about create events, and who created a room.

Spec: rooms/v12#authorisation-rules
"""

from federation.auth_rules.rules import Rule, refuse
from federation.canonical_json import JsonValue
from federation.ids import UserId, is_user_id, server_of
from federation.pdu import Pdu


def check_create(event: Pdu) -> None:
    """Allow a create event or raise Rejected. It depends on nothing but itself."""
    version = event.version
    if event.prev_events:
        raise refuse(
            version, Rule.CREATE_PREV_EVENTS, "a create event follows no other event"
        )
    _check_room_id(event)
    # An absent room_version means "1". An event that names another version than the
    # one it was read by is of no version that we recognise for this room.
    if event.content.get("room_version", "1") != version.identifier:
        raise refuse(
            version,
            Rule.CREATE_ROOM_VERSION,
            f"the create event does not say room version {version.identifier}",
        )
    if not version.creator_is_sender and "creator" not in event.content:
        raise refuse(version, Rule.CREATE_CREATOR, "the create event names no creator")
    if version.privileged_creators and "additional_creators" in event.content:
        _check_additional_creators(event, event.content["additional_creators"])


def _check_room_id(event: Pdu) -> None:
    if event.version.room_id_is_create_hash:
        if "room_id" in event.json:
            raise refuse(
                event.version,
                Rule.CREATE_ROOM_ID,
                "a create event has no room_id, it makes the room ID",
            )
    elif event.room_id.partition(":")[2] != server_of(event.sender):
        raise refuse(
            event.version,
            Rule.CREATE_ROOM_ID,
            "the room ID is not of the server whose user creates the room",
        )


def _check_additional_creators(event: Pdu, creators: JsonValue) -> None:
    if not isinstance(creators, list) or not all(map(is_user_id, creators)):
        raise refuse(
            event.version,
            Rule.CREATE_ADDITIONAL,
            "additional_creators must be a list of user IDs",
        )


def creator_of(create: Pdu) -> JsonValue:
    """The user who may join first, and has power without a power levels event.

    Until version 10 that is `content.creator`, which nothing checks: it may be any
    JSON value, and then nobody is the creator.
    """
    if create.version.creator_is_sender:
        return create.sender
    return create.content.get("creator")


def is_creator(create: Pdu, user_id: str) -> bool:
    """Whether the user has the infinite power of version 12's room creators."""
    if not create.version.privileged_creators:
        return False
    if user_id == create.sender:
        return True
    additional = create.content.get("additional_creators")
    return isinstance(additional, list) and user_id in additional


def creators_of(create: Pdu) -> frozenset[UserId]:
    """The creators of a room whose create event was allowed, of any version."""
    creator = creator_of(create)
    creators = {UserId(creator)} if isinstance(creator, str) else set()
    additional = create.content.get("additional_creators")
    if create.version.privileged_creators and isinstance(additional, list):
        creators |= {UserId(user) for user in additional if isinstance(user, str)}
    return frozenset(creators)
