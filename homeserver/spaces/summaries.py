"""What is told of rooms to those who are not in them, and to whom.

Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import (
    RoomId,
    ServerName,
    UserId,
    parse_room_id,
    parse_server_name,
    server_of,
)
from federation.pdu import Pdu
from homeserver.context import Context
from homeserver.live.room import Room
from homeserver.rooms import acl
from homeserver.rooms.stripped import strip_pdu
from homeserver.rooms.summaries import Outline, read_outlines

CHILD: Final = "m.space.child"
SPACE: Final = "m.space"
# More children of one space are not looked at.
MAX_CHILDREN: Final = 1000
_MAX_VIA: Final = 10
_OPEN: Final = frozenset({"public", "knock", "knock_restricted"})
_ORDER: Final = re.compile(r"[\x20-\x7e]{1,50}")


@dataclass(frozen=True, slots=True)
class Described:
    """A room's summary, and its children when it is a space: stripped events."""

    summary: JsonObject
    children: Sequence[JsonObject] = ()

    @property
    def is_space(self) -> bool:
        """Whether the room may have children."""
        return self.summary.get("room_type") == SPACE

    @property
    def json(self) -> JsonObject:
        """The room as the hierarchy shows it."""
        return {**self.summary, "children_state": list[JsonValue](self.children)}


# ── Rooms that we are in ─────────────────────────────────────────────────────────────


async def resident_rooms(ctx: Context, room_ids: Iterable[RoomId]) -> list[Room]:
    """Those of the rooms of which we know the present state."""
    found = [await ctx.live.room(room_id) for room_id in room_ids]
    return [room for room in found if room is not None and room.is_resident]


async def describe(ctx: Context, rooms: Sequence[Room]) -> dict[RoomId, Described]:
    """Rooms that we are in."""
    outlines = await read_outlines(ctx.db, ctx.live, [room.nid for room in rooms])
    described = {}
    for room in rooms:
        outline = outlines.get(room.nid)
        if outline is not None:
            summary = outline.full_summary(room.room_id, room.joined)
            children = await _children(ctx, room, outline)
            described[room.room_id] = Described(summary, children)
    return described


async def _children(ctx: Context, room: Room, outline: Outline) -> list[JsonObject]:
    if outline.room_type != SPACE:
        return []
    nids = [nid for (kind, _), nid in room.state.items() if kind == CHILD]
    events = await ctx.live.events.by_nids(nids[:MAX_CHILDREN])
    return in_order(
        _stripped_child(event.shown)
        for event in events.values()
        if isinstance(event.shown.content.get("via"), list)
    )


def _stripped_child(pdu: Pdu) -> JsonObject:
    return {**strip_pdu(pdu), "origin_server_ts": pdu.origin_server_ts}


# ── Children ─────────────────────────────────────────────────────────────────────────


def in_order(children: Iterable[JsonObject]) -> list[JsonObject]:
    """The children as a space shows them.

    Spec: client-server-api#ordering-of-children-within-a-space
    """
    return sorted(children, key=_place)


def _place(child: JsonObject) -> tuple[bool, str, int, str]:
    content = child["content"]
    order = content.get("order") if isinstance(content, dict) else None
    ts = child["origin_server_ts"]
    is_valid = isinstance(order, str) and _ORDER.fullmatch(order) is not None
    return (
        not is_valid,
        str(order) if is_valid else "",
        ts if isinstance(ts, int) else 0,
        str(child["state_key"]),
    )


@dataclass(frozen=True, slots=True)
class Child:
    """A child of a space, and servers that should know it."""

    room_id: RoomId
    via: tuple[ServerName, ...]


def children_of(room: Described, *, suggested_only: bool) -> list[Child]:
    """The children of a space that are rooms, in order."""
    found = []
    for event in room.children[:MAX_CHILDREN]:
        content = event["content"]
        if not isinstance(content, dict) or not isinstance(content.get("via"), list):
            continue
        if suggested_only and content.get("suggested") is not True:
            continue
        try:
            room_id = parse_room_id(str(event["state_key"]))
        except Malformed:
            continue
        found.append(Child(room_id, servers_in(content["via"])))
    return found


def servers_in(values: JsonValue) -> tuple[ServerName, ...]:
    """The server names of a list, as far as they are such."""
    servers = []
    for value in values[:_MAX_VIA] if isinstance(values, list) else ():
        try:
            servers.append(parse_server_name(str(value)))
        except Malformed:
            continue
    return tuple(servers)


# ── Who may see a summary ────────────────────────────────────────────────────────────


def is_open(summary: JsonObject) -> bool:
    """Whether anybody may see it."""
    return summary.get("join_rule") in _OPEN or summary.get("world_readable") is True


def _allowed_rooms(summary: JsonObject) -> list[str]:
    if summary.get("join_rule") != "restricted":
        return []
    rooms = summary.get("allowed_room_ids")
    return [str(room) for room in rooms] if isinstance(rooms, list) else []


async def membership_in(ctx: Context, user_id: UserId, room_id: str) -> str:
    """A local user's membership in any room."""
    nid = await ctx.live.room_nid(room_id)
    member = None if nid is None else await ctx.live.membership(user_id, nid)
    return "leave" if member is None else member.membership


async def may_user_see(
    ctx: Context, user_id: UserId | None, summary: JsonObject
) -> bool:
    """Whether a local user may see it; None: somebody unknown."""
    if is_open(summary):
        return True
    if user_id is None:
        return False
    if await membership_in(ctx, user_id, str(summary["room_id"])) in ("join", "invite"):
        return True
    for room_id in _allowed_rooms(summary):
        if await membership_in(ctx, user_id, room_id) == "join":
            return True
    return False


async def may_server_see(
    ctx: Context, server: ServerName, room: Room, summary: JsonObject
) -> bool:
    """Whether a user of another server could see it."""
    if not await acl.is_allowed(ctx.live, room, server):
        return False
    if is_open(summary) or server in room.servers:
        return True
    if any(
        member.membership == "invite" and server_of(user_id) == server
        for user_id, member in room.members.items()
    ):
        return True
    for room_id in _allowed_rooms(summary):
        other = await ctx.live.room(room_id)
        if other is not None and server in other.servers:
            return True
    return False
