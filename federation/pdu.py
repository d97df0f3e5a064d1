"""PDUs: the events that servers exchange. A Pdu that exists has the right format.

Whether its signatures, hashes and authorization hold are later questions.

Spec: rooms/v12#event-format, server-server-api#pdus
"""

from collections.abc import Callable, Iterable
from typing import Final

from federation import canonical_json, signatures
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed, TooLarge
from federation.ids import (
    EventId,
    RoomId,
    ServerName,
    UserId,
    parse_event_id,
    parse_room_id,
    parse_server_name,
    parse_user_id,
    server_of,
)
from federation.redaction import redact
from federation.room_versions import EventIdFormat, RoomVersion

MAX_PDU_BYTES: Final = 65_536
MAX_FIELD_BYTES: Final = 255
MAX_PREV_EVENTS: Final = 20
MAX_AUTH_EVENTS: Final = 10
_MEMBER: Final = "m.room.member"
_MAX_INT64: Final = 2**63 - 1

StateKey = tuple[str, str]  # (type, state_key)


class Pdu:
    """One event in the format of its room version. Treat as immutable.

    `room_id` is filled in for the create events of version 12, which do not carry it.
    What is seldom asked for is made from the event's text when it is: an event that is
    kept takes a fraction of the memory (see `pack`).
    """

    __slots__ = (
        "_auth_events",
        "_content",
        "_json",
        "_membership",
        "_prev_events",
        "_signable",
        "_text",
        "depth",
        "event_id",
        "origin_server_ts",
        "redacts",
        "room_id",
        "sender",
        "state_key",
        "type",
        "version",
    )

    def __init__(  # noqa: PLR0913 - the parts of an event
        self,
        *,
        version: RoomVersion,
        event_id: EventId,
        room_id: RoomId,
        type: str,  # noqa: A002 - the specification's name
        state_key: str | None,
        sender: UserId,
        origin_server_ts: int,
        depth: int,
        prev_events: tuple[EventId, ...],
        auth_events: tuple[EventId, ...],
        content: JsonObject,
        redacts: str | None,
        json: JsonObject,
    ) -> None:
        self.version = version
        self.event_id = event_id
        self.room_id = room_id
        self.type = type
        self.state_key = state_key
        self.sender = sender
        self.origin_server_ts = origin_server_ts
        self.depth = depth
        self.redacts = redacts
        self._prev_events: tuple[EventId, ...] | None = prev_events
        self._auth_events: tuple[EventId, ...] | None = auth_events
        self._content: JsonObject | None = content
        self._json: JsonObject | None = json
        self._membership: str | None = None
        self._text: bytes | None = None
        self._signable: bytes | None = None

    @property
    def json(self) -> JsonObject:
        """The event as signed, without `unsigned`; never change it."""
        if self._json is None:
            return canonical_json.parse_object(self.text)
        return self._json

    @property
    def text(self) -> bytes:
        """`json` as canonical JSON: what is stored, and spliced into answers."""
        if self._text is None:
            strict = self.version.strict_canonical_json
            encode = canonical_json.encode_strict if strict else canonical_json.encode
            # Copied: what orjson gives holds on to 4 KB, whatever its length.
            self._text = bytes(memoryview(encode(self.json)))
        return self._text

    @property
    def signable(self) -> bytes:
        """What its signatures and its reference hash cover. Raises: Malformed."""
        if self._signable is None:
            return signatures.event_signable_bytes(self.json, self.version)
        return self._signable

    @property
    def content(self) -> JsonObject:
        """What its sender says; never change it."""
        if self._content is None:
            self._content = _object(self.json, "content")
        return self._content

    @property
    def prev_events(self) -> tuple[EventId, ...]:
        """The events it comes after."""
        if self._prev_events is None:
            return _references(self.json, "prev_events", self.version)
        return self._prev_events

    @property
    def auth_events(self) -> tuple[EventId, ...]:
        """The events that say that its sender may send it."""
        if self._auth_events is None:
            return _references(self.json, "auth_events", self.version)
        return self._auth_events

    def know_text(self, text: bytes | None, signable: bytes | None = None) -> None:
        """Take canonical JSON that was made before."""
        self._text = text
        self._signable = signable

    def pack(self, share: Callable[[str], str]) -> None:
        """Keep the text in place of what can be read from it, for a long time to come.

        The content of state events stays, since authorization asks for it again and
        again; of member events, which are many, only the membership. `share` gives one
        string for all equal ones, such as `sys.intern`.
        """
        self._text = self.text
        self.room_id = RoomId(share(self.room_id))
        self.sender = UserId(share(self.sender))
        self.type = share(self.type)
        self._json = self._prev_events = self._auth_events = self._signable = None
        self._membership = self.membership
        if self.state_key is None or self.type == _MEMBER:
            self._content = None

    @property
    def key(self) -> StateKey | None:
        """Its place in the room state, or None for a message event."""
        return None if self.state_key is None else (self.type, self.state_key)

    @property
    def membership(self) -> str | None:
        """`content.membership` of a member event, when it is a string."""
        if self.type != _MEMBER:
            return None
        if self._content is None and self._membership is not None:
            return self._membership
        membership = self.content.get("membership")
        return membership if isinstance(membership, str) else None

    @property
    def is_create(self) -> bool:
        """Whether this is the room's create event."""
        return self.type == "m.room.create" and self.state_key == ""

    def redacted(self) -> "Pdu":
        """The same event with only what redaction leaves."""
        pruned = redact(self.json, self.version)
        return _from_checked(pruned, self.version, self.event_id, self.room_id)

    def required_signers(self) -> frozenset[ServerName]:
        """The servers whose signatures the event needs before anything else.

        Spec: server-server-api#validating-hashes-and-signatures-on-received-events
        """
        signers: set[ServerName] = set()
        if not is_third_party_invite(self):
            signers.add(server_of(self.sender))
        if self.version.event_id_format is EventIdFormat.FROM_SERVER:
            signers.add(parse_server_name(self.event_id.partition(":")[2]))
        return frozenset(signers)


