"""Takes our users' typing and receipts to the servers in their rooms.

Changes say only which room and user; what they are is read for many at once, a moment
later. Typing goes to whoever can be reached now and is not kept.
"""

import asyncio
from typing import Final, Self

import structlog

from federation import edu
from federation.ids import ServerName, UserId, server_of
from homeserver.context import Context
from homeserver.db.errors import DatabaseUnavailable
from homeserver.destinations import store
from homeserver.destinations.destination import Item
from homeserver.destinations.sender import Sender
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room

_PAUSE_SECONDS: Final = 0.01
_MOST: Final = 5000  # typing beyond this is dropped

log = structlog.get_logger(__name__)


class EphemeralWatch:
    """Follows typing and receipts for one sender."""

    def __init__(self, ctx: Context, sender: Sender) -> None:
        self._ctx = ctx
        self._sender = sender
        self._typing: set[tuple[int, str]] = set()
        self._receipts: list[int] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.TYPING, self._on_typing)
        self._ctx.live.on_change(Kind.RECEIPT, self._on_receipt)
        self._task = asyncio.create_task(self._run(), name="sender-ephemeral")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_typing(self, _position: int, change: Change) -> None:
        if self._is_ours(change) and len(self._typing) < _MOST:
            self._typing.add((change.room_nid or 0, change.user_id or ""))
            self._wake.set()

    def _on_receipt(self, position: int, change: Change) -> None:
        if self._is_ours(change) and len(self._receipts) < _MOST:
            self._receipts.append(position)
            self._wake.set()

    def _is_ours(self, change: Change) -> bool:
        user_id = UserId(change.user_id or "")
        return server_of(user_id) == self._ctx.server_name

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            self._wake.clear()
            try:
                await self._tell_receipts()
                await self._tell_typing()
            except DatabaseUnavailable as error:
                log.info("ephemeral events not sent", reason=str(error))
            except Exception:
                log.exception("ephemeral events not sent")

    async def _tell_receipts(self) -> None:
        positions, self._receipts = self._receipts, []
        if not positions:
            return
        async with self._ctx.db.read() as tx:
            rows = await store.receipts_at(tx, positions)
        rooms = await self._ctx.live.rooms({row.room_nid for row in rows})
        for row in rows:
            item = Item(row.position, receipt=row.receipt)
            for server in self._others(rooms.get(row.room_nid)):
                self._sender.offer(server, item)

    async def _tell_typing(self) -> None:
        keys, self._typing = list(self._typing), set()
        if not keys:
            return
        async with self._ctx.db.read() as tx:
            types = await store.typing_now(tx, keys)
        rooms = await self._ctx.live.rooms({room_nid for room_nid, _ in keys})
        for (room_nid, user_id), is_typing in types.items():
            room = rooms.get(room_nid)
            if room is None:
                continue
            notice = edu.Typing(room.room_id, UserId(user_id), is_typing).to_edu()
            for server in self._others(room):
                self._sender.offer_typing(server, (room_nid, user_id), notice)

    def _others(self, room: Room | None) -> list[ServerName]:
        if room is None or not room.is_resident:
            return []
        return [server for server in room.servers if server != self._ctx.server_name]
