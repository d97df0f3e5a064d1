"""What of a room's history another server may see.

A server sees what its users may see: by history visibility, and by the memberships of
its users at the event. Of what it may not see it gets what redaction leaves, which is
all that the event graph needs. State events are shown to every server in the room.
What somebody of ours said who wants it to be erased, only a server that was there sees.

Spec: client-server-api#room-history-visibility
"""

from collections.abc import Mapping, Sequence
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import ServerName
from federation.pdu import StateKey
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.stored import StoredEvent
from homeserver.live.room import Room
from homeserver.rooms.visibility import HISTORY_VISIBILITY, visibility_of

# Of a server with more users than this in a room, so many are looked at.
_MAX_USERS: Final = 2000


async def shown_to(
    ctx: Context, room: Room, server: ServerName, events: Sequence[StoredEvent]
) -> list[JsonObject]:
    """The events in the format of the room, cut down where the server may not see."""
    may_see: dict[tuple[int, bool], bool] = {}  # by state root, and whether erased
    erased = await ctx.live.erased.users()
    users: list[str] | None = None
    shown = []
    for event in events:
        root = event.state_before
        if event.pdu.state_key is not None or root is None:
            is_visible = event.pdu.state_key is not None
        else:
            key = (root, event.pdu.sender in erased)
            if key not in may_see:
                visibility = "joined" if key[1] else await _visibility(ctx, root)
                if visibility in ("invited", "joined") and users is None:
                    async with ctx.db.read() as tx:
                        users = await _users_of(tx, room.nid, server)
                may_see[key] = await _may_see(ctx, root, visibility, users or ())
            is_visible = may_see[key]
        shown.append(event.shown.json if is_visible else event.pdu.redacted().json)
    return shown


async def _visibility(ctx: Context, root: int) -> str:
    event = (await _events_at(ctx, root, (HISTORY_VISIBILITY,))).get(HISTORY_VISIBILITY)
    return visibility_of(None if event is None else event.shown)


async def _may_see(
    ctx: Context, root: int, visibility: str, users: Sequence[str]
) -> bool:
    if visibility in ("world_readable", "shared"):
        return True
    keys = [("m.room.member", user_id) for user_id in users]
    members = await _events_at(ctx, root, keys)
    memberships = {event.pdu.membership for event in members.values()}
    return "join" in memberships or (
        visibility == "invited" and "invite" in memberships
    )


async def _events_at(
    ctx: Context, root: int, keys: Sequence[StateKey]
) -> Mapping[StateKey, StoredEvent]:
    nids = await ctx.live.states.get(root, keys)
    events = await ctx.live.events.by_nids(nids.values())
    return {key: events[nid] for key, nid in nids.items() if nid in events}


async def _users_of(tx: Tx, room_nid: int, server: ServerName) -> list[str]:
    """Users of a server who have, or had, anything to do with the room."""
    rows = await tx.fetch(
        """
        SELECT user_id FROM memberships
         WHERE room_nid = $1 AND substr(user_id, strpos(user_id, ':') + 1) = $2
         LIMIT $3
        """,
        room_nid,
        server,
        _MAX_USERS,
    )
    return [row["user_id"] for row in rows]
