"""Rooms that we are not in, as other servers describe them; kept for a few minutes.

Spec: server-server-api#get_matrixfederationv1hierarchyroomid
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import RoomId, ServerName, parse_server_name
from federation.query_bodies import SpaceHierarchy
from federation.wire import calls_queries
from federation.wire.client import Limits
from federation.wire.errors import WireError
from homeserver.bounded import MIB, LruCache
from homeserver.context import Context
from homeserver.spaces.summaries import MAX_CHILDREN, Described, in_order

LIMITS: Final = Limits(seconds=15.0, max_bytes=8 * 2**20)
_TRIED: Final = 3  # servers, for one room
_KEPT_S: Final = 300.0
_FAILED_S: Final = 60.0
_KEPT_BYTES: Final = 24 * MIB
_ROOM_COST: Final = 500  # beside what was told
_PARSED: Final = 5  # times the text, in memory
# What we pass on of what another server says, and the types that the values must have.
_TEXTS: Final = (
    *("room_id", "name", "topic", "avatar_url", "canonical_alias", "join_rule"),
    *("room_type", "encryption", "room_version"),
)
_OTHERS: Final = (
    *("num_joined_members", "world_readable", "guest_can_join", "allowed_room_ids"),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a server told of a room, and of its children."""

    room: Described
    children: dict[str, Described] = field(default_factory=dict)
    inaccessible: frozenset[str] = frozenset()

    @property
    def cost(self) -> int:
        """Bytes in memory, roughly."""
        rooms = (self.room, *self.children.values())
        told = [part for room in rooms for part in (room.summary, *room.children)]
        return _ROOM_COST * len(rooms) + _PARSED * len(orjson.dumps(told))


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    told: Told | None

    @property
    def cost(self) -> int:
        return _ROOM_COST + (0 if self.told is None else self.told.cost)


class RemoteRooms:
    """Asks, and keeps what was answered. One for each process."""

    def __init__(self) -> None:
        self._kept: LruCache[RoomId, _Kept] = LruCache(
            "rooms of other servers", _KEPT_BYTES, lambda kept: kept.cost
        )

    def is_known(self, ctx: Context, room_id: RoomId) -> bool:
        """Whether there is an answer that is young enough."""
        kept = self._kept.peek(room_id)
        return kept is not None and ctx.clock.monotonic() < kept.until

    async def ask(
        self, ctx: Context, room_id: RoomId, via: Iterable[ServerName]
    ) -> Told | None:
        """What others say of a room; None when they do not know or tell."""
        if not ctx.config.federation.enabled:
            return None
        async with ctx.turns.take(("hierarchy", room_id)):
            kept = self._kept.get(room_id)
            if kept is not None and ctx.clock.monotonic() < kept.until:
                return kept.told
            told = await _ask(ctx, room_id, via)
            seconds = _FAILED_S if told is None else _KEPT_S
            until = ctx.clock.monotonic() + seconds
            # What one caller's servers do not know, those of the next one may.
            if told is not None or [*via]:
                self._kept.put(room_id, _Kept(until, told))
            return told


async def _ask(ctx: Context, room_id: RoomId, via: Iterable[ServerName]) -> Told | None:
    servers = [*via]
    _, colon, domain = room_id.partition(":")
    if colon:
        with contextlib.suppress(Malformed):
            servers.append(parse_server_name(domain))
    others = [each for each in dict.fromkeys(servers) if each != ctx.server_name]
    for server in others[:_TRIED]:
        try:
            answer = await calls_queries.get_space_hierarchy(
                ctx.wire, server, room_id, limits=LIMITS
            )
        except WireError:
            continue
        return _told(answer)
    return None


def _told(answer: SpaceHierarchy) -> Told:
    children = answer.children[:MAX_CHILDREN]
    return Told(
        room=Described(_summary(answer.room), _child_events(answer.room)),
        children={
            str(child["room_id"]): Described(_summary(child)) for child in children
        },
        inaccessible=frozenset(answer.inaccessible_children[:MAX_CHILDREN]),
    )


def _summary(told: JsonObject) -> JsonObject:
    texts = {name: told[name] for name in _TEXTS if isinstance(told.get(name), str)}
    others = {name: told[name] for name in _OTHERS if told.get(name) is not None}
    # "Assume `public` if not present", as servers before v1.4 leave it out.
    return {"join_rule": "public", **texts, **others}


def _child_events(room: JsonObject) -> list[JsonObject]:
    events = room.get("children_state")
    listed = events if isinstance(events, list) else []
    return in_order(event for event in listed[:MAX_CHILDREN] if isinstance(event, dict))