def is_third_party_invite(event: Pdu) -> bool:
    """Whether the event turns a third-party invite into an invite.

    Such an event may be sent by a server other than the sender's.
    """
    return event.membership == "invite" and "third_party_invite" in event.content


def parse_pdu(
    raw: JsonObject, version: RoomVersion, *, bounded_references: bool = True
) -> Pdu:
    """Check an event's format and sizes and compute its event ID.

    `bounded_references` is False for history: "it is possible that events which were
    previously accepted would now be rejected by these limitations".

    Raises: Malformed when it is no event of this room version, TooLarge when it or a
    part of it exceeds a limit. Spec: client-server-api#size-limits
    """
    event = {key: value for key, value in raw.items() if key != "unsigned"}
    strict = version.strict_canonical_json
    text = canonical_json.encode_checked(event, strict=strict)
    if len(text) > MAX_PDU_BYTES:
        raise TooLarge(f"the event is larger than {MAX_PDU_BYTES} bytes")
    _check_fields(event)
    event_id, signable = _event_id_of(event, version)
    pdu = _from_checked(event, version, event_id, _room_id_of(event, version, event_id))
    # Both are wanted again when the event is verified and stored.
    pdu.know_text(bytes(memoryview(text)), signable)
    if bounded_references:
        _check_count(pdu.prev_events, "prev_events", MAX_PREV_EVENTS)
        _check_count(pdu.auth_events, "auth_events", MAX_AUTH_EVENTS)
    return pdu


def _check_count(references: tuple[EventId, ...], name: str, limit: int) -> None:
    if len(references) > limit:
        raise TooLarge(f"{name} has more than {limit} entries")


def _check_fields(event: JsonObject) -> None:
    _text(event, "type")
    if "state_key" in event:
        _text(event, "state_key")
    parse_user_id(_text(event, "sender"))
    _integer(event, "origin_server_ts")
    if _integer(event, "depth") < 0:
        raise Malformed("depth must not be negative")
    for name in ("content", "hashes", "signatures"):
        _object(event, name)
    if not isinstance(_object(event, "hashes").get("sha256"), str):
        raise Malformed("hashes.sha256 must be a string")
    if "redacts" in event and not isinstance(event["redacts"], str):
        raise Malformed("redacts must be a string")


