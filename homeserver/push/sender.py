"""Tells push gateways what there is to tell.

Laws. A pusher has a durable cursor: everything up to it has been told. What comes after
is found from the events, so nothing is queued anywhere and a crash tells at most the
last thing twice. One process at a time holds a user's pushers, by a lease in their
rows; whoever sees something happen for a user asks for them.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import structlog
from prometheus_client import Counter, Gauge

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.bounded import MIB, LruCache, Worth
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta, User
from homeserver.push import pushers
from homeserver.push.counts import unread_counts
from homeserver.push.gateway import GatewayFailed, Gateways
from homeserver.push.having import MOST, Having
from homeserver.push.news import Newsroom, badge_notification
from homeserver.push.pushers import WEB_PUSH, Pusher
from homeserver.push.vapid import VapidKey
from homeserver.push.web_push import WebPush

LEASE_SECONDS: Final = 30.0
_RENEW_SECONDS: Final = 10.0
_RETRY_SWEEP_SECONDS: Final = 2.0
_SWEEP_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 120.0
_NONE_SECONDS: Final = 3600.0  # a new pusher ends the wait
_HELD_ELSEWHERE_SECONDS: Final = 20.0
_REMEMBERED: Final = 24 * MIB
_FIRST_DELAY: Final = 3.0
_LONGEST_DELAY: Final = 3600.0
_SWEPT: Final = 500
_AT_ONCE: Final = 16  # users whose news are looked up at a time
_ASKED_AT_ONCE: Final = 100
_STOP_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)
pushed = Counter("hearth_pushes", "Notifications passed to push gateways", ["outcome"])
held_users = Gauge("hearth_push_users", "Users whose pushers this process holds")


@dataclass(slots=True)
class _Cursor:
    """A pusher that is held: what it was told, and the last number that it shows."""

    pusher: Pusher
    position: int
    failures: int
    token: str | None = None  # as of Claimed
    badge: int | None = None


@dataclass(slots=True)
class _Held:
    """The pushers of one user that this process holds."""

    user: User
    cursors: list[_Cursor] = field(default_factory=list)
    active_at: float = 0.0
    wants_badge: bool = False


class PushSender:
    """One process's share of the pushing; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._gateways = Gateways(ctx.config)
        self._web_push = WebPush(self._gateways, ctx.parts.get(VapidKey))
        self._news = Newsroom(ctx.db, ctx.live, unread_counts(ctx.db, ctx.live))
        self._users = Having(ctx.server_name)
        self._held: dict[UserId, _Held] = {}
        self._kicked: dict[UserId, bool] = {}  # to look at; whether for the badge
        self._running: dict[UserId, asyncio.Task[None]] = {}
        # Monotonic times before which users' pushers are not asked for.
        self._not_before: LruCache[UserId, float] = LruCache(
            "pushers of other processes", _REMEMBERED, 110, Worth.NEEDED
        )
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._moved: set[int] = set()  # rooms whose members are to be asked
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    # ── Life ─────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        await self._gateways.__aenter__()
        live = self._ctx.live
        live.on_events(self._on_events)
        live.on_change(Kind.RECEIPT, self._on_receipt)
        live.on_change(Kind.MEMBERSHIP, self._on_membership)
        for kind in (Kind.PUSHERS, Kind.TOKENS):
            live.on_change(kind, self._on_pushers)
        live.on_reset(self._on_reset)
        async with self._ctx.db.read() as tx:
            self._users.update(await pushers.users_with_pushers(tx, MOST + 1))
        self._tasks = [
            asyncio.create_task(self._repeat(work, seconds), name=f"push-{name}")
            for name, work, seconds in (
                ("rooms", self._look_at_rooms, 0),
                ("renew", self._renew, _RENEW_SECONDS),
                ("retry", self._retry, _RETRY_SWEEP_SECONDS),
                ("sweep", self._sweep, _SWEEP_SECONDS),
            )
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is under way, then let other processes go on."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=_STOP_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with contextlib.suppress(DatabaseError):
            await self._let_go(list(self._held.values()))
        await self._gateways.__aexit__()

    async def _repeat(
        self, work: Callable[[], Awaitable[None]], seconds: float
    ) -> None:
        while True:
            try:
                await work()
            except DatabaseError as error:
                log.warning("push waits for the database", reason=str(error))
            except Exception:
                log.exception("push stumbled")
            await asyncio.sleep(seconds)

    # ── What happens ─────────────────────────────────────────────────────────────

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        if not self._users:
            return
        self._kick(self._users.among(delta.members))
        # Who sends must not wait until thousands have been asked.
        self._moved.add(delta.room_nid)
        self._wake.set()

    async def _look_at_rooms(self) -> None:
        """Ask the members of rooms that have moved."""
        await self._wake.wait()
        self._wake.clear()
        while self._moved:
            nid = self._moved.pop()
            room = self._ctx.live.view.loaded_room(nid)
            if room is None:  # not at hand: ask each who is held
                there = [u for u, held in self._held.items() if nid in held.user.rooms]
            else:
                there = list(self._users.among(room.joined_local))
            for start in range(0, len(there), _ASKED_AT_ONCE):
                self._kick(there[start : start + _ASKED_AT_ONCE])
                await asyncio.sleep(0)

    def _on_receipt(self, _position: int, change: Change) -> None:
        if change.user_id in self._users:
            self._kick((UserId(change.user_id or ""),), badge=True)

    def _on_membership(self, _position: int, change: Change) -> None:
        if change.user_id in self._users:
            self._kick((UserId(change.user_id or ""),))

    def _on_pushers(self, _position: int, change: Change) -> None:
        """The user's pushers may be others now: take them anew."""
        user_id = UserId(change.user_id or "")
        if change.kind is Kind.PUSHERS:
            self._users.update((user_id,))
        if user_id in self._users:
            held = self._held.pop(user_id, None)
            if held is not None:
                held.cursors.clear()
            self._not_before.pop(user_id)
            self._kick((user_id,))

    def _on_reset(self) -> None:
        self._kick(list(self._users))

    def _kick(self, user_ids: Iterable[UserId], *, badge: bool = False) -> None:
        """Look whether there is something to tell these users."""
        if self._is_stopping:
            return
        for user_id in user_ids:
            self._kicked[user_id] = self._kicked.get(user_id, False) or badge
            self._start(user_id)

    def _start(self, user_id: UserId, held: _Held | None = None) -> None:
        """Serve the user; `held` is let go of before."""
        if user_id not in self._running:
            task = asyncio.create_task(self._serve(user_id, held), name="push-user")
            self._running[user_id] = task

    # ── Telling one user ─────────────────────────────────────────────────────────

    async def _serve(self, user_id: UserId, over: _Held | None) -> None:
        try:
            if over is not None:
                await self._let_go((over,))
            while user_id in self._kicked and not self._is_stopping:
                badge = self._kicked.pop(user_id)
                held = await self._hold(user_id)
                if held is not None:
                    held.wants_badge = held.wants_badge or badge
                    await self._tell(held)
        except DatabaseError as error:
            log.warning("push waits for the database", reason=str(error))
        except Exception:
            log.exception("push stumbled", user_id=user_id)
        finally:
            del self._running[user_id]

    async def _hold(self, user_id: UserId) -> _Held | None:
        """The user's pushers, if they can be had now."""
        held = self._held.get(user_id)
        if held is not None:
            return held
        now = self._ctx.clock.monotonic()
        if (self._not_before.get(user_id) or 0) > now:
            return None
        user = await self._ctx.live.user(user_id)
        async with self._ctx.db.transaction() as tx:
            claimed = await pushers.claim(tx, user_id, self._me, LEASE_SECONDS)
            found = await pushers.read_pushers(tx, user_id)
        is_there = any(pusher.is_told for pusher in found)
        if claimed:
            cursors = [
                _Cursor(c.pusher, c.position, c.failures, c.token) for c in claimed
            ]
            held = self._held[user_id] = _Held(user, cursors)
            held_users.set(len(self._held))
            return held
        if is_there:  # another process holds them and sees what we see
            self._not_before.put(user_id, now + _HELD_ELSEWHERE_SECONDS)
        else:
            self._users.discard(user_id)
            if self._users.is_full:  # or each event would ask about them
                self._not_before.put(user_id, now + _NONE_SECONDS)
        return None

    async def _tell(self, held: _Held) -> None:
        user_id = held.user.user_id
        held.active_at = self._ctx.clock.monotonic()
        upto = self._ctx.live.position
        for cursor in [each for each in held.cursors if each.token is not None]:
            await self._send_token(held, cursor)
        after = min((cursor.position for cursor in held.cursors), default=upto)
        async with self._turn:
            found = await self._news.between(user_id, after, upto)
            badge = 0
            if found or held.wants_badge:
                badge = await self._news.badge(user_id, upto)
        for cursor in list(held.cursors):
            for news in found:
                if news.position > cursor.position:
                    told = await self._news.notification(cursor.pusher, news, badge)
                    urgent = news.is_urgent
                    if not await self._send(held, cursor, told, news.position, urgent):
                        break
                    cursor.badge = badge
            else:
                cursor.position = max(cursor.position, upto)
                wants = held.wants_badge and cursor.pusher.counts
                if wants and cursor.badge != badge:
                    told = badge_notification(cursor.pusher, badge)
                    if await self._send(held, cursor, told, cursor.position):
                        cursor.badge = badge
        held.wants_badge = False
        if not held.cursors:
            self._held.pop(user_id, None)
            held_users.set(len(self._held))

    async def _send(
        self,
        held: _Held,
        cursor: _Cursor,
        told: JsonObject,
        position: int,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - of News
    ) -> bool:
        """Send one notification; False: the pusher is not ours any more."""
        pusher = cursor.pusher
        if cursor not in held.cursors or self._is_stopping:
            return False
        try:
            is_taken = await self._pass_on(pusher, told, is_urgent=is_urgent)
        except GatewayFailed as error:
            await self._put_off(held, cursor, error)
            return False
        async with self._ctx.db.transaction() as tx:
            if is_taken:
                pushed.labels("sent").inc()
                is_ours = await pushers.save(tx, pusher, self._me, position)
            else:
                pushed.labels("rejected").inc()
                user_id, app_id = pusher.user_id, pusher.app_id
                await pushers.delete_pusher(tx, user_id, app_id, pusher.pushkey)
                is_ours = False
        if not is_ours:
            self._drop(held, cursor)
            return False
        cursor.failures = 0
        cursor.position = max(cursor.position, position)
        return True

    async def _pass_on(
        self, pusher: Pusher, told: JsonObject, *, is_urgent: bool
    ) -> bool:
        """Send a notification its way; False: its push key is rejected."""
        if pusher.kind == WEB_PUSH:
            return await self._web_push.send(pusher, told, is_urgent=is_urgent)
        rejected = await self._gateways.notify(str(pusher.data["url"]), told)
        return pusher.pushkey not in rejected

    async def _send_token(self, held: _Held, cursor: _Cursor) -> None:
        """Have the client of a new Web Push subscription show that it gets messages."""
        pusher, is_there = cursor.pusher, True
        try:
            if cursor.token:
                is_there = await self._web_push.send_token(pusher, cursor.token)
        except GatewayFailed as error:
            await self._put_off(held, cursor, error)
            return
        async with self._ctx.db.transaction() as tx:
            if is_there:
                await pushers.note_token_sent(tx, pusher, self._me)
            else:
                user_id, app_id = pusher.user_id, pusher.app_id
                await pushers.delete_pusher(tx, user_id, app_id, pusher.pushkey)
        self._drop(held, cursor)

    async def _put_off(
        self, held: _Held, cursor: _Cursor, error: GatewayFailed
    ) -> None:
        """Try again later, each time after a longer while."""
        pushed.labels("failed").inc()
        delay = min(_FIRST_DELAY * 2**cursor.failures, _LONGEST_DELAY)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - only spreads retries
        delay = max(delay, error.retry_after_s)
        log.info("a push gateway failed", reason=str(error), retry_seconds=delay)
        async with self._ctx.db.transaction() as tx:
            await pushers.note_failure(tx, cursor.pusher, self._me, delay)
        self._drop(held, cursor)

    @staticmethod
    def _drop(held: _Held, cursor: _Cursor) -> None:
        if cursor in held.cursors:
            held.cursors.remove(cursor)

    # ── Holding ──────────────────────────────────────────────────────────────────

    async def _renew(self) -> None:
        """Keep what is ours; let go of those for whom nothing happens.

        What somebody else held who is gone is taken over.
        """
        now = self._ctx.clock.monotonic()
        for user_id, held in list(self._held.items()):
            if now - held.active_at > _IDLE_SECONDS:
                self._start(user_id, held)
        if self._held:
            async with self._ctx.db.transaction() as tx:
                await pushers.renew(tx, list(self._held), self._me, LEASE_SECONDS)
        async with self._ctx.db.read() as tx:
            orphaned = await pushers.orphaned(tx, _SWEPT)
        self._users.update(orphaned)
        for user_id in orphaned:
            self._not_before.pop(user_id)
        self._kick(orphaned)

    async def _let_go(self, several: Sequence[_Held]) -> None:
        cursors = []
        for held in several:
            self._held.pop(held.user.user_id, None)
            if held.cursors:
                position = min(cursor.position for cursor in held.cursors)
                cursors.append((held.user.user_id, position))
        async with self._ctx.db.transaction() as tx:
            await pushers.release(tx, cursors, self._me)
        held_users.set(len(self._held))

    async def _retry(self) -> None:
        """Try gateways again, and ask again for what others held."""
        async with self._ctx.db.read() as tx:
            user_ids = await pushers.failed(tx, _SWEPT)
        self._users.update(user_ids)
        # Failing pushers of a user are taken beside those that are held.
        for user_id in user_ids:
            self._not_before.pop(user_id)
            held = self._held.get(user_id)
            if held is not None:
                self._start(user_id, held)
        self._kick(user_ids)

    async def _sweep(self) -> None:
        """Take over what nobody sends, such as after a crash."""
        async with self._ctx.db.read() as tx:
            self._users.update(await pushers.users_with_pushers(tx, MOST + 1))
        while True:
            async with self._ctx.db.read() as tx:
                user_ids = await pushers.due(tx, _SWEPT)
            self._kick(user_ids)
            if len(user_ids) < _SWEPT:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
