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
from federation.redaction import redact
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.client_format import STRIPPED_KEYS
from homeserver.live.live import Live
from homeserver.live.room import Room
from homeserver.live.steps import Consequence, Step
from homeserver.rooms.checked import check_events

_PENDING: Final = frozenset({"invite", "knock"})
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


# ── For users of ours who are invited to rooms that we are in ────────────────────────


def _invited(step: Step) -> list[tuple[UserId, int]]:
    """Users of ours whom a step invites or whose knock it brings, with the events."""
    end = ":" + step.room.our_name
    return [
        (user_id, nid)
        for user_id, (membership, nid) in step.members.items()
        if membership in _PENDING and user_id.endswith(end)
    ]


async def _write(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    for _, step in steps:
        for user_id, nid in _invited(step):
            await _write_one(tx, step, user_id, nid)


async def _write_one(tx: Tx, step: Step, user_id: UserId, nid: int) -> None:
    """Note the room as it is with the invite; `current_state` is written already."""
    rows = await tx.fetch(
        """
        SELECT j.json, e.redacted_by IS NOT NULL AS redacted
          FROM unnest($2::text[], $3::text[]) AS wanted (type, state_key)
          JOIN state_keys k USING (type, state_key)
          JOIN current_state c ON c.room_nid = $1 AND c.key_nid = k.key_nid
          JOIN events e USING (event_nid)
          JOIN event_json j USING (event_nid)
        UNION ALL
        -- Who invites, then the invite itself.
        SELECT j.json, false
          FROM events invite
          JOIN state_keys k ON k.type = 'm.room.member'
                           AND k.state_key = invite.sender
          JOIN current_state c ON c.room_nid = $1 AND c.key_nid = k.key_nid
          JOIN event_json j ON j.event_nid = c.event_nid
         WHERE invite.event_nid = $4 AND c.event_nid <> $4
        UNION ALL
        SELECT json, false FROM event_json WHERE event_nid = $4
        """,
        step.room.nid,
        [event_type for event_type, _ in STRIPPED_KEYS],
        [state_key for _, state_key in STRIPPED_KEYS],
        nid,
    )
    stripped = []
    for row in rows:
        event = canonical_json.parse_object(row["json"])
        if row["redacted"]:
            event = redact(event, step.room.version)
        stripped.append(strip(event))
    await tx.execute(
        """
        INSERT INTO stripped_state (room_nid, user_id, state) VALUES ($1, $2, $3)
        ON CONFLICT (room_nid, user_id) DO UPDATE SET state = EXCLUDED.state
        """,
        step.room.nid,
        user_id,
        orjson.dumps(stripped).decode(),
    )


STRIPPED_STATE: Final = Consequence(lambda step: bool(_invited(step)), _write)
