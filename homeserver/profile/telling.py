"""Tells the rooms of users what these are called now, in the background.

A change of a profile leaves word in the same transaction, so that a restart loses
nothing; whoever has the time takes it up. Rooms that know it already are passed over,
so that it does no harm to begin again.

Spec: client-server-api#events-on-change-of-profile-information
"""

import asyncio
from typing import Final, Self
from weakref import WeakKeyDictionary

import asyncpg
import structlog

from federation.ids import UserId
from homeserver.accounts.store import profiles
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.rooms import membership

_USERS_AT_ONCE: Final = 3
_CLAIM_SECONDS: Final = 60
_RENEW_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 15.0  # for what another process has left behind

log = structlog.get_logger(__name__)


class ProfileTeller:
    """One process's part; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._wake = asyncio.Event()
        self._wake.set()
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[UserId, list[asyncio.Future[None]]] = {}

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.PROFILE, self._on_profile)
        self._task = asyncio.create_task(self._run(), name="profile-teller")
        _tellers[self._ctx.live] = self
        return self

    async def __aexit__(self, *_: object) -> None:
        _tellers.pop(self._ctx.live, None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_profile(self, _position: int, _change: Change) -> None:
        self._wake.set()

    async def wait(self, user_id: UserId, seconds: float) -> None:
        """Wait until this process has told the user's rooms, but not for long."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(user_id, [])
        waiting.append(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(user_id) is waiting:
                del self._waiting[user_id]

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                while await self._tell_some():
                    pass
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("profiles not told", reason=repr(error))
            except Exception:
                log.exception("profiles not told")

    async def _tell_some(self) -> bool:
        async with self._ctx.db.transaction() as tx:
            due = await profiles.claim_tellings(tx, _CLAIM_SECONDS, _USERS_AT_ONCE)
        await asyncio.gather(*(self._tell(*each) for each in due))
        return bool(due)

    async def _tell(self, user_id: UserId, position: int) -> None:
        keeper = asyncio.create_task(self._keep(user_id))
        try:
            await membership.update_profile(self._ctx, user_id)
        except Exception:
            # It stays claimed for a while, and is then tried again.
            log.exception("profile not told", user_id=user_id)
            return
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        async with self._ctx.db.transaction() as tx:
            await profiles.finish_telling(tx, user_id, position)
        for future in self._waiting.get(user_id, ()):
            if not future.done():
                future.set_result(None)

    async def _keep(self, user_id: UserId) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            async with self._ctx.db.transaction() as tx:
                await profiles.renew_telling(tx, user_id, _CLAIM_SECONDS)


_tellers: "WeakKeyDictionary[Live, ProfileTeller]" = WeakKeyDictionary()


async def wait_a_moment(ctx: Context, user_id: UserId, seconds: float) -> None:
    """Wait until the user's rooms have been told; of many rooms, for a moment only."""
    teller = _tellers.get(ctx.live)
    if teller is not None:
        await teller.wait(user_id, seconds)
