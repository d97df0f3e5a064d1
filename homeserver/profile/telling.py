"""Tells the rooms of users what these are called now, in the background.

A change of a profile leaves word in the same transaction, so that a restart loses
nothing; whoever has the time takes it up. Rooms that know it already are passed over,
so that it does no harm to begin again.

Spec: client-server-api#events-on-change-of-profile-information
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

from federation.ids import UserId
from homeserver.accounts.store import profiles
from homeserver.accounts.store.profiles import Telling
from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.rooms import membership

_USERS_AT_ONCE: Final = 3
_ASK_AGAIN_SECONDS: Final = 0.05


class ProfileTeller:
    """One process's part; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._work = Claimed(
            ctx.db,
            "profile-teller",
            claim=profiles.claim_tellings,
            renew=profiles.renew_tellings,
            work=self._tell,
            at_once=_USERS_AT_ONCE,
        )

    async def __aenter__(self) -> Self:
        self._ctx.live.on_change(Kind.PROFILE, self._on_profile)
        await self._work.__aenter__()
        _tellers[self._ctx.live] = self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _tellers.pop(self._ctx.live, None)
        await self._work.__aexit__(kind, error, trace)

    def _on_profile(self, _position: int, _change: Change) -> None:
        self._work.wake()

    async def wait(self, user_id: UserId, seconds: float) -> None:
        """Wait until some process has told the user's rooms, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._is_due(user_id):  # noqa: ASYNC110 - of any process
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)
        await self._ctx.live.follower.was_behind()

    async def _is_due(self, user_id: UserId) -> bool:
        async with self._ctx.db.read() as tx:
            return await profiles.is_telling_due(tx, user_id)

    async def _tell(self, telling: Telling) -> None:
        user_id, position = telling
        await membership.update_profile(self._ctx, user_id)
        async with self._ctx.db.transaction() as tx:
            await profiles.finish_telling(tx, user_id, position)


_tellers: "WeakKeyDictionary[Live, ProfileTeller]" = WeakKeyDictionary()


async def wait_a_moment(ctx: Context, user_id: UserId, seconds: float) -> None:
    """Wait until the user's rooms have been told; of many rooms, for a moment only."""
    teller = _tellers.get(ctx.live)
    if teller is not None:
        await teller.wait(user_id, seconds)
