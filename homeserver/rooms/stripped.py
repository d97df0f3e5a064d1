"""What somebody who is not in a room yet may know of it: stripped state.

Between servers it is whole events; clients get their type, state key, sender and
content.

Table: stripped_state.

Spec: client-server-api#stripped-state, server-server-api#inviting-to-a-room
"""

from collections.abc import Sequence
from typing import Final

import orjson

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import RoomId, UserId, parse_user_id
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.live.live import Live
from homeserver.live.room import Room
from homeserver.rooms.checked import check_events

STRIPPED_KEYS: Final[Sequence[StateKey]] = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.avatar", ""),
    ("m.room.topic", ""),
    ("m.room.join_rules", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.encryption", ""),
)
# A server that invites may send more events than are listed; so many are looked at.
MAX_EVENTS: Final = 50


async def stripped_events(
    live: Live, room: Room, *more: StateKey
) -> tuple[JsonObject, ...]:
    """The events that describe a room to another server, in the room's format."""
    keys = (*STRIPPED_KEYS, *more)
    nids = [room.state[key] for key in keys if key in room.state]
    events = await live.events.by_nids(nids)
    return tuple(event.shown.json for event in events.values())


def strip(event: JsonObject) -> JsonObject:
    """What clients get of an event."""
    return {
        "type": event["type"],
        "state_key": event["state_key"],
        "sender": event["sender"],
        "content": event["content"],
    }


def strip_pdu(pdu: Pdu) -> JsonObject:
    """What clients get of a state event."""
    return strip(pdu.json)


async def read_stripped_events(
    ctx: Context, room_id: RoomId, version: RoomVersion, raws: Sequence[JsonObject]
) -> tuple[list[Pdu], list[JsonObject]]:
    """What another server told of a room: the good events, and what clients get.

    COMPAT(servers before v1.16): these send stripped events, without signatures. In
    versions before 12 they are let through when they look right, as they were then.
    """
    raws = raws[:MAX_EVENTS]
    checked = await check_events(ctx, room_id, version, raws)
    pdus = [each.pdu for each in checked.values() if each.pdu.state_key is not None]
    stripped = [strip_pdu(pdu) for pdu in pdus]
    if not version.room_id_is_create_hash:
        told = {(event["type"], event["state_key"]) for event in stripped}
        stripped += [
            strip(raw)
            for raw in raws
            if "signatures" not in raw
            and _is_stripped(raw)
            and (raw["type"], raw["state_key"]) not in told
        ]
    return pdus, stripped


def _is_stripped(raw: JsonObject) -> bool:
    sender = raw.get("sender")
    if not isinstance(sender, str):
        return False
    try:
        parse_user_id(sender)
        canonical_json.check(raw)
    except Malformed:
        return False
    return (
        isinstance(raw.get("type"), str)
        and isinstance(raw.get("state_key"), str)
        and isinstance(raw.get("content"), dict)
    )


async def read_stripped_state(
    tx: Tx, room_nid: int, user_id: UserId
) -> list[JsonObject]:
    """What a user was told of a room with an invite, or in answer to a knock."""
    text = await tx.fetchval(
        "SELECT state FROM stripped_state WHERE room_nid = $1 AND user_id = $2",
        room_nid,
        user_id,
    )
    return [] if text is None else orjson.loads(text)
