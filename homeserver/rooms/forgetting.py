"""Rooms that are forgotten as soon as they are left, when the configuration says so.

Spec: client-server-api#mforget_forced_upon_leave-capability
"""

from types import TracebackType
from typing import Final, Self

from federation.ids import UserId, server_of
from homeserver.chores import Chores
from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta
from homeserver.rooms.membership import set_forgotten

_GONE: Final = frozenset(("leave", "ban"))
_AT_ONCE: Final = 5_000


class Forgetter:
    """Forgets rooms for users who leave, are kicked, or are banned."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._chores: Chores[tuple[int, UserId]] = Chores(
            "forget-rooms", self._forget, self._sweep
        )

    async def __aenter__(self) -> Self:
        self._ctx.live.on_events(self._on_events)
        self._ctx.live.on_change(Kind.MEMBERSHIP, self._on_change)
        await self._chores.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._chores.__aexit__(kind, error, trace)

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for user_id, member in delta.members.items():
            is_ours = server_of(user_id) == self._ctx.server_name
            if is_ours and member.membership in _GONE:
                self._chores.add((delta.room_nid, user_id))

    def _on_change(self, _position: int, change: Change) -> None:
        if change.membership in _GONE and change.room_nid and change.user_id:
            self._chores.add((change.room_nid, UserId(change.user_id)))

    async def _forget(self, key: tuple[int, UserId]) -> None:
        room_nid, user_id = key
        member = await self._ctx.live.membership(user_id, room_nid)
        if member is None or member.membership not in _GONE or member.forgotten:
            return
        await self._ctx.live.commit(
            set_forgotten,
            key,
            Change(Kind.FORGOTTEN, room_nid=room_nid, user_id=user_id),
        )

    async def _sweep(self) -> None:
        async with self._ctx.db.read() as tx:
            rows = await tx.fetch(
                """
                SELECT room_nid, user_id FROM memberships
                 WHERE local AND NOT forgotten AND membership IN ('leave', 'ban')
                 LIMIT $1
                """,
                _AT_ONCE,
            )
        for room_nid, user_id in rows:
            self._chores.add((room_nid, UserId(user_id)))
