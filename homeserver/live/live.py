"""The live part of a process as one thing: view, committer, follower, writers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final

import asyncpg
import structlog

from federation.ids import RoomId, ServerName, UserId
from homeserver import errors
from homeserver.bounded import MIB, LruCache
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database
from homeserver.events.events import Events
from homeserver.events.keys import StateKeys
from homeserver.events.numbers import Numbers
from homeserver.live import loading
from homeserver.live.changes import Change, Kind, StoreFunction
from homeserver.live.committer import Committer
from homeserver.live.contention import Contention
from homeserver.live.erased import Erased
from homeserver.live.follower import Follower
from homeserver.live.ignored import Ignored
from homeserver.live.invite_rules import InviteRules
from homeserver.live.partial import PARTIAL
from homeserver.live.retention import Retention
from homeserver.live.reversals import REVERSALS
from homeserver.live.room import Member, Pulse, Room, User
from homeserver.live.steps import EDGES, REDACTIONS, Consequence
from homeserver.live.view import Listener, RoomListener, View
from homeserver.live.writers import Writers
from homeserver.state.resolve import Resolver
from homeserver.state.states import States
from homeserver.wake_ups.base import WakeUps
from homeserver.wake_ups.postgresql import PostgresqlWakeUps

_ROOM_IDS: Final = 32 * MIB
_TRIM_SECONDS: Final = 300.0
_KEEP: Final = "1 hour"

log = structlog.get_logger(__name__)


class Live:
    """What a process needs of rooms and users, and the way to write to them."""

    def __init__(
        self,
        db: Database,
        our_name: ServerName,
        consequences: Sequence[Consequence] = (),
        wake_ups: WakeUps | None = None,
    ) -> None:
        self._db = db
        db.known_position = lambda: self.view.position
        self.our_name = our_name
        self.events = Events(db)
        self.states = States(db, StateKeys(db))
        self.resolver = Resolver(db, self.events, self.states)
        self.room_numbers = Numbers(db, "room_nids")
        self.view = View(db, self.events, self.states.keys, our_name)
        self.wake_ups = wake_ups or PostgresqlWakeUps(db)
        self.follower = Follower(db, self.view, self.states, self.wake_ups)
        self.ignored = Ignored(db, self.view)
        self.invite_rules = InviteRules(db, self.view)
        self.retention: Retention | None = None  # None: messages stay for ever
        self.erased = Erased(db, self.view)
        self.committer = Committer(
            db,
            self.follower,
            our_name,
            (REDACTIONS, EDGES, PARTIAL, REVERSALS, *consequences),
        )
        self.writers = Writers(self.committer, self.events)
        self.contention = Contention(db, self.follower, self.writers)
        self._room_nids: LruCache[str, int] = LruCache("room numbers", _ROOM_IDS, 130)
        self._trimmer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the present position and begin to follow and to commit."""
        await self.follower.start()
        self.committer.start()
        self._trimmer = asyncio.create_task(self._trim(), name="trim-changes")

    async def stop(self) -> None:
        """Commit what waits, then stop."""
        if self._trimmer is not None:
            self._trimmer.cancel()
        await self.committer.stop()
        await self.follower.stop()
        await self.wake_ups.close()

    @property
    def position(self) -> int:
        """The position of the view."""
        return self.view.position

    @property
    def is_stopping(self) -> bool:
        """Whether long polls are to be answered now."""
        return self.view.is_stopping

    def stop_waiting(self) -> None:
        """Let every long poll be answered: the server is about to stop."""
        self.view.stop_waiting()

    def on_change(self, kind: Kind, listener: Listener) -> None:
        """Call `listener(position, change)` for each change of that kind."""
        self.view.on_change(kind, listener)

    def on_events(self, listener: RoomListener) -> None:
        """Call `listener(delta, room)` after each commit to a room."""
        self.view.on_events(listener)

    def on_reset(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when changes were missed: forget what you have."""
        self.view.on_reset(listener)

    async def commit(
        self, function: StoreFunction, item: object, change: Change
    ) -> int:
        """Write one item; its position, once the view has reached it."""
        return await self.committer.commit(function, item, change)

    @contextlib.asynccontextmanager
    async def retrying(self, room: Room, attempt: int) -> AsyncIterator[None]:
        """Surround one of several attempts to write to a room, counted from 0.

        After a conflict, and for a while after one, processes take turns at the room.
        """
        if attempt:
            self.contention.note(room)
        if self.contention.is_contended(room):
            async with self.contention.turn(room):
                yield
        else:
            yield

    # ── Rooms ────────────────────────────────────────────────────────────────────

    async def room_nid(self, room_id: str) -> int | None:
        """The number of a room that has anything here."""
        nid = self._room_nids.get(room_id)
        if nid is None:
            async with self._db.read() as tx:
                nid = await loading.room_nid_of(tx, room_id)
            if nid is not None:
                self._room_nids.put(room_id, nid)
        return nid

    async def room(self, room_id: str) -> Room | None:
        """The room, or None when nothing of it is here."""
        nid = await self.room_nid(room_id)
        return None if nid is None else await self.view.room(nid)

    async def rooms(self, nids: Iterable[int]) -> dict[int, Room]:
        """Those rooms, by number."""
        return await self.view.rooms(nids)

    async def pulses(self, nids: Iterable[int]) -> dict[int, Pulse]:
        """When those rooms moved last."""
        return await self.view.pulses(nids)

    async def require_joined(self, room_id: RoomId, user_id: UserId) -> Room:
        """The room, of which the user is a joined member.

        Raises: M_FORBIDDEN otherwise, also when there is no such room, so that nobody
        learns which rooms exist.
        """
        room = await self.room(room_id)
        if room is None or not room.is_joined(user_id):
            await self.follower.pull()  # another process may be a moment ahead
            room = await self.room(room_id)
        if room is None or not room.is_joined(user_id):
            raise errors.forbidden("You are not in this room; join it first.")
        return room

    # ── Users ────────────────────────────────────────────────────────────────────

    async def user(self, user_id: UserId) -> User:
        """A local user's memberships; one who does not exist has none."""
        return await self.view.user(user_id)

    async def membership(self, user_id: UserId, room_nid: int) -> Member | None:
        """A local user's membership in a room, whatever it is."""
        return (await self.view.user(user_id)).rooms.get(room_nid)

    async def wait(
        self, user: User, since: int, timeout_s: float, *, people: bool = False
    ) -> None:
        """Return when anything of this user moved past `since`, or after a while.

        `people`: also when somebody's presence or profile did.
        """
        await self.view.wait(user, since, timeout_s, people=people)

    # ── Upkeep ───────────────────────────────────────────────────────────────────

    async def _trim(self) -> None:
        """Delete changes that are over an hour old; who is further behind reloads."""
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            try:
                async with self._db.transaction() as tx:
                    await tx.execute(
                        """
                        WITH old AS (
                            DELETE FROM changes WHERE at < now() - $1::text::interval
                            RETURNING position
                        )
                        UPDATE sequencer
                           SET trimmed_to = greatest(trimmed_to, old.last)
                          FROM (SELECT max(position) AS last FROM old) AS old
                         WHERE old.last IS NOT NULL
                        """,
                        _KEEP,
                    )
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("cannot trim changes", reason=str(error))
