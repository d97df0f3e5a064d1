"""Bodies of the server-server API about users, directories and spaces.

The counterpart of `bodies`, with the same rule: `parse_*` raises Malformed, `json` is
the way back.

Spec: server-server-api#querying-for-information
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from federation import fields
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import (
    RoomId,
    ServerName,
    UserId,
    parse_room_id,
    parse_server_name,
    parse_user_id,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Version:
    """What a server runs on. Spec: server-server-api#get_matrixfederationv1version."""

    name: str
    version: str

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {"server": {"name": self.name, "version": self.version}}


def parse_version(body: JsonObject) -> Version:
    """Read an answer about the software; what is missing is empty."""
    server = fields.optional_object(body, "server") or {}
    return Version(
        name=fields.optional_text(server, "name") or "",
        version=fields.optional_text(server, "version") or "",
    )


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """The room behind an alias, and servers that are likely to be in it.

    Spec: server-server-api#get_matrixfederationv1querydirectory
    """

    room_id: RoomId
    servers: tuple[ServerName, ...]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {"room_id": self.room_id, "servers": list[JsonValue](self.servers)}


def parse_directory_entry(body: JsonObject) -> DirectoryEntry:
    """Read an answer about an alias. Raises: Malformed."""
    return DirectoryEntry(
        room_id=parse_room_id(fields.text(body, "room_id")),
        servers=fields.parsed_texts(body, "servers", parse_server_name),
    )


def parse_profile(body: JsonObject) -> JsonObject:
    """A profile: all its fields, of which the two old ones are checked.

    The user "MUST either be omitted or set to `null`" where there is no value; null
    fields are left out.

    Spec: server-server-api#get_matrixfederationv1queryprofile
    """
    fields.optional_text(body, "displayname")
    fields.optional_text(body, "avatar_url")
    return fields.without_none(body)


@dataclass(frozen=True, slots=True)
class PublicRoomsQuery:
    """Which published rooms a server asks for.

    `limit` is None for no limit; a `room_types` of None means all types, a None in it
    the rooms without a type.

    Spec: server-server-api#post_matrixfederationv1publicrooms
    """

    limit: int | None = None
    since: str | None = None
    generic_search_term: str | None = None
    room_types: tuple[str | None, ...] | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None

    @property
    def json(self) -> JsonObject:
        """The request's body."""
        room_types = self.room_types
        filters: dict[str, JsonValue] = {
            "generic_search_term": self.generic_search_term,
            "room_types": None if room_types is None else list[JsonValue](room_types),
        }
        return fields.without_none(
            {
                "limit": self.limit,
                "since": self.since,
                "filter": fields.without_none(filters) or None,
                "include_all_networks": self.include_all_networks or None,
                "third_party_instance_id": self.third_party_instance_id,
            }
        )


def parse_public_rooms_query(body: JsonObject) -> PublicRoomsQuery:
    """Read a request for published rooms. Raises: Malformed."""
    filters = fields.optional_object(body, "filter") or {}
    limit = fields.optional_integer(body, "limit")
    if limit is not None and limit < 0:
        raise Malformed("limit must not be negative")
    room_types: tuple[str | None, ...] | None = None
    if filters.get("room_types") is not None:
        room_types = tuple(
            None if each is None else fields.as_text(each, "each of room_types")
            for each in fields.array(filters, "room_types")
        )
    return PublicRoomsQuery(
        limit=limit,
        since=fields.optional_text(body, "since"),
        generic_search_term=fields.optional_text(filters, "generic_search_term"),
        room_types=room_types,
        include_all_networks=fields.optional_boolean(body, "include_all_networks"),
        third_party_instance_id=fields.optional_text(body, "third_party_instance_id"),
    )


@dataclass(frozen=True, slots=True)
class PublicRooms:
    """One page of a server's published rooms; each has the required fields.

    Spec: server-server-api#get_matrixfederationv1publicrooms
    """

    chunk: tuple[JsonObject, ...]
    next_batch: str | None = None
    prev_batch: str | None = None
    total_room_count_estimate: int | None = None

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return fields.without_none(
            {
                "chunk": list[JsonValue](self.chunk),
                "next_batch": self.next_batch,
                "prev_batch": self.prev_batch,
                "total_room_count_estimate": self.total_room_count_estimate,
            }
        )


