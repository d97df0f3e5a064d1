"""Joining restricted rooms: who meets the conditions, and who can vouch for that.

Spec: client-server-api#restricted-rooms, server-server-api#restricted-rooms
"""

import contextlib
from dataclasses import dataclass
from typing import Final

from federation import auth_rules
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import RoomId, UserId, parse_room_id
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from homeserver.live.live import Live
from homeserver.live.room import Room

VOUCHER: Final = "join_authorised_via_users_server"
JOIN_RULES: Final = ("m.room.join_rules", "")
POWER_LEVELS: Final = ("m.room.power_levels", "")
CREATE: Final = ("m.room.create", "")
MAX_CONDITIONS: Final = 100


async def state_pdus(live: Live, room: Room, *keys: StateKey) -> dict[StateKey, Pdu]:
    """Events of the room's current state, as redaction left them."""
    nids = {key: room.state[key] for key in keys if key in room.state}
    events = await live.events.by_nids(nids.values())
    return {key: events[nid].shown for key, nid in nids.items() if nid in events}


def is_restricted(version: RoomVersion, join_rules: Pdu | None) -> bool:
    """Whether membership of other rooms opens the room."""
    rule = None if join_rules is None else join_rules.content.get("join_rule")
    return (rule == "restricted" and version.restricted_joins) or (
        rule == "knock_restricted" and version.knock_restricted
    )


def allowed_rooms(join_rules: JsonObject) -> list[RoomId]:
    """The rooms whose members may join, as far as we look."""
    conditions = join_rules.get("allow")
    if not isinstance(conditions, list):
        return []
    rooms: list[RoomId] = []
    for condition in conditions[:MAX_CONDITIONS]:
        if not isinstance(condition, dict):
            continue
        room_id = condition.get("room_id")
        if condition.get("type") == "m.room_membership" and isinstance(room_id, str):
            with contextlib.suppress(Malformed):
                rooms.append(parse_room_id(room_id))
    return rooms


@dataclass(frozen=True, slots=True)
class Admission:
    """How a user may come in without an invite.

    `needs_voucher` is False when the room is not restricted or the user is invited:
    then the ordinary rules decide. Else `is_met` tells whether a condition is met, and
    `voucher` is who of ours can say so.
    """

    needs_voucher: bool
    is_met: bool = False
    voucher: UserId | None = None


async def admission(live: Live, room: Room, user_id: UserId) -> Admission:
    """Whether a local user may join without an invite, and who vouches."""
    state = await state_pdus(live, room, JOIN_RULES)
    join_rules = state.get(JOIN_RULES)
    member = room.members.get(user_id)
    is_expected = member is not None and member.membership in ("join", "invite")
    if is_expected or not is_restricted(room.version, join_rules):
        return Admission(needs_voucher=False)
    content = {} if join_rules is None else join_rules.content
    user = await live.user(user_id)
    for room_id in allowed_rooms(content):
        nid = await live.room_nid(room_id)
        there = None if nid is None else user.rooms.get(nid)
        if there is not None and there.membership == "join":
            return Admission(
                needs_voucher=True,
                is_met=True,
                voucher=await find_voucher(live, room),
            )
    return Admission(needs_voucher=True)


async def find_voucher(live: Live, room: Room) -> UserId | None:
    """A joined user of ours who has the power to invite."""
    levels = auth_rules.PowerLevels.of(
        await state_pdus(live, room, POWER_LEVELS, CREATE), room.version
    )
    needed = levels.invite
    for user_id in room.joined_local:
        if levels.user(user_id) >= needed:
            return user_id
    return None
