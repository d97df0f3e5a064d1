"""The live view: what hot paths need of rooms and users, all as of one position.

Laws. Only `apply` changes it, with what happened at positions that follow its own, in
order. What is loaded carries the position of its snapshot; the view waits until it has
reached that position, then later changes are replayed from a short log. Everything can
be dropped and loaded again, and everything is bounded.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from federation.ids import ServerName, UserId
from homeserver.bounded import MEMORY, MIB, LruCache, Worth
from homeserver.db.pool import Database, Tx
from homeserver.events.events import Events
from homeserver.events.keys import StateKeys
from homeserver.live import loading
from homeserver.live.changes import Change, Kind
from homeserver.live.pulses import OF_PEOPLE, Pulses, replay
from homeserver.live.room import Member, Pulse, Room, RoomDelta, User
from homeserver.live.waiting import Waiting

_ROOM_BYTES: Final = 192 * MIB
_USER_BYTES: Final = 32 * MIB
_LOG_LENGTH: Final = 2000
_LOG_BYTES: Final = 16 * MIB
_LOGGED: Final = 500  # bytes of a change in the log, roughly; and of what it names
_LOGGED_ENTRY: Final = 150
_LOAD_TRIES: Final = 5
# What moves the user of its column.
_OF_USER: Final = frozenset(
    (
        Kind.FORGOTTEN,
        Kind.ACCOUNT_DATA,
        Kind.DEVICE_KEYS,
        Kind.DEVICE_LIST,
        Kind.TOKENS,
        Kind.THREADS,
    )
)

Loaded = TypeVar("Loaded")
Applied = RoomDelta | tuple[int, Change]
Listener = Callable[[int, Change], None]
RoomListener = Callable[[RoomDelta, Room | None], None]


class View:
    """Rooms, users and when they moved. `reach` makes the follower catch up."""

    def __init__(
        self, db: Database, events: Events, keys: StateKeys, our_name: ServerName
    ) -> None:
        self.position = 0
        self.is_stopping = False
        self.our_name = our_name
        self._db = db
        self._events = events
        self._keys = keys
        self._rooms: LruCache[int, Room] = LruCache(
            "rooms", _ROOM_BYTES, lambda room: room.cost, Worth.DEAR
        )
        self._users: LruCache[str, User] = LruCache(
            "users", _USER_BYTES, lambda user: user.cost, Worth.DEAR
        )
        # Whatever somebody still holds goes on moving, also once it is forgotten.
        self._held_rooms: WeakValueDictionary[int, Room] = WeakValueDictionary()
        self._held_users: WeakValueDictionary[str, User] = WeakValueDictionary()
        self._pulses = Pulses()
        self._loading_rooms: dict[int, asyncio.Future[Room | None]] = {}
        self.waiting = Waiting()
        self._waiting_for_position: list[tuple[int, asyncio.Future[None]]] = []
        self._log: deque[Applied] = deque()
        self._log_bytes = 0
        MEMORY.add_queue("changes lately", self, lambda v: v.log_bytes, _LOG_BYTES)
        self._log_from = 0  # the log holds everything after this position
        self._listeners: dict[Kind, list[Listener]] = {}
        self._room_listeners: list[RoomListener] = []
        self._reset_listeners: list[Callable[[], None]] = []
        # The follower's part: catch up to a position; stand still while this is held;
        # find what state a partial delta left.
        self.reach: Callable[[int], Awaitable[None]]
        self.still: asyncio.Lock
        self.complete: Callable[[Room, RoomDelta], Awaitable[RoomDelta]]

    def on_change(self, kind: Kind, listener: Listener) -> None:
        """Call `listener(position, change)` for each change of that kind."""
        self._listeners.setdefault(kind, []).append(listener)

    def on_events(self, listener: RoomListener) -> None:
        """Call `listener(delta, room)` after each commit to a room.

        `room` is None when it is not at hand in this process.
        """
        self._room_listeners.append(listener)

    def on_reset(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when changes were missed: forget what you have."""
        self._reset_listeners.append(listener)

    # ── Moving forward ───────────────────────────────────────────────────────────

    def apply(self, last: int, applied: Sequence[Applied]) -> None:
        """Move to position `last` over what happened up to it, in order."""
        for item in applied:
            if isinstance(item, RoomDelta):
                self._note(item.for_log())
                self._apply_room(item)
            else:
                self._note(item)
                self._apply_change(*item)
        while self._log and (
            len(self._log) > _LOG_LENGTH or self._log_bytes > _LOG_BYTES
        ):
            old = self._log.popleft()
            self._log_bytes -= _cost_in_log(old)
            self._log_from = _last_of(old)
        self.position = last
        self._wake_position_waiters()

    def _note(self, item: Applied) -> None:
        self._log.append(item)
        self._log_bytes += _cost_in_log(item)

    @property
    def log_bytes(self) -> int:
        """What the log of the last changes takes, roughly."""
        return self._log_bytes

    @property
    def last(self) -> tuple[int, int | None] | None:
        """Position and reference (`changes.ref`) of the last change at hand."""
        for item in reversed(self._log):
            if not isinstance(item, RoomDelta):
                return item[0], item[1].ref
            if item.events and item.events[-1].position is not None:
                return item.events[-1].position, item.events[-1].nid
        return None

    def reset(self, position: int) -> None:
        """Forget everything and go on from that position: too much was missed."""
        self._rooms.clear()
        self._users.clear()
        self._held_rooms.clear()
        self._held_users.clear()
        self._pulses.reset(position)
        self._log.clear()
        self._log_bytes = 0
        self._log_from = self.position = position
        for listener in self._reset_listeners:
            listener()
        self.waiting.wake_all()
        self._wake_position_waiters()

    def _apply_room(self, delta: RoomDelta) -> None:
        for event in delta.events:
            self._events.put(event)
        room = self._held_rooms.get(delta.room_nid)
        # Those who leave with this commit hear of it too.
        leaving = room.joined_local.intersection(delta.members) if room else ()
        if room is not None:
            room.apply(delta)
            if delta.state or delta.members:
                self._rooms.weigh(room.nid)
        self._pulses.note_events(delta)
        for user_id, member in delta.members.items():
            user = self._held_users.get(user_id)
            if user is not None and delta.last > user.position:
                user.rooms[delta.room_nid] = member
                user.moved = delta.last
                self._users.weigh(user_id)
                self.waiting.wake(user.user_id)
        self._wake_room(delta.room_nid, room, leaving)
        for listener in self._room_listeners:
            listener(delta, room)

    def _apply_change(self, position: int, change: Change) -> None:
        match change.kind:
            case Kind.RECEIPT | Kind.TYPING | Kind.STICKY:
                self._move_rooms(position, change)
            case Kind.REDACTED | Kind.BACKFILLED if change.ref is not None:
                self._events.forget(change.ref)
            case Kind.MEMBERSHIP:
                self._set_membership(position, change)
            case Kind.FORGOTTEN | Kind.ACCOUNT_DATA | Kind.DEVICE_KEYS | Kind.THREADS:
                self._move_user(position, change)
            case Kind.DEVICE_LIST | Kind.TOKENS:
                self._move_user(position, change)
                self._move_rooms(position, change)
            case Kind.PRESENCE | Kind.PROFILE:
                self._move_people(position, change)
            case Kind.TO_DEVICE if change.reach is not None:
                for user_id in change.reach.users:
                    self._move_inbox(position, user_id)
            case _:
                pass
        for listener in self._listeners.get(change.kind, ()):
            listener(position, change)

    def _move_rooms(self, position: int, change: Change) -> None:
        for room_nid in self._pulses.note_change(position, change):
            self._wake_room(room_nid, self._held_rooms.get(room_nid), ())

    def _move_people(self, position: int, change: Change) -> None:
        """What somebody says of themselves: only those wake who want to know."""
        user = self._held_users.get(change.user_id or "")
        if user is not None:
            user.people = max(user.people, position)
            self.waiting.wake_for_people(user.user_id)
        for room_nid in self._pulses.note_change(position, change):
            room = self._held_rooms.get(room_nid)
            for user_id in self.waiting.among(room_nid, room):
                self.waiting.wake_for_people(user_id)

    def _move_inbox(self, position: int, user_id: str) -> None:
        user = self._held_users.get(user_id)
        if user is not None and position > user.position:
            user.to_device = user.moved = position
            self.waiting.wake(user.user_id)

    def _set_membership(self, position: int, change: Change) -> None:
        """A membership in a room whose events we do not get."""
        member = Member(change.membership or "leave", change.ref or 0, position)
        user_id, room_nid = UserId(change.user_id or ""), change.room_nid or 0
        room = self._held_rooms.get(room_nid)
        if room is not None:
            room.set_aside_member(user_id, member, position)
        user = self._held_users.get(user_id)
        if user is not None and position > user.position:
            user.rooms[room_nid] = member
            user.moved = position
            self._users.weigh(user_id)
            self.waiting.wake(user.user_id)

    def _move_user(self, position: int, change: Change) -> None:
        user = self._held_users.get(change.user_id or "")
        if user is None or position <= user.position:
            return
        if change.kind is Kind.FORGOTTEN and change.room_nid in user.rooms:
            old = user.rooms[change.room_nid]
            user.rooms[change.room_nid] = Member(
                old.membership, old.event_nid, old.position, forgotten=True
            )
        user.moved = position
        self.waiting.wake(user.user_id)

    def _wake_room(
        self, room_nid: int, room: Room | None, leaving: Iterable[UserId]
    ) -> None:
        for user_id in self.waiting.among(room_nid, room):
            self.waiting.wake(user_id)
        for user_id in leaving:
            self.waiting.wake(user_id)

    # ── Waiting ──────────────────────────────────────────────────────────────────

    async def wait(
        self, user: User, since: int, timeout_s: float, *, people: bool = False
    ) -> None:
        """Return when anything of this user moved past `since`, or after a while.

        `people`: also when somebody's presence or profile did.
        """
        moved = await self.has_moved(user, since, people=people)
        if timeout_s <= 0 or moved or self.is_stopping:
            return
        # Nothing was awaited since the look, so nothing was missed.
        await self.waiting.wait(user, timeout_s, people=people)

    def stop_waiting(self) -> None:
        """Let everybody go on who waits: the server is about to stop."""
        self.is_stopping = True
        self.waiting.wake_all()

    async def has_moved(self, user: User, since: int, *, people: bool = False) -> bool:
        """Whether anything that the user can sync moved after a position.

        `people`: or presence or profile of somebody.
        """
        if user.moved > since or (people and await self.people_moved(user, since)):
            return True
        return bool(await self.rooms_moved(user, since))

    async def rooms_moved(self, user: User, since: int) -> list[int]:
        """The user's joined rooms in which anything moved that every client wants."""
        moved = self._pulses.moved(since, user.rooms)
        if moved is None:
            pulses = await self.pulses(user.joined)
            moved = [nid for nid, pulse in pulses.items() if pulse.last > since]
        return moved

    async def people_moved(self, user: User, since: int) -> bool:
        """Whether presence or profile of somebody moved after a position."""
        if user.people > since:
            return True
        moved = self._pulses.moved(since, user.rooms, people=True)
        if moved is None:
            pulses = await self.pulses(user.joined)
            return any(pulse.people > since for pulse in pulses.values())
        return bool(moved)

    async def wait_for_position(self, position: int, timeout_s: float) -> bool:
        """Wait until the view is at a position; False when it took too long."""
        if self.position >= position:
            return True
        await self.reach(position)
        if self.position >= position:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (position, waiter)
        self._waiting_for_position.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting_for_position.remove(entry)
        return True

    def _wake_position_waiters(self) -> None:
        for position, waiter in self._waiting_for_position:
            if position <= self.position and not waiter.done():
                waiter.set_result(None)

    # ── Loading ──────────────────────────────────────────────────────────────────

    async def room(self, nid: int) -> Room | None:
        """One room by number."""
        room = self._rooms.get(nid)
        return room if room is not None else (await self.rooms((nid,))).get(nid)

    def loaded_room(self, nid: int) -> Room | None:
        """The room when it is at hand."""
        return self._held_rooms.get(nid)

    async def rooms(self, nids: Iterable[int]) -> dict[int, Room]:
        """Those rooms that exist; the missing ones are read in few queries."""
        found: dict[int, Room] = {}
        waiting: dict[int, asyncio.Future[Room | None]] = {}
        missing: list[int] = []
        for nid in nids:
            room = self._rooms.get(nid) or self._held_rooms.get(nid)
            if room is not None:
                found[nid] = room
            elif nid in self._loading_rooms:
                waiting[nid] = self._loading_rooms[nid]
            else:
                missing.append(nid)
        if missing:
            found.update(await self._load_rooms(missing))
        for nid, future in waiting.items():
            room = await future
            if room is not None:
                found[nid] = room
        return found

    async def _load_rooms(self, nids: list[int]) -> dict[int, Room]:
        loop = asyncio.get_running_loop()
        futures = {nid: loop.create_future() for nid in nids}
        self._loading_rooms.update(futures)
        rooms: dict[int, Room] = {}
        try:
            rooms = await self._read_rooms(nids)
        finally:
            for nid, future in futures.items():
                del self._loading_rooms[nid]
                future.set_result(rooms.get(nid))
        return rooms

    async def _read_rooms(self, nids: list[int]) -> dict[int, Room]:
        def read(tx: Tx, position: int) -> Awaitable[list[Room]]:
            return loading.read_rooms(tx, nids, position, self._keys, self.our_name)

        loaded, position = await self._load(read)
        if len(loaded) < len(nids):  # a replica lacks what has taken no position yet
            loaded, position = await self._load(read, is_new=True)
        rooms = {room.nid: room for room in loaded}
        # Stand still, so that no partial delta is on its way to a room that is kept.
        async with self.still:
            for delta in self._missed(position, rooms):
                room = rooms[delta.room_nid]
                if delta.is_partial:
                    delta = await self.complete(room, delta)  # noqa: PLW2901
                room.apply(delta)
            for nid, room in rooms.items():
                self._rooms.put(nid, room)
                self._held_rooms[nid] = room
        return rooms

    def _missed(self, position: int, rooms: Mapping[int, Room]) -> list[RoomDelta]:
        """What happened to those rooms after the snapshot."""
        return [
            item
            for item in self._log
            if isinstance(item, RoomDelta)
            and item.last > position
            and item.room_nid in rooms
        ]

    async def user(self, user_id: UserId) -> User:
        """A local user; one who does not exist has no rooms."""
        user = self._users.get(user_id) or self._held_users.get(user_id)
        if user is not None:
            return user
        loaded, position = await self._load(
            lambda tx, position: loading.read_user(tx, user_id, position)
        )
        user = self._held_users.get(user_id)  # another call may have been faster
        if user is None:
            user = loaded
            self._held_users[user_id] = user
            for item in self._log:
                if _last_of(item) > position:
                    self._replay_user(user, item)
        self._users.put(user_id, user)
        return user

    def _replay_user(self, user: User, item: Applied) -> None:
        if isinstance(item, RoomDelta):
            member = item.members.get(user.user_id)
            if member is not None:
                user.rooms[item.room_nid] = member
                user.moved = item.last
            return
        position, change = item
        if change.kind is Kind.MEMBERSHIP and change.user_id == user.user_id:
            self._set_membership(position, change)
        if change.user_id == user.user_id:
            if change.kind in _OF_USER:
                self._move_user(position, change)
            elif change.kind in OF_PEOPLE:
                user.people = position
        if change.reach is not None and user.user_id in change.reach.users:
            self._move_inbox(position, user.user_id)

    async def pulses(self, nids: Iterable[int]) -> dict[int, Pulse]:
        """When those rooms moved last."""
        found: dict[int, Pulse] = {}
        missing: list[int] = []
        for nid in nids:
            pulse = self._pulses.get(nid)
            if pulse is None:
                missing.append(nid)
            else:
                found[nid] = pulse
        if missing:
            loaded, position = await self._load(
                lambda tx, position: loading.read_pulses(tx, missing, position)
            )
            for item in self._log:
                if _last_of(item) > position:
                    replay(loaded, item)
            for nid, pulse in loaded.items():
                found[nid] = self._pulses.keep(nid, pulse)
        return found

    async def _load(
        self, read: Callable[[Tx, int], Awaitable[Loaded]], *, is_new: bool = False
    ) -> tuple[Loaded, int]:
        """Read from a snapshot that the view has reached and can replay from."""

        async def load(tx: Tx) -> tuple[Loaded, int]:
            position = await loading.position_of(tx)
            return await read(tx, position), position

        for _ in range(_LOAD_TRIES):
            if is_new:
                async with self._db.snapshot() as tx:
                    loaded, position = await load(tx)
            else:
                loaded, position = await self._db.read_old(load)
            if self.position < position:
                await self.reach(position)
            if position >= self._log_from and self.position >= position:
                return loaded, position
        raise TimeoutError("the live view moves faster than rooms can be loaded")


def _last_of(item: Applied) -> int:
    return item.last if isinstance(item, RoomDelta) else item[0]


def _cost_in_log(item: Applied) -> int:
    """Bytes in memory, roughly."""
    if isinstance(item, RoomDelta):
        entries = len(item.state) + len(item.members) + len(item.placed)
        return _LOGGED + _LOGGED_ENTRY * entries
    reach = item[1].reach
    if reach is None:
        return _LOGGED
    concerned = len(reach.users) + len(reach.rooms) + len(reach.servers)
    return _LOGGED + _LOGGED_ENTRY * concerned
