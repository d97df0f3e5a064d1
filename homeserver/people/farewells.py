"""Lets users who have deactivated their accounts leave their rooms, in the background.

Whoever has the time takes it up, also after a restart. Rooms that cannot be left now,
since other servers would have to help, are tried again for some days.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

import structlog

from federation.errors import ProtocolError
from federation.ids import UserId
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import deactivation as store
from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.live.steps import Conflict
from homeserver.rooms import membership

_USERS_AT_ONCE: Final = 2
_ROOMS_AT_ONCE: Final = 8
_MOST_TRIES: Final = 12
_THERE: Final = frozenset(("join", "invite", "knock"))

log = structlog.get_logger(__name__)


class Farewells:
    """One process's part; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._work = Claimed(
            ctx.db,
            "farewells",
            claim=store.claim_farewells,
            renew=store.renew_farewells,
            work=self._say,
            at_once=_USERS_AT_ONCE,
        )

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.DEACTIVATED, self._on_deactivated)
        await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.__aexit__(kind, error, trace)

    def _on_deactivated(self, _position: int, _change: Change) -> None:
        self._work.wake()

    async def _say(self, user_id: UserId) -> None:
        # Again, should the process have stopped after the account was ended.
        await end_sessions(self._ctx.live, user_id, None)
        has_left = await self._leave_all(user_id)
        async with self._ctx.db.transaction() as tx:
            if has_left:
                await store.finish_farewell(tx, user_id)
            else:
                await store.put_farewell_off(tx, user_id, _MOST_TRIES)

    async def _leave_all(self, user_id: UserId) -> bool:
        user = await self._ctx.live.user(user_id)
        there = [nid for nid, m in user.rooms.items() if m.membership in _THERE]
        at_once = asyncio.Semaphore(_ROOMS_AT_ONCE)

        async def leave(room_nid: int) -> bool:
            async with at_once:
                room = await self._ctx.live.view.room(room_nid)
                if room is None:
                    return True
                try:
                    await membership.leave(self._ctx, user_id, room.room_id)
                except (MatrixError, ProtocolError, Overloaded, Conflict) as error:
                    log.info("not left", room_id=room.room_id, reason=str(error))
                    return False
                return True

        return all(await asyncio.gather(*map(leave, there)))
