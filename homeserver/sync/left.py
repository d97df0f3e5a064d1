"""The sections of rooms that the user is not in: left, invited, knocked.

Spec: client-server-api#get_matrixclientv3sync
"""

from collections.abc import Callable, Mapping, Sequence

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.events.client_format import STRIPPED_KEYS, Sight, stripped
from homeserver.events.filters import RoomEventFilter
from homeserver.live.live import Live
from homeserver.live.room import Member, Room
from homeserver.rooms.viewing import Reader
from homeserver.sync.request import Rendered, Sources, SyncRequest
from homeserver.sync.states import read_change, state_section
from homeserver.sync.timelines import Timeline, read_timeline
from homeserver.sync.unwritten import Unwritten


async def read_farewell(
    sources: Sources,
    room: Room,
    reader: Reader,
    since: int | None,
    wanted: RoomEventFilter,
) -> tuple[Timeline, list[Sight]]:
    """The timeline of a room up to where the reader left it, and what to show of it.

    That they left is always shown: of a refused invite, say, nothing else is here.
    """
    member = reader.member
    upto = 0 if member is None else member.position
    timeline = await read_timeline(
        sources.db, sources.live, room, reader, since, upto, wanted
    )
    sights = list(timeline.sights)
    farewell = None
    if member is not None:
        farewell = await sources.live.events.by_nid(member.event_nid)
    shown = {sight.event.nid for sight in sights}
    keeps = wanted.keeps_event
    if farewell and farewell.nid not in shown and keeps(farewell.pdu):
        sights.append(Sight(farewell, member.membership if member else None))
    return timeline, sights


async def left_section(
    sources: Sources,
    request: SyncRequest,
    room: Room,
    member: Member,
    account_data: Sequence[JsonObject],
    write: Callable[[Sight], Rendered],
    unwritten: Unwritten,
) -> JsonObject:
    """What the user could still see of a room that they left at `member.position`."""
    since = request.since
    reader = Reader(request.viewer.user_id, member)
    timeline, sights = await read_farewell(
        sources,
        room,
        reader,
        since,
        request.filter.room.timeline,
    )
    state: list[Rendered] = []
    if timeline.sights:
        whole = since is None or request.full_state
        change = await read_change(
            sources, request, room, timeline, None if whole else since
        )
        state = await state_section(
            sources,
            request,
            room,
            timeline,
            change,
            member.position,
            (),
            write,
            whole=whole,
        )
    return {
        "timeline": {
            "events": unwritten.add(reader, sights),  # type: ignore[dict-item]
            "limited": timeline.limited,
            "prev_batch": str(timeline.prev_batch),
        },
        request.state_name: {"events": state},  # type: ignore[dict-item]
        "account_data": {"events": list(account_data)},
    }


async def pending_section(
    live: Live, room: Room, member: Member, given: Sequence[JsonObject]
) -> list[JsonObject]:
    """The stripped state of a room that the user is invited to or knocks on.

    `given` came with the invite or knock from another server; a room that is here is
    shown as it stands. The member event itself is always part of it.
    """
    shown = list(given)
    if not shown:
        nids = [room.state[key] for key in STRIPPED_KEYS if key in room.state]
        events = await live.events.by_nids(nids)
        shown = [stripped(event) for event in events.values()]
    event = await live.events.by_nid(member.event_nid)
    if event is not None:
        own = stripped(event)
        same = [e for e in shown if e.get("type") == own["type"]]
        if not any(e.get("state_key") == own["state_key"] for e in same):
            shown.append(own)
    return shown


async def read_stripped(
    tx: Tx, user_id: UserId, room_nids: Sequence[int]
) -> Mapping[int, list[JsonObject]]:
    """The stripped state that came with invites to, or knocks on, those rooms."""
    rows = await tx.fetch(
        """
        SELECT room_nid, state FROM stripped_state
         WHERE user_id = $1 AND room_nid = ANY($2)
        """,
        user_id,
        room_nids,
    )
    return {row["room_nid"]: orjson.loads(row["state"]) for row in rows}
