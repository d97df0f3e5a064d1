"""The summary of a room: counts, and heroes to name it by.

Spec: client-server-api#get_matrixclientv3sync_response-200_roomsummary
"""

import heapq
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver.live.live import Live
from homeserver.live.room import Room

MAX_HEROES: Final = 5
_NAMES: Final = (
    (("m.room.name", ""), "name"),
    (("m.room.canonical_alias", ""), "alias"),
)


async def read_heroes(live: Live, room: Room, user_id: UserId) -> list[UserId]:
    """The first members beside the user; none when the room has a name."""
    for key, field in _NAMES:
        nid = room.state.get(key)
        event = None if nid is None else await live.events.by_nid(nid)
        if event is not None and event.shown.content.get(field):
            return []
    present = [
        (member.position, other)
        for other, member in room.members.items()
        if other != user_id and member.membership in ("join", "invite")
    ]
    if present:
        return [other for _, other in heapq.nsmallest(MAX_HEROES, present)]
    # Nobody is there: those who were.
    gone = [
        (nid, UserId(state_key))
        for (event_type, state_key), nid in room.state.items()
        if event_type == "m.room.member" and state_key != user_id
    ]
    return [other for _, other in heapq.nsmallest(MAX_HEROES, gone)]


def summary_of(room: Room, heroes: list[UserId]) -> JsonObject:
    """The summary section."""
    invited = sum(m.membership == "invite" for m in room.members.values())
    summary: JsonObject = {
        "m.joined_member_count": room.joined,
        "m.invited_member_count": invited,
    }
    if heroes:
        names: list[JsonValue] = [str(hero) for hero in heroes]
        summary["m.heroes"] = names
    return summary
