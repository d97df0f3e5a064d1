"""Shortens ways before somebody has to go them.

While a room moves on, its pages are made out of what is at hand anyway, and what is
unread is added up for members with rules of their own. So whoever comes back after a
long time is counted for at once. Nothing rests on it: what is missing is made later.
"""

import asyncio
from typing import Final, Self

import structlog

from federation.ids import UserId
from homeserver.bounded import MIB, LruCache
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Tx
from homeserver.live.room import Room, RoomDelta
from homeserver.push import pages
from homeserver.push.counts import unread_counts

_BYTES: Final = 8 * MIB
_MOST_WAITING: Final = 5_000
_REFRESH_SECONDS: Final = 300.0
# After so many pages of a room its members are counted for.
_PAGES: Final = 8

log = structlog.get_logger(__name__)


class Keeper:
    """One process's task that keeps pages and tallies; `async with` runs it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._counts = unread_counts(ctx.db, ctx.live)
        # Of rooms: events that came since, and the position before the first.
        self._moved: LruCache[int, tuple[int, int]] = LruCache(
            "push pages begun", _BYTES, 120
        )
        # Pages since a count.
        self._made: LruCache[int, int] = LruCache("push pages made", _BYTES, 32)
        self._waiting: dict[int, int] = {}  # room → position to begin at
        self._wake = asyncio.Event()
        self._with_rules: set[UserId] = set()
        self._refreshed_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_events(self._on_events)
        self._task = asyncio.create_task(self._run(), name="push-keeper")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        nid = delta.room_nid
        number, start = self._moved.get(nid) or (0, delta.first - 1)
        number += len(delta.events)
        if number < pages.PAGE or len(self._waiting) >= _MOST_WAITING:
            self._moved.put(nid, (number, start))
            return
        self._moved.pop(nid)
        self._waiting.setdefault(nid, start)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                nid, start = self._waiting.popitem()
                try:
                    await self._keep(nid, start)
                except DatabaseError as error:
                    log.warning("cannot keep push pages", reason=str(error))
                    await asyncio.sleep(1)
                except Exception:  # what was not kept is made when it is needed
                    log.exception("cannot keep push pages")

    async def _keep(self, nid: int, start: int) -> None:
        room = await self._ctx.live.view.room(nid)
        if room is None or not room.is_resident:
            return
        made = await self._counts.pages.extend(room, start)
        made += self._made.get(nid) or 0
        if made < _PAGES:
            self._made.put(nid, made)
            return
        self._made.pop(nid)
        await self._count(room)

    async def _count(self, room: Room) -> None:
        """Add up for members with rules of their own; for others, pages will do."""
        now = self._ctx.clock.monotonic()
        if self._refreshed_at is None or now - self._refreshed_at > _REFRESH_SECONDS:
            async with self._ctx.db.read() as tx:
                self._with_rules = await users_with_rules(tx)
            self._refreshed_at = now
        for user_id in room.joined_local & self._with_rules:
            history = await self._counts.rules.of(user_id)
            upto = self._ctx.live.position
            member = room.members.get(user_id)
            if member is None or history.is_default_in(room.room_id, 0, upto):
                continue
            await self._counts.of_rooms(user_id, {room: member}, upto, keep=True)
            await asyncio.sleep(0)


async def users_with_rules(tx: Tx) -> set[UserId]:
    """Everybody who has ever changed their push rules."""
    rows = await tx.fetch("SELECT DISTINCT user_id FROM push_rules")
    return {row["user_id"] for row in rows}