def parse_public_rooms(body: JsonObject) -> PublicRooms:
    """Read a page of published rooms. Raises: Malformed.

    Rooms that lack what every client expects are left out and spoil no other.
    """
    return PublicRooms(
        chunk=tuple(
            room
            for room in fields.array(body, "chunk")
            if isinstance(room, dict) and _is_good(room, check_room_summary)
        ),
        next_batch=fields.optional_text(body, "next_batch"),
        prev_batch=fields.optional_text(body, "prev_batch"),
        total_room_count_estimate=fields.optional_integer(
            body, "total_room_count_estimate"
        ),
    )


def _is_good(value: JsonObject, check: Callable[[JsonObject], None]) -> bool:
    try:
        check(value)
    except Malformed:
        return False
    return True


def check_room_summary(room: JsonObject) -> None:
    """Raise Malformed unless a room's summary can be passed on to clients."""
    parse_room_id(fields.text(room, "room_id"))
    fields.integer(room, "num_joined_members")
    fields.boolean(room, "world_readable")
    fields.boolean(room, "guest_can_join")
    for name in ("name", "topic", "avatar_url", "canonical_alias", "join_rule"):
        fields.optional_text(room, name)
    fields.optional_text(room, "room_type")
    if room.get("allowed_room_ids") is not None:
        fields.parsed_texts(room, "allowed_room_ids", parse_room_id)


@dataclass(frozen=True, slots=True)
class SpaceHierarchy:
    """A space and the summaries of its children, one level deep.

    `room` holds `children_state`, the stripped `m.space.child` events.

    Spec: server-server-api#get_matrixfederationv1hierarchyroomid
    """

    room: JsonObject
    children: tuple[JsonObject, ...]
    inaccessible_children: tuple[RoomId, ...]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {
            "room": self.room,
            "children": list[JsonValue](self.children),
            "inaccessible_children": list[JsonValue](self.inaccessible_children),
        }


def parse_space_hierarchy(body: JsonObject, room_id: RoomId) -> SpaceHierarchy:
    """Read an answer about the space that was asked for. Raises: Malformed.

    Children and child events that are wrong are left out.
    """
    room = fields.obj(body, "room")
    check_room_summary(room)
    if room["room_id"] != room_id:
        raise Malformed(f"the hierarchy is not that of {room_id}")
    children_state: list[JsonValue] = [
        child
        for child in fields.array(room, "children_state")
        if isinstance(child, dict) and _is_good(child, _check_child_event)
    ]
    return SpaceHierarchy(
        room={**room, "children_state": children_state},
        children=tuple(
            child
            for child in fields.array(body, "children")
            if isinstance(child, dict) and _is_good(child, check_room_summary)
        ),
        inaccessible_children=fields.parsed_texts(
            body, "inaccessible_children", parse_room_id
        ),
    )


def _check_child_event(event: JsonObject) -> None:
    if fields.text(event, "type") != "m.space.child":
        raise Malformed("children_state holds m.space.child events")
    parse_room_id(fields.text(event, "state_key"))
    parse_user_id(fields.text(event, "sender"))
    fields.obj(event, "content")
    fields.integer(event, "origin_server_ts")


@dataclass(frozen=True, slots=True)
class UserDevice:
    """One device of a user and its identity keys."""

    device_id: str
    keys: JsonObject
    device_display_name: str | None = None


@dataclass(frozen=True, slots=True)
class UserDevices:
    """All devices of a user, as of `stream_id`.

    Spec: server-server-api#get_matrixfederationv1userdevicesuserid
    """

    user_id: UserId
    stream_id: int
    devices: tuple[UserDevice, ...]
    master_key: JsonObject | None = None
    self_signing_key: JsonObject | None = None

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        devices: list[JsonValue] = [
            fields.without_none(
                {
                    "device_id": device.device_id,
                    "keys": device.keys,
                    "device_display_name": device.device_display_name,
                }
            )
            for device in self.devices
        ]
        return fields.without_none(
            {
                "user_id": self.user_id,
                "stream_id": self.stream_id,
                "devices": devices,
                "master_key": self.master_key,
                "self_signing_key": self.self_signing_key,
            }
        )


def parse_user_devices(body: JsonObject, user_id: UserId) -> UserDevices:
    """Read an answer about the user that was asked for. Raises: Malformed."""
    if body.get("user_id") != user_id:
        raise Malformed(f"the devices are not those of {user_id}")
    return UserDevices(
        user_id=user_id,
        stream_id=fields.integer(body, "stream_id"),
        devices=tuple(
            UserDevice(
                device_id=fields.text(device, "device_id"),
                keys=fields.obj(device, "keys"),
                device_display_name=fields.optional_text(device, "device_display_name"),
            )
            for device in fields.objects(body, "devices")
        ),
        master_key=fields.optional_object(body, "master_key"),
        self_signing_key=fields.optional_object(body, "self_signing_key"),
    )