def _from_checked(
    event: JsonObject, version: RoomVersion, event_id: EventId, room_id: RoomId
) -> Pdu:
    content = _object(event, "content")
    state_key = event.get("state_key")
    redacts = (content if version.redacts_in_content else event).get("redacts")
    is_redaction = event["type"] == "m.room.redaction"
    return Pdu(
        version=version,
        event_id=event_id,
        room_id=room_id,
        type=_text(event, "type"),
        state_key=state_key if isinstance(state_key, str) else None,
        sender=UserId(_text(event, "sender")),
        origin_server_ts=_integer(event, "origin_server_ts"),
        depth=_integer(event, "depth"),
        prev_events=_references(event, "prev_events", version),
        auth_events=_references(event, "auth_events", version),
        content=content,
        redacts=redacts if is_redaction and isinstance(redacts, str) else None,
        json=event,
    )


def _event_id_of(
    event: JsonObject, version: RoomVersion
) -> tuple[EventId, bytes | None]:
    """The event's ID, and the bytes that it is the hash of, where it is one."""
    if version.event_id_format is not EventIdFormat.FROM_SERVER:
        signable = signatures.event_signable_bytes(event, version)
        return signatures.event_id_from(signable, version), bytes(memoryview(signable))
    event_id = parse_event_id(signatures.event_id_of(event, version))
    if ":" not in event_id:
        raise Malformed(f"event ID {event_id!r} names no server")
    return event_id, None


def _room_id_of(event: JsonObject, version: RoomVersion, event_id: EventId) -> RoomId:
    is_create = event["type"] == "m.room.create" and event.get("state_key") == ""
    if version.room_id_is_create_hash and is_create and "room_id" not in event:
        return RoomId("!" + event_id[1:])
    return parse_room_id(_text(event, "room_id"))


def _references(
    event: JsonObject, name: str, version: RoomVersion
) -> tuple[EventId, ...]:
    """Event IDs of prev_events or auth_events, in either wire format."""
    given = event.get(name)
    if not isinstance(given, list):
        raise Malformed(f"{name} must be a list")
    if version.event_id_format is EventIdFormat.FROM_SERVER:
        given = [_first_of_pair(name, entry) for entry in given]
    ids = []
    for entry in given:
        if not isinstance(entry, str):
            raise Malformed(f"{name} must hold event IDs")
        ids.append(parse_event_id(entry))
    return tuple(ids)


def _first_of_pair(name: str, entry: JsonValue) -> JsonValue:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
        raise Malformed(f"{name} must hold pairs of event ID and hashes")
    return entry[0]


def reference_pairs(events: Iterable[Pdu], version: RoomVersion) -> list[JsonValue]:
    """References in the wire format of the room version, for building an event.

    Versions 1 and 2 want `[event_id, {"sha256": reference hash}]`.
    """
    if version.event_id_format is not EventIdFormat.FROM_SERVER:
        return [event.event_id for event in events]
    return [
        [
            event.event_id,
            {
                "sha256": signatures.encode_base64(
                    signatures.reference_hash(event.json, version)
                )
            },
        ]
        for event in events
    ]


def _text(event: JsonObject, name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} must be a string")
    if len(value) > MAX_FIELD_BYTES or (
        not value.isascii() and len(value.encode()) > MAX_FIELD_BYTES
    ):
        raise TooLarge(f"{name} is longer than {MAX_FIELD_BYTES} bytes")
    return value


def _integer(event: JsonObject, name: str) -> int:
    value = event.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{name} must be an integer")
    if not -_MAX_INT64 <= value <= _MAX_INT64:
        raise Malformed(f"{name} is out of range")
    return value


def _object(event: JsonObject, name: str) -> JsonObject:
    value = event.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"{name} must be an object")
    return value


def stored_pdu(
    event: JsonObject,
    version: RoomVersion,
    event_id: EventId,
    room_id: RoomId,
    *,
    text: bytes | None = None,
) -> Pdu:
    """The Pdu of an event that `parse_pdu` accepted before, without its checks.

    `text` is its canonical JSON where that is at hand.
    """
    pdu = _from_checked(event, version, event_id, room_id)
    pdu.know_text(text)
    return pdu
