"""EDUs: what servers tell each other and nobody stores in a room.

Each kind is a dataclass with a parser and, for the way out, `to_edu`. A parser is told
which server sent the EDU: a server speaks for its own users only. Where one EDU holds
many entries, a bad entry is left out and spoils no other.

Spec: server-server-api#edus
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from federation import fields
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import (
    EventId,
    RoomId,
    ServerName,
    UserId,
    parse_event_id,
    parse_room_id,
    parse_user_id,
    server_of,
)

T = TypeVar("T")
U = TypeVar("U")

TYPING: Final = "m.typing"
RECEIPT: Final = "m.receipt"
PRESENCE: Final = "m.presence"
DEVICE_LIST_UPDATE: Final = "m.device_list_update"
DIRECT_TO_DEVICE: Final = "m.direct_to_device"
SIGNING_KEY_UPDATE: Final = "m.signing_key_update"

# "Currently the only kind of receipt supported is a 'read receipt'".
READ: Final = "m.read"
# The last one is not in the specification yet (MSC3026).
PRESENCES: Final = frozenset(
    {"offline", "unavailable", "online", "org.matrix.msc3026.busy"}
)
# "Arbitrary utf8 string, of maximum length 32 codepoints."
MAX_MESSAGE_ID: Final = 32
ALL_DEVICES: Final = "*"


@dataclass(frozen=True, slots=True)
class Edu:
    """One EDU as it stands in a transaction; its content is not looked at yet."""

    edu_type: str
    content: JsonObject

    @property
    def json(self) -> JsonObject:
        """As it stands in a transaction."""
        return {"edu_type": self.edu_type, "content": self.content}


def parse_edu(raw: JsonValue) -> Edu:
    """Read an EDU's envelope. Raises: Malformed."""
    edu = fields.as_object(raw, "an EDU")
    return Edu(fields.text(edu, "edu_type"), fields.obj(edu, "content"))


def _user_of(value: JsonValue, origin: ServerName, what: str) -> UserId:
    user_id = parse_user_id(fields.as_text(value, what))
    if server_of(user_id) != origin:
        raise Malformed(f"{what} {user_id} is not a user of {origin}")
    return user_id


def _good_ones(items: Iterable[T], parse: Callable[[T], U]) -> tuple[U, ...]:
    good = []
    for item in items:
        try:
            good.append(parse(item))
        except Malformed:
            continue
    return tuple(good)


@dataclass(frozen=True, slots=True)
class Typing:
    """A user began or stopped typing. Spec: server-server-api#typing-notifications."""

    room_id: RoomId
    user_id: UserId
    typing: bool

    def to_edu(self) -> Edu:
        """For a transaction of ours."""
        return Edu(
            TYPING,
            {
                "room_id": self.room_id,
                "user_id": self.user_id,
                "typing": self.typing,
            },
        )


