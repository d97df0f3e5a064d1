"""Events as clients get them.

What is the same for everybody is serialised once and kept with the event; only
`unsigned` is made for each reader and spliced in.

Spec: client-server-api#room-event-format
"""

from dataclasses import dataclass
from typing import Final

import orjson

from federation import canonical_json
from federation.canonical_json import JsonObject, JsonValue
from federation.ids import EventId, UserId
from federation.pdu import Pdu
from homeserver.events.sticky import STICKY, left_ms, sticky_ms
from homeserver.events.stored import StoredEvent

# As the device of a transaction ID: it is the ID of a delayed event. MSC4140. No device
# is called so.
DELAYED: Final = "\0delayed"

# What someone outside may be shown of a room. Spec: client-server-api#stripped-state
STRIPPED_KEYS: Final = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.avatar", ""),
    ("m.room.topic", ""),
    ("m.room.join_rules", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.encryption", ""),
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads: a user, and the device that asks when it is known."""

    user_id: UserId
    device_id: str | None = None


@dataclass(slots=True, eq=False)
class Sight:
    """An event and what its reader's `unsigned` needs. Treat as immutable.

    `membership` is the reader's at the time of the event, `replaced` the state event
    that it took the place of, `shows_replaced` whether the reader may see that one,
    `bundle` what is told of its children (homeserver/rooms/bundles.py).
    """

    event: StoredEvent
    membership: str | None = None
    replaced: StoredEvent | None = None
    shows_replaced: bool = True
    bundle: "Bundle | None" = None


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as its root tells of it."""

    latest: Sight
    count: int
    has_taken_part: bool


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an event's children come to, as far as its reader may see them.

    Spec: client-server-api#aggregations-of-child-events
    """

    edit: Sight | None = None
    thread: Thread | None = None
    references: tuple[EventId, ...] = ()


def shared_object(event: Pdu) -> JsonObject:
    """The client format without `room_id` and `unsigned`."""
    shown: JsonObject = {
        "content": event.content,
        "event_id": event.event_id,
        "origin_server_ts": event.origin_server_ts,
        "sender": event.sender,
        "type": event.type,
    }
    if event.state_key is not None:
        shown["state_key"] = event.state_key
    if event.redacts is not None:
        # Old clients look at the top, new ones in content, whatever the version.
        shown["redacts"] = event.redacts
        shown["content"] = {**event.content, "redacts": event.redacts}
    duration_ms = sticky_ms(event)
    if duration_ms is not None:
        shown[STICKY] = {"duration_ms": duration_ms}
    return shown


def _shared_json(event: StoredEvent) -> bytes:
    """`shared_object` as JSON without its closing brace."""
    if event.shared_json is None:
        event.shared_json = canonical_json.encode(shared_object(event.shown))[:-1]
    return event.shared_json


def render(
    sight: Sight, viewer: Viewer, now_ms: int, *, with_room_id: bool = True
) -> orjson.Fragment:
    """The event for this reader, as JSON to splice into an answer."""
    return orjson.Fragment(render_bytes(sight, viewer, now_ms, with_room_id))


def render_bytes(
    sight: Sight,
    viewer: Viewer,
    now_ms: int,
    with_room_id: bool,  # noqa: FBT001 - what `render` was told
) -> bytes:
    """The event for this reader as JSON."""
    event = sight.event
    parts = [_shared_json(event)]
    if with_room_id:
        parts += (b',"room_id":', orjson.dumps(event.pdu.room_id))
    parts += (b',"unsigned":', _unsigned_json(sight, viewer, now_ms))
    if sight.bundle is None:
        parts.append(b"}")
        return b"".join(parts)
    relations = _relations(sight.bundle, viewer, now_ms)
    # There is always something in `unsigned` before it.
    parts[-1] = parts[-1][:-1]
    parts += (b',"m.relations":', orjson.dumps(relations), b"}}")
    return b"".join(parts)


def _relations(bundle: Bundle, viewer: Viewer, now_ms: int) -> dict[str, object]:
    """What `m.relations` in `unsigned` says."""
    told: dict[str, object] = {}
    if bundle.edit is not None:
        told["m.replace"] = render(bundle.edit, viewer, now_ms)
    if bundle.thread is not None:
        told["m.thread"] = {
            "latest_event": render(bundle.thread.latest, viewer, now_ms),
            "count": bundle.thread.count,
            "current_user_participated": bundle.thread.has_taken_part,
        }
    if bundle.references:
        chunk = [{"event_id": event_id} for event_id in bundle.references]
        told["m.reference"] = {"chunk": chunk}
    return told


def _unsigned_json(sight: Sight, viewer: Viewer, now_ms: int) -> bytes:
    unsigned = _unsigned(sight, viewer, now_ms)
    # What others wrote may hold what orjson cannot write.
    has_content = sight.replaced is not None or sight.event.redaction is not None
    return canonical_json.encode(unsigned) if has_content else orjson.dumps(unsigned)


def _unsigned(sight: Sight, viewer: Viewer, now_ms: int) -> JsonObject:
    event = sight.event
    unsigned: JsonObject = {"age": now_ms - event.pdu.origin_server_ts}
    if sight.membership is not None:
        unsigned["membership"] = sight.membership
    if sight.replaced is not None:
        unsigned["replaces_state"] = sight.replaced.event_id
        if sight.shows_replaced:
            unsigned["prev_content"] = sight.replaced.shown.content
    sticks_ms = left_ms(event.shown, now_ms)
    if sticks_ms is not None:
        unsigned["msc4354_sticky_duration_ttl_ms"] = sticks_ms
    if event.redaction is not None:
        unsigned["redacted_because"] = redaction_object(event.redaction)
    if event.txn_id is not None and event.pdu.sender == viewer.user_id:
        if event.txn_device == viewer.device_id:
            unsigned["transaction_id"] = event.given_txn_id
        elif event.txn_device == DELAYED:
            unsigned["org.matrix.msc4140.delay_id"] = event.txn_id
    return unsigned


def redaction_object(redaction: StoredEvent) -> JsonObject:
    """A redaction as `redacted_because` shows it."""
    shown: dict[str, JsonValue] = shared_object(redaction.shown)
    return {**shown, "room_id": redaction.pdu.room_id, "unsigned": {}}


def stripped(event: StoredEvent) -> JsonObject:
    """A state event as invited and knocking users see it.

    Spec: client-server-api#stripped-state
    """
    pdu = event.shown
    return {
        "content": pdu.content,
        "sender": pdu.sender,
        "state_key": pdu.state_key,
        "type": pdu.type,
    }