def _by_user(
    body: JsonObject, name: str, parse: Callable[[JsonValue, str], T]
) -> dict[UserId, T]:
    return {
        parse_user_id(user_id): parse(value, user_id)
        for user_id, value in fields.obj(body, name).items()
    }


def _optional_by_user(body: JsonObject, name: str) -> dict[UserId, JsonObject]:
    if body.get(name) is None:
        return {}
    return _by_user(body, name, fields.as_object)


def _plain(by_user: Mapping[UserId, JsonObject]) -> JsonObject:
    return dict(by_user.items())


def _objects_by_device(value: JsonValue, what: str) -> dict[str, JsonObject]:
    return {
        fields.as_text(device_id, "device ID"): fields.as_object(entry, what)
        for device_id, entry in fields.as_object(value, what).items()
    }


@dataclass(frozen=True, slots=True)
class UserKeys:
    """Identity keys of users' devices, and their cross-signing keys.

    Spec: server-server-api#post_matrixfederationv1userkeysquery
    """

    device_keys: Mapping[UserId, Mapping[str, JsonObject]]
    master_keys: Mapping[UserId, JsonObject]
    self_signing_keys: Mapping[UserId, JsonObject]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {
            "device_keys": {
                user_id: dict[str, JsonValue](by_device)
                for user_id, by_device in self.device_keys.items()
            },
            "master_keys": _plain(self.master_keys),
            "self_signing_keys": _plain(self.self_signing_keys),
        }


def parse_user_keys(body: JsonObject) -> UserKeys:
    """Read an answer about device keys. Raises: Malformed."""
    return UserKeys(
        device_keys=_by_user(body, "device_keys", _objects_by_device),
        master_keys=_optional_by_user(body, "master_keys"),
        self_signing_keys=_optional_by_user(body, "self_signing_keys"),
    )


# user -> device IDs; none means all devices
DeviceKeysQuery = Mapping[UserId, tuple[str, ...]]


def build_device_keys_query(users: DeviceKeysQuery) -> JsonObject:
    """The body of a request for device keys."""
    return {"device_keys": {user: list[JsonValue](ids) for user, ids in users.items()}}


def parse_device_keys_query(body: JsonObject) -> DeviceKeysQuery:
    """Read a request for device keys. Raises: Malformed."""
    users = fields.obj(body, "device_keys")
    return {
        parse_user_id(user_id): fields.parsed_texts(users, user_id, str)
        for user_id in users
    }


# user -> device ID -> algorithm
OneTimeKeysClaim = Mapping[UserId, Mapping[str, str]]
# user -> device ID -> `algorithm:key_id` -> key
ClaimedKeys = Mapping[UserId, Mapping[str, JsonObject]]


def build_one_time_keys_claim(claim: OneTimeKeysClaim) -> JsonObject:
    """The body of a request for one-time keys.

    Spec: server-server-api#post_matrixfederationv1userkeysclaim
    """
    return {
        "one_time_keys": {
            user_id: dict[str, JsonValue](by_device)
            for user_id, by_device in claim.items()
        }
    }


def parse_one_time_keys_claim(body: JsonObject) -> OneTimeKeysClaim:
    """Read a request for one-time keys. Raises: Malformed."""
    return _by_user(body, "one_time_keys", _texts_by_device)


def _texts_by_device(value: JsonValue, what: str) -> dict[str, str]:
    return {
        fields.as_text(device_id, "device ID"): fields.as_text(entry, what)
        for device_id, entry in fields.as_object(value, what).items()
    }


def build_claimed_keys(claimed: ClaimedKeys) -> JsonObject:
    """The body of an answer with one-time keys."""
    return {
        "one_time_keys": {
            user_id: dict[str, JsonValue](by_device)
            for user_id, by_device in claimed.items()
        }
    }


def parse_claimed_keys(body: JsonObject) -> ClaimedKeys:
    """Read an answer with one-time keys. Raises: Malformed.

    A key is a string or an object; anything else spoils the answer.
    """
    claimed = _by_user(body, "one_time_keys", _objects_by_device)
    for by_device in claimed.values():
        for keys in by_device.values():
            if not all(isinstance(key, str | dict) for key in keys.values()):
                raise Malformed("a one-time key must be a string or an object")
    return claimed
