"""Waiting for news of a room, also for who is not in it."""

import asyncio
from collections import defaultdict

from homeserver.live.live import Live
from homeserver.live.room import Room, RoomDelta


class Onlookers:
    """Who waits for events of a room without being its member. One for each process."""

    def __init__(self, live: Live) -> None:
        self._waiting: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        live.on_events(self._on_events)

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for waiter in self._waiting.get(delta.room_nid, ()):
            waiter.set()

    async def wait(self, room_nid: int) -> None:
        """Return when the room has got an event."""
        waiter = asyncio.Event()
        self._waiting[room_nid].add(waiter)
        try:
            await waiter.wait()
        finally:
            self._waiting[room_nid].discard(waiter)
            if not self._waiting[room_nid]:
                del self._waiting[room_nid]
