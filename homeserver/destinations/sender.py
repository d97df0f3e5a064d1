"""Which destinations this process sends to, and what there is to send to them.

Spec: server-server-api#transactions
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Awaitable, Callable, Sized
from typing import Final, Self

import structlog
from prometheus_client import Gauge

from federation.edu import Edu, Presence
from federation.ids import ServerName, server_of
from federation.wire.backoff import FIRST_SECONDS, BackoffState
from homeserver.bounded import KIB, MEMORY, MIB, LruCache, Worth
from homeserver.context import Context
from homeserver.db import leases
from homeserver.db.errors import DatabaseUnavailable
from homeserver.destinations import store
from homeserver.destinations.delivery import Delivery
from homeserver.destinations.destination import MAX_PRESENCE, Destination, Item
from homeserver.destinations.queue import target_server
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta

_Work = Callable[[], Awaitable[None]]

# Whose process is gone is taken over within ten seconds, all in all.
LEASE_SECONDS: Final = 6.0
_RENEW_SECONDS: Final = 1.5
_SWEEP_SECONDS: Final = 2.0
_SAVE_SECONDS: Final = 1.0
_SWEPT: Final = 200
# Who holds a destination keeps it for so long without anything to send.
_IDLE_SECONDS: Final = 120.0
# A destination that another process holds is asked for again after this.
_HELD_ELSEWHERE_SECONDS: Final = 1.5
_STOP_SECONDS: Final = 5.0
_REMEMBERED: Final = 50_000
# Servers held and asked for; of more, the sweep and other processes take care.
_MOST_HELD: Final = 20_000
_MOST_WANTED: Final = 50_000
_HELD_COST: Final = 8 * KIB  # bytes with its queue, whose items all servers share
_WANTED_COST: Final = 150
_TIMES_BYTES: Final = 12 * MIB
_TIME_COST: Final = 100
_STASH_BYTES: Final = 8 * MIB
_STASH_COST: Final = 600
_EDU_COST: Final = 1000
_HEARD_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)
held_destinations = Gauge(
    "hearth_held_destinations", "Servers that this process sends to"
)


def _stash_cost(stashed: Sized) -> int:
    return _STASH_COST + _EDU_COST * len(stashed)


class Sender:
    """One process's share of the sending; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._lease_until = 0.0
        self._is_stopping = False
        self._delivery = Delivery(ctx, self._me, self._may_send, self._fell_asleep)
        self._held: dict[ServerName, Destination] = {}
        # Monotonic times before which a destination is not asked for.
        self._not_before: LruCache[ServerName, float] = LruCache(
            "servers of other processes", _TIMES_BYTES, _TIME_COST, Worth.NEEDED
        )
        self._heard_at: LruCache[ServerName, float] = LruCache(
            "servers heard of", _TIMES_BYTES, _TIME_COST, Worth.NEEDED
        )
        # Typing and presence for destinations that are being asked for.
        self._stash: LruCache[ServerName, dict[tuple[int, str], Edu]] = LruCache(
            "typing to be sent", _STASH_BYTES, _stash_cost
        )
        self._stash_presence: LruCache[ServerName, dict[str, Presence]] = LruCache(
            "presence to be sent", _STASH_BYTES, _stash_cost
        )
        self._wanted: set[ServerName] = set()
        self._heard: set[ServerName] = set()
        self._unknown_rooms: set[int] = set()
        self._swept_at = 0  # the view's position at the last sweep
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        MEMORY.add_queue(
            "servers to send to",
            self,
            Sender.bytes,
            _MOST_HELD * _HELD_COST + 3 * _MOST_WANTED * _WANTED_COST,
        )

    def bytes(self) -> int:
        """What is held of servers, roughly."""
        asked = len(self._wanted) + len(self._heard) + len(self._unknown_rooms)
        return _HELD_COST * len(self._held) + _WANTED_COST * asked

    # ── Life ─────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        await self._renew()
        async with self._ctx.db.read() as tx:
            failing = await store.failing(tx, _REMEMBERED)
        self._ctx.wire.backoff.load(map(_backoff_of, failing))
        self._ctx.live.on_events(self._on_events)
        self._ctx.live.view.on_reset(self._on_reset)
        for kind in (Kind.TO_DEVICE, Kind.DEVICE_LIST, Kind.TOKENS):
            self._ctx.live.on_change(kind, self._on_edus)
        self._ctx.on_sign_of_life.append(self.heard_from)
        self._tasks = [
            asyncio.create_task(self._repeat(work, seconds), name=f"sender-{name}")
            for name, work, seconds in (
                ("renew", self._renew, _RENEW_SECONDS),
                ("sweep", self._sweep, _SWEEP_SECONDS),
                ("save", self._save, _SAVE_SECONDS),
            )
        ]
        self._tasks.append(asyncio.create_task(self._claim_loop(), name="sender-claim"))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is under way, then let other processes go on."""
        self._is_stopping = True
        self._ctx.on_sign_of_life.remove(self.heard_from)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        sending = [d.task for d in self._held.values() if d.task is not None]
        if sending:
            await asyncio.wait(sending, timeout=_STOP_SECONDS)
        cursors = [(d.name, d.cursor) for d in self._held.values()]
        self._drop_all()
        with contextlib.suppress(DatabaseUnavailable):
            async with self._ctx.db.transaction() as tx:
                await store.save_cursors(tx, cursors, self._me, release=True)
                await store.release_all(tx, self._me)
                await leases.release(tx, (store.lease_of(self._me),), self._me)

    async def _repeat(self, work: _Work, seconds: float) -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailable as error:
                log.warning("sender waits for the database", reason=str(error))
            except Exception:
                log.exception("sender stumbled")
            await asyncio.sleep(seconds)

    def _drop_all(self) -> None:
        for destination in self._held.values():
            destination.end()
        self._held.clear()

    # ── The lease ────────────────────────────────────────────────────────────────

    async def _renew(self) -> None:
        """Keep the lease. Once it was lost, others may have taken our destinations."""
        now = self._ctx.clock.monotonic()
        async with self._ctx.db.transaction() as tx:
            await leases.claim(tx, store.lease_of(self._me), self._me, LEASE_SECONDS)
        if now > self._lease_until:
            self._wanted.update(self._held)
            self._drop_all()
            self._wake.set()
        self._lease_until = now + LEASE_SECONDS

    def _may_send(self) -> bool:
        is_ours = self._ctx.clock.monotonic() < self._lease_until
        return is_ours and not self._is_stopping

    # ── What happens in rooms ────────────────────────────────────────────────────

    def _on_events(self, delta: RoomDelta, room: Room | None) -> None:
        if room is not None and _has_join_of_ours(delta, room):
            # The joining user's device list may have been left for any of them.
            for server in room.servers.keys() - {room.our_name}:
                self._nudge(server)
        for server in _come(delta, room):
            self._nudge(server)  # it may have to be told what was said before
        for event in delta.events:
            if not event.outgoing or event.position is None:
                continue
            servers = {*target_server(event), *(() if room is None else room.servers)}
            item = Item(event.position, event_nid=event.nid)
            for server in servers - {
                self._ctx.server_name,
                server_of(event.pdu.sender),
            }:
                self.offer(server, item)
            # Another process wrote to a room that is not at hand.
            if room is None and len(self._unknown_rooms) < _MOST_WANTED:
                self._unknown_rooms.add(delta.room_nid)
                self._wake.set()

    def offer(self, server: ServerName, item: Item) -> None:
        """Send something that is kept: at once, when the server is ours to send to."""
        destination = self._held.get(server)
        if destination is None:
            self._want(server)
            return
        destination.offer(item)
        self._delivery.kick(destination)

    def _on_edus(self, _position: int, change: Change) -> None:
        """EDUs that must not be lost have been stored for servers: read them."""
        for name in change.reach.servers if change.reach else ():
            self._nudge(ServerName(name))

    def _nudge(self, server: ServerName) -> None:
        destination = self._held.get(server)
        if destination is None:
            self._want(server)
        else:
            # At once, or the cursor could go past what is to be read.
            destination.fall_behind()
            self._delivery.kick(destination)

    def offer_typing(self, server: ServerName, key: tuple[int, str], edu: Edu) -> None:
        """Send what a user does in a room now, if the server can be reached."""
        destination = self._held.get(server)
        if destination is None:
            if self._want(server):
                stashed = self._stash.peek(server) or {}
                self._stash.put(server, {**stashed, key: edu})
        elif not destination.is_paused:
            destination.offer_typing(key, edu)
            self._delivery.kick(destination)

    def offer_presence(self, server: ServerName, update: Presence) -> None:
        """Send how a user is, if the server can be reached."""
        destination = self._held.get(server)
        if destination is None:
            stashed = self._stash_presence.peek(server) or {}
            if len(stashed) < MAX_PRESENCE and self._want(server):
                self._stash_presence.put(server, {**stashed, update.user_id: update})
        elif not destination.is_paused:
            destination.offer_presence(update)
            self._delivery.kick(destination)

    def _on_reset(self) -> None:
        """The view has missed something: what was queued may not be all."""
        for destination in self._held.values():
            destination.fall_behind()
            self._delivery.kick(destination)

    def _fell_asleep(self, destination: Destination, delay: float) -> None:
        self._held.pop(destination.name, None)
        self._not_before.put(destination.name, self._ctx.clock.monotonic() + delay)

    def heard_from(self, server: ServerName) -> None:
        """A server has sent us a request, so it can be reached."""
        now = self._ctx.clock.monotonic()
        destination = self._held.get(server)
        if destination is not None:
            is_due = now - destination.active_at > FIRST_SECONDS
            if destination.is_paused and destination.is_silent and is_due:
                self._delivery.resume(destination)
            return
        heard_at = self._heard_at.get(server)
        is_asleep = self._not_before.peek(server) is not None
        is_news = is_asleep or heard_at is None or now - heard_at > _HEARD_SECONDS
        if is_news and len(self._heard) < _MOST_WANTED:
            self._heard_at.put(server, now)
            self._heard.add(server)
            self._wake.set()

    # ── Claiming ─────────────────────────────────────────────────────────────────

    def _want(self, server: ServerName) -> bool:
        """Ask for a destination; False when that is known to be in vain just now."""
        not_before = self._not_before.get(server)
        if not_before is not None and not_before > self._ctx.clock.monotonic():
            return False
        if len(self._wanted) >= _MOST_WANTED:
            return False
        self._wanted.add(server)
        self._wake.set()
        return True

    async def _claim_loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._look_at_rooms()
                await self._note_heard()
                await self._claim()
            except DatabaseUnavailable as error:
                log.warning("sender waits for the database", reason=str(error))
                await asyncio.sleep(_SAVE_SECONDS)
                self._wake.set()
            except Exception:
                log.exception("sender stumbled")

    async def _look_at_rooms(self) -> None:
        """Rooms moved that are not at hand: all servers in them may be behind."""
        if not self._unknown_rooms:
            return
        rooms = list(self._unknown_rooms)
        self._unknown_rooms.clear()
        async with self._ctx.db.read() as tx:
            servers = await store.servers_in_rooms(tx, rooms)
        for server in servers:
            destination = self._held.get(server)
            if destination is None:
                self._want(server)
            else:
                destination.fall_behind()
                self._delivery.kick(destination)

    async def _note_heard(self) -> None:
        if not self._heard:
            return
        heard = list(self._heard)
        self._heard.clear()
        async with self._ctx.db.transaction() as tx:
            recovered = await store.note_recovery(tx, heard)
        for server in recovered:
            self._not_before.pop(server)
            self._want(server)

    async def _claim(self) -> None:
        wanted = [server for server in self._wanted if server not in self._held]
        if not wanted or not self._may_send():
            return
        self._wanted.clear()
        wanted = wanted[: max(0, _MOST_HELD - len(self._held))]
        async with self._ctx.db.transaction() as tx:
            claimed = await store.claim(tx, wanted, self._me)
            names = {row.server_name for row in claimed}
            refused = [server for server in wanted if server not in names]
            waits = await store.waits(tx, refused) if refused else {}
        now = self._ctx.clock.monotonic()
        for row in claimed:
            destination = Destination(
                row.server_name,
                cursor=row.position,
                is_failing=row.is_failing,
                was_away=row.is_failing,
                retry_seconds=row.retry_seconds,
                active_at=now,
                typing=self._stash.pop(row.server_name) or {},
                presence=self._stash_presence.pop(row.server_name) or {},
            )
            self._held[row.server_name] = destination
            self._not_before.pop(row.server_name)
            self._delivery.kick(destination)
        for server in refused:
            self._stash.pop(server)
            self._stash_presence.pop(server)
            seconds = waits.get(server, _HELD_ELSEWHERE_SECONDS)
            self._not_before.put(server, now + seconds)
        held_destinations.set(len(self._held))

    async def _sweep(self) -> None:
        """Take over what nobody sends, and give back what has nothing to send."""
        async with self._ctx.db.read() as tx:
            servers = await store.due(tx, _SWEPT)
        for server in servers:
            if server not in self._held:
                self._not_before.pop(server)
                self._want(server)
        # Up to the last sweep everything has been offered, receipts included.
        upto, self._swept_at = self._swept_at, self._ctx.live.position
        now = self._ctx.clock.monotonic()
        idle = [
            d
            for d in self._held.values()
            if d.is_idle and now - d.active_at > _IDLE_SECONDS
        ]
        if idle:
            await self._let_go([(d.name, max(d.cursor, upto)) for d in idle])

    async def _let_go(self, cursors: list[tuple[ServerName, int]]) -> None:
        for server, _ in cursors:
            self._held.pop(server).end()
            self._delivery.moved.discard(server)
        async with self._ctx.db.transaction() as tx:
            await store.save_cursors(tx, cursors, self._me, release=True)
        held_destinations.set(len(self._held))

    async def _save(self) -> None:
        """Write the cursors that have moved. Losing the last second repeats it."""
        moved = self._delivery.moved
        cursors = [(n, self._held[n].cursor) for n in moved if n in self._held]
        moved.clear()
        if cursors:
            async with self._ctx.db.transaction() as tx:
                await store.save_cursors(tx, cursors, self._me, release=False)


def _has_join_of_ours(delta: RoomDelta, room: Room) -> bool:
    return any(
        member.membership == "join" and server_of(user_id) == room.our_name
        for user_id, member in delta.members.items()
    )


def _come(delta: RoomDelta, room: Room | None) -> set[ServerName]:
    """Other servers that have come into the room with their first user."""
    if room is None:
        return set()
    joined = {server_of(u) for u, m in delta.members.items() if m.membership == "join"}
    return {s for s in joined if s != room.our_name and room.servers[s] == 1}


def _backoff_of(failing: store.Failing) -> BackoffState:
    seconds = max(failing.retry_seconds, FIRST_SECONDS)
    return BackoffState(
        server=failing.server_name,
        failures=1 + round(math.log2(seconds / FIRST_SECONDS)),
        failing_since=failing.failing_since,
        failed_at=failing.retry_at - failing.retry_seconds,
        retry_at=failing.retry_at,
    )
