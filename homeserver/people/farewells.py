"""Lets users who have deactivated their accounts leave their rooms, in the background.

Whoever has the time takes it up, also after a restart. Rooms that cannot be left now,
since other servers would have to help, are tried again for some days.
"""

import asyncio
from typing import Final, Self

import asyncpg
import structlog

from federation.errors import ProtocolError
from federation.ids import UserId
from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.store import deactivation as store
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.errors import MatrixError
from homeserver.live.changes import Change, Kind
from homeserver.live.committer import Overloaded
from homeserver.live.steps import Conflict
from homeserver.rooms import membership

_USERS_AT_ONCE: Final = 2
_ROOMS_AT_ONCE: Final = 8
_CLAIM_SECONDS: Final = 120
_RENEW_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 30.0
_MOST_TRIES: Final = 12
_THERE: Final = frozenset(("join", "invite", "knock"))

log = structlog.get_logger(__name__)


class Farewells:
    """One process's part; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._wake = asyncio.Event()
        self._wake.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.DEACTIVATED, self._on_deactivated)
        self._task = asyncio.create_task(self._run(), name="farewells")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_deactivated(self, _position: int, _change: Change) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                while await self._say_some():
                    pass
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("farewells wait", reason=repr(error))
            except Exception:
                log.exception("farewells wait")

    async def _say_some(self) -> bool:
        async with self._ctx.db.transaction() as tx:
            due = await store.claim_farewells(tx, _CLAIM_SECONDS, _USERS_AT_ONCE)
        await asyncio.gather(*map(self._say, due))
        return bool(due)

    async def _say(self, user_id: UserId) -> None:
        keeper = asyncio.create_task(self._keep(user_id))
        try:
            # Again, should the process have stopped after the account was ended.
            await end_sessions(self._ctx.live, user_id, None)
            has_left = await self._leave_all(user_id)
        except Exception:
            # It stays claimed for a while, and is then tried again.
            log.exception("farewell failed", user_id=user_id)
            return
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
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

    async def _keep(self, user_id: UserId) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            async with self._ctx.db.transaction() as tx:
                await store.renew_farewell(tx, user_id, _CLAIM_SECONDS)