def parse_typing(content: JsonObject, origin: ServerName) -> Typing:
    """Read the content of `m.typing`. Raises: Malformed."""
    return Typing(
        room_id=parse_room_id(fields.text(content, "room_id")),
        user_id=_user_of(content.get("user_id"), origin, "user_id"),
        typing=fields.boolean(content, "typing"),
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a user has read. `thread_id` is None when the receipt is unthreaded.

    Spec: server-server-api#receipts
    """

    room_id: RoomId
    user_id: UserId
    event_id: EventId
    ts: int
    thread_id: str | None


def parse_receipts(content: JsonObject, origin: ServerName) -> tuple[Receipt, ...]:
    """Read the content of `m.receipt`; entries that are wrong are left out."""
    entries = [
        (room_id, user_id, entry)
        for room_id, by_type in content.items()
        if isinstance(by_type, dict) and isinstance(by_user := by_type.get(READ), dict)
        for user_id, entry in by_user.items()
    ]
    return _good_ones(entries, lambda entry: _parse_receipt(*entry, origin))


def _parse_receipt(
    room_id: str, user_id: str, raw: JsonValue, origin: ServerName
) -> Receipt:
    entry = fields.as_object(raw, "a receipt")
    event_ids = fields.parsed_texts(entry, "event_ids", parse_event_id)
    if len(event_ids) != 1:
        raise Malformed("a receipt must name one event")
    data = fields.obj(entry, "data")
    return Receipt(
        room_id=parse_room_id(room_id),
        user_id=_user_of(user_id, origin, "a receipt's user"),
        event_id=event_ids[0],
        ts=fields.integer(data, "ts"),
        thread_id=fields.optional_text(data, "thread_id"),
    )


def receipts_to_edus(receipts: Iterable[Receipt]) -> tuple[Edu, ...]:
    """As few EDUs as hold these receipts.

    The format has one place per room and user, so a user's receipts of several
    threads in one room need as many EDUs.
    """
    edus: list[dict[RoomId, dict[str, JsonValue]]] = []
    for receipt in receipts:
        for rooms in edus:
            if receipt.user_id not in rooms.get(receipt.room_id, ()):
                break
        else:
            rooms = {}
            edus.append(rooms)
        rooms.setdefault(receipt.room_id, {})[receipt.user_id] = {
            "event_ids": [receipt.event_id],
            "data": fields.without_none(
                {"ts": receipt.ts, "thread_id": receipt.thread_id}
            ),
        }
    return tuple(
        Edu(RECEIPT, {room_id: {READ: by_user} for room_id, by_user in rooms.items()})
        for rooms in edus
    )


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a user is there. Spec: server-server-api#presence."""

    user_id: UserId
    presence: str
    last_active_ago: int
    currently_active: bool = False
    status_msg: str | None = None


def parse_presence(content: JsonObject, origin: ServerName) -> tuple[Presence, ...]:
    """Read the content of `m.presence`; entries that are wrong are left out.

    Raises: Malformed, when `push` is no list.
    """
    return _good_ones(
        fields.array(content, "push"), lambda raw: _parse_presence(raw, origin)
    )


def _parse_presence(raw: JsonValue, origin: ServerName) -> Presence:
    entry = fields.as_object(raw, "a presence update")
    presence = fields.text(entry, "presence")
    if presence not in PRESENCES:
        raise Malformed(f"unknown presence {presence!r}")
    return Presence(
        user_id=_user_of(entry.get("user_id"), origin, "user_id"),
        presence=presence,
        last_active_ago=fields.integer(entry, "last_active_ago"),
        currently_active=fields.optional_boolean(entry, "currently_active"),
        status_msg=fields.optional_text(entry, "status_msg"),
    )


def presence_to_edu(updates: Iterable[Presence]) -> Edu:
    """One EDU of many presence updates."""
    push: list[JsonValue] = [
        fields.without_none(
            {
                "user_id": update.user_id,
                "presence": update.presence,
                "last_active_ago": update.last_active_ago,
                "currently_active": update.currently_active,
                "status_msg": update.status_msg,
            }
        )
        for update in updates
    ]
    return Edu(PRESENCE, {"push": push})


@dataclass(frozen=True, slots=True)
class DeviceListUpdate:
    """One device of a user changed. Spec: server-server-api#device-management."""

    user_id: UserId
    device_id: str
    stream_id: int
    prev_id: tuple[int, ...] = ()
    deleted: bool = False
    device_display_name: str | None = None
    keys: JsonObject | None = None

    def to_edu(self) -> Edu:
        """For a transaction of ours."""
        content: dict[str, JsonValue] = {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "stream_id": self.stream_id,
            "prev_id": list[JsonValue](self.prev_id),
            "deleted": self.deleted or None,
            "device_display_name": self.device_display_name,
            "keys": self.keys,
        }
        return Edu(DEVICE_LIST_UPDATE, fields.without_none(content))


def parse_device_list_update(
    content: JsonObject, origin: ServerName
) -> DeviceListUpdate:
    """Read the content of `m.device_list_update`. Raises: Malformed."""
    prev_id = [] if content.get("prev_id") is None else fields.array(content, "prev_id")
    return DeviceListUpdate(
        user_id=_user_of(content.get("user_id"), origin, "user_id"),
        device_id=fields.text(content, "device_id"),
        stream_id=fields.integer(content, "stream_id"),
        prev_id=tuple(fields.as_integer(each, "each of prev_id") for each in prev_id),
        deleted=fields.optional_boolean(content, "deleted"),
        device_display_name=fields.optional_text(content, "device_display_name"),
        keys=fields.optional_object(content, "keys"),
    )


@dataclass(frozen=True, slots=True)
class DirectToDevice:
    """A message for devices, by user and device ID; `*` means all of a user's.

    Spec: server-server-api#send-to-device-messaging
    """

    sender: UserId
    type: str
    message_id: str
    messages: Mapping[UserId, Mapping[str, JsonObject]]

    def to_edu(self) -> Edu:
        """For a transaction of ours."""
        messages: dict[str, JsonValue] = {
            user_id: dict[str, JsonValue](by_device)
            for user_id, by_device in self.messages.items()
        }
        return Edu(
            DIRECT_TO_DEVICE,
            {
                "sender": self.sender,
                "type": self.type,
                "message_id": self.message_id,
                "messages": messages,
            },
        )


def parse_direct_to_device(content: JsonObject, origin: ServerName) -> DirectToDevice:
    """Read the content of `m.direct_to_device`. Raises: Malformed."""
    message_id = fields.text(content, "message_id")
    if len(message_id) > MAX_MESSAGE_ID:
        raise Malformed(f"message_id has more than {MAX_MESSAGE_ID} characters")
    messages = {
        parse_user_id(user_id): {
            fields.as_text(device_id, "device ID"): fields.as_object(message, "message")
            for device_id, message in fields.as_object(by_device, user_id).items()
        }
        for user_id, by_device in fields.obj(content, "messages").items()
    }
    return DirectToDevice(
        sender=_user_of(content.get("sender"), origin, "sender"),
        type=fields.text(content, "type"),
        message_id=message_id,
        messages=messages,
    )


@dataclass(frozen=True, slots=True)
class SigningKeyUpdate:
    """A user changed cross-signing keys. Spec: server-server-api#end-to-end-encryption.

    The keys are as the user uploaded them.
    """

    user_id: UserId
    master_key: JsonObject | None = None
    self_signing_key: JsonObject | None = None

    def to_edu(self) -> Edu:
        """For a transaction of ours."""
        content: dict[str, JsonValue] = {
            "user_id": self.user_id,
            "master_key": self.master_key,
            "self_signing_key": self.self_signing_key,
        }
        return Edu(SIGNING_KEY_UPDATE, fields.without_none(content))


def parse_signing_key_update(
    content: JsonObject, origin: ServerName
) -> SigningKeyUpdate:
    """Read the content of `m.signing_key_update`. Raises: Malformed."""
    return SigningKeyUpdate(
        user_id=_user_of(content.get("user_id"), origin, "user_id"),
        master_key=fields.optional_object(content, "master_key"),
        self_signing_key=fields.optional_object(content, "self_signing_key"),
    )
