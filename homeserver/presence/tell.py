"""Takes our users' presence to the servers in their rooms.

Bounded: each round tells of so many users, and asks for so many servers that this
process does not send to anyway; whoever is left out is told with the next change.

Spec: server-server-api#presence
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final, Self

import structlog

from federation.ids import ServerName, UserId, server_of
from homeserver.context import Context
from homeserver.db.errors import DatabaseUnavailable
from homeserver.destinations.sender import Sender
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta
from homeserver.presence import reading
from homeserver.presence.content import update_of

_PAUSE_SECONDS: Final = 0.2
_MOST: Final = 2000  # users, and newcomers, that wait to be told of
_AT_ONCE: Final = 200  # users in one round
_SERVERS_AT_ONCE: Final = 2000  # tellings in one round

log = structlog.get_logger(__name__)


class PresenceTeller:
    """Follows presence for one sender."""

    def __init__(self, ctx: Context, sender: Sender) -> None:
        self._ctx = ctx
        self._sender = sender
        self._moved: set[UserId] = set()
        self._come: set[tuple[int, ServerName]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.PRESENCE, self._on_presence)
        self._ctx.live.on_events(self._on_events)
        self._task = asyncio.create_task(self._run(), name="sender-presence")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_presence(self, _position: int, change: Change) -> None:
        user_id = UserId(change.user_id or "")
        # Without rooms nothing has changed that others see.
        if change.reach and change.reach.rooms:
            self._note(user_id)

    def _note(self, user_id: UserId) -> None:
        is_ours = server_of(user_id) == self._ctx.server_name
        if is_ours and len(self._moved) < _MOST:
            self._moved.add(user_id)
            self._wake.set()

    def _on_events(self, delta: RoomDelta, room: Room | None) -> None:
        """Who comes into a room sees who is there."""
        for user_id, member in delta.members.items():
            if member.membership != "join":
                continue
            self._note(user_id)
            server = server_of(user_id)
            is_new = room is not None and room.servers[server] == 1
            if is_new and server != self._ctx.server_name and len(self._come) < _MOST:
                self._come.add((delta.room_nid, server))
                self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            self._wake.clear()
            try:
                await self._tell_moved()
                await self._tell_newcomers()
            except DatabaseUnavailable as error:
                log.info("presence not sent", reason=str(error))
            except Exception:
                log.exception("presence not sent")
            if self._moved:
                self._wake.set()

    async def _tell_moved(self) -> None:
        moved = list(self._moved)[:_AT_ONCE]
        self._moved.difference_update(moved)
        if not moved:
            return
        async with self._ctx.db.read() as tx:
            found = await reading.presences(tx, moved)
            servers = await reading.servers_of(tx, moved, _SERVERS_AT_ONCE)
        for presence in found:
            for server in servers.get(presence.user_id, ()):
                if server != self._ctx.server_name:
                    self._sender.offer_presence(server, update_of(presence))

    async def _tell_newcomers(self) -> None:
        come, self._come = self._come, set()
        if not come:
            return
        rooms = await self._ctx.live.rooms({room_nid for room_nid, _ in come})
        told: Counter[ServerName] = Counter()
        for room_nid, server in come:
            room = rooms.get(room_nid)
            if room is not None and told[server] < _AT_ONCE:
                told[server] += await self._tell(server, room.joined_local)

    async def _tell(self, server: ServerName, users: Iterable[UserId]) -> int:
        async with self._ctx.db.read() as tx:
            found = await reading.presences(tx, list(users)[:_AT_ONCE])
        there = [presence for presence in found if presence.rank]
        for presence in there:
            self._sender.offer_presence(server, update_of(presence))
        return len(there)
