"""Going through a space, depth first, a page at a time.

A token says how many rooms were shown already: the way there is gone again, over what
is at hand by then. So any process can go on, and none has to remember a client.

Spec: client-server-api#get_matrixclientv1roomsroomidhierarchy
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import RoomId, ServerName, UserId
from homeserver import errors
from homeserver.context import Context
from homeserver.spaces import summaries
from homeserver.spaces.remote import RemoteRooms, Told
from homeserver.spaces.summaries import Child, Described

MAX_DEPTH: Final = 30
MAX_ROOMS: Final = 2000  # in the whole tree; further ones are not shown
_MOST_ASKED: Final = 60  # rooms that are asked for over federation, for one page
_ASKED_AT_ONCE: Final = 8
_TOKEN: Final = re.compile(r"h([01])_([0-9]{1,3})_([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of a tree is wanted, and by whom."""

    user_id: UserId
    root: RoomId
    suggested_only: bool
    max_depth: int
    limit: int
    skip: int = 0

    @property
    def token(self) -> str:
        """Says where the page begins."""
        return f"h{int(self.suggested_only)}_{self.max_depth}_{self.skip}"


def skipped(token: str, *, suggested_only: bool, max_depth: int) -> int:
    """How many rooms a token says were shown. Raises: M_INVALID_PARAM."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise errors.invalid_param("from: this is not a token of this server.")
    if (match[1], match[2]) != (str(int(suggested_only)), str(max_depth)):
        raise errors.invalid_param(
            "suggested_only and max_depth cannot change from page to page."
        )
    return int(match[3])


class _Spent(Exception):  # noqa: N818 - ends a page, no error
    """Too many other servers were asked for one page."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A room to look at; `parent` is what its space's server told of it."""

    child: Child
    depth: int
    parent: Told | None


async def page(ctx: Context, wanted: Wanted) -> tuple[list[JsonObject], str | None]:
    """The rooms of a page, and the token of the next one.

    Raises: M_FORBIDDEN when the user may not see the first room.
    """
    walk = _Walk(ctx, wanted)
    rooms: list[JsonObject] = []
    shown = 0
    try:
        async for room in walk.rooms():
            if len(rooms) == wanted.limit:
                return rooms, _next(wanted, shown)
            shown += 1
            if shown > wanted.skip:
                rooms.append(room.json)
    except _Spent:
        return rooms, _next(wanted, max(shown, wanted.skip))
    if not shown:
        raise errors.forbidden("You cannot see this room.")
    return rooms, None


def _next(wanted: Wanted, shown: int) -> str:
    further = Wanted(
        wanted.user_id,
        wanted.root,
        wanted.suggested_only,
        wanted.max_depth,
        wanted.limit,
        shown,
    )
    return further.token


class _Walk:
    def __init__(self, ctx: Context, wanted: Wanted) -> None:
        self._ctx = ctx
        self._wanted = wanted
        self._remote = ctx.parts.get(RemoteRooms)
        self._asked = 0

    async def rooms(self) -> AsyncIterator[Described]:
        """The rooms of the tree that the user may see, each once, in order."""
        stack = [_Step(Child(self._wanted.root, ()), 0, None)]
        seen: set[RoomId] = set()
        while stack and len(seen) < MAX_ROOMS:
            step = stack.pop()
            if step.child.room_id in seen:
                continue
            seen.add(step.child.room_id)
            room, told = await self._look(step)
            if room is None or not await summaries.may_user_see(
                self._ctx, self._wanted.user_id, room.summary
            ):
                continue
            yield room
            if step.depth < self._wanted.max_depth and room.is_space:
                children = summaries.children_of(
                    room, suggested_only=self._wanted.suggested_only
                )
                further = [_Step(child, step.depth + 1, told) for child in children]
                await self._ask_ahead(further, seen)
                stack += reversed(further)

    async def _look(self, step: _Step) -> tuple[Described | None, Told | None]:
        room_id = step.child.room_id
        here = await summaries.resident_rooms(self._ctx, (room_id,))
        if here:
            return (await summaries.describe(self._ctx, here)).get(room_id), None
        known = None if step.parent is None else step.parent.children.get(room_id)
        if known is not None and not known.is_space:
            return known, None
        if step.parent is not None and room_id in step.parent.inaccessible:
            return None, None
        told = await self._ask(room_id, step.child.via)
        if told is not None:
            return told.room, told
        return known, None

    async def _ask(self, room_id: RoomId, via: Sequence[ServerName]) -> Told | None:
        if not self._remote.is_known(self._ctx, room_id):
            if self._asked >= _MOST_ASKED:
                raise _Spent
            self._asked += 1
        return await self._remote.ask(self._ctx, room_id, via)

    async def _ask_ahead(self, steps: Sequence[_Step], seen: set[RoomId]) -> None:
        """Ask for the first of those that others have to tell of, some at once."""
        lacking = [
            step.child
            for step in steps
            if step.child.room_id not in seen
            and (step.parent is None or step.child.room_id not in step.parent.children)
            and not self._remote.is_known(self._ctx, step.child.room_id)
        ]
        here = await summaries.resident_rooms(
            self._ctx, (child.room_id for child in lacking)
        )
        ids = {room.room_id for room in here}
        ahead = [child for child in lacking if child.room_id not in ids]
        ahead = ahead[: min(self._wanted.limit, _MOST_ASKED - self._asked)]
        self._asked += len(ahead)
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(child: Child) -> None:
            async with at_once:
                await self._remote.ask(self._ctx, child.room_id, child.via)

        await asyncio.gather(*map(ask, ahead))
