"""What a joining server is given: the room's state before the join, whole or in part.

A room of many members is never whole in memory: its events go from the database to the
wire in batches. A server that can do without the members at first gets a few events.

Spec: server-server-api#put_matrixfederationv2send_joinroomideventid, MSC3706
"""

import heapq
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import orjson

from federation.ids import ServerName
from federation.pdu import StateKey
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.live.room import Room
from homeserver.rooms.written import written_events

_MEMBER: Final = "m.room.member"
_NAMES: Final = (("m.room.name", ""), ("m.room.canonical_alias", ""))
_MAX_HEROES: Final = 5
# So few members are sent at once: it costs less than a second request.
FEW_MEMBERS: Final = 100
_HERE: Final = frozenset(("join", "invite"))


def servers_in(room: Room) -> list[ServerName]:
    """The servers with joined users."""
    return sorted(server for server, count in room.servers.items() if count > 0)


async def whole_room(
    ctx: Context, room: Room, join: StoredEvent
) -> AsyncIterator[bytes]:
    """The body of the answer to a join, with all members."""
    nids = await ctx.live.states.event_nids(join.state_before or 0)
    chain = await ctx.live.events.auth_chain((*nids, join.nid))
    yield b'{"event":' + join.pdu.text + b',"members_omitted":false,'
    async for part in _events(ctx, room, nids, chain):
        yield part


async def room_without_members(
    ctx: Context, room: Room, join: StoredEvent, servers: Iterable[ServerName]
) -> AsyncIterator[bytes]:
    """The body without the members when they are many, but for those who name it.

    What stands in the state is not repeated in the auth chain. `servers` were in the
    room before the join.
    """
    state = await ctx.live.states.items(join.state_before or 0)
    if sum(key[0] == _MEMBER for key in state) <= FEW_MEMBERS:
        async for part in whole_room(ctx, room, join):
            yield part
        return
    nids = {nid for key, nid in state.items() if key[0] != _MEMBER}
    if not any(key in state for key in _NAMES):
        nids.update(_heroes(room, state, str(join.pdu.state_key)))
    chain = await ctx.live.events.auth_chain((*nids, join.nid))
    listed = orjson.dumps(list(servers))
    yield b'{"event":' + join.pdu.text + b',"members_omitted":true,'
    yield b'"servers_in_room":' + listed + b","
    async for part in _events(ctx, room, sorted(nids), chain - nids):
        yield part


def _heroes(room: Room, state: Mapping[StateKey, int], joining: str) -> list[int]:
    """The member events that the room is called by: see `m.heroes` of /sync."""
    present = [
        (member.position, nid)
        for user_id, member in room.members.items()
        if member.membership in _HERE
        and user_id != joining
        and (nid := state.get((_MEMBER, user_id))) is not None
    ]
    if present:
        return [nid for _, nid in heapq.nsmallest(_MAX_HEROES, present)]
    gone = (nid for key, nid in state.items() if key[0] == _MEMBER)
    return heapq.nsmallest(_MAX_HEROES, gone)


async def _events(
    ctx: Context, room: Room, state: Iterable[int], chain: Iterable[int]
) -> AsyncIterator[bytes]:
    yield b'"state":['
    async for part in written_events(ctx, room, state):
        yield part
    yield b'],"auth_chain":['
    async for part in written_events(ctx, room, sorted(chain)):
        yield part
    yield b"]}"
