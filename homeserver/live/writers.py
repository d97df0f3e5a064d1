"""One room, one writer at a time in this process, without waiting for commits.

A writer builds on the room as it will be once all that it has submitted is committed,
so several events of one room share a batch. When a step fails, those that built on it
find a conflict, and their callers read again and retry.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final
from weakref import WeakValueDictionary

from federation.ids import UserId
from federation.pdu import StateKey
from homeserver.events.events import Events
from homeserver.live.committer import Committer, Overloaded
from homeserver.live.room import PRESENT, Head, Room
from homeserver.live.steps import Conflict, Step

_MAX_WAITING: Final = 500  # callers that wait to write to one room


class RoomWriter:
    """The room as its next event must see it: the view and what is being committed."""

    def __init__(self, room: Room, committer: Committer, events: Events) -> None:
        self.room = room
        self._committer = committer
        self._events = events
        self._pending: list[Step] = []
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.alone = 0  # retries for which the other processes wait now

    @property
    def head(self) -> Head:
        """What the next event builds on."""
        return self._pending[-1].head if self._pending else self.room.head

    def state_nid(self, key: StateKey) -> int | None:
        """The number of the event at that key of the current state."""
        for step in reversed(self._pending):
            if key in step.state:
                return step.state[key]
        return self.room.state.get(key)

    def membership(self, user_id: UserId) -> str | None:
        """The user's membership when it is join, invite or knock."""
        for step in reversed(self._pending):
            if user_id in step.members:
                membership = step.members[user_id][0]
                return membership if membership in PRESENT else None
        member = self.room.members.get(user_id)
        return member.membership if member else None

    async def quieten(self) -> None:
        """Wait for what was submitted while other processes might still be faster."""
        while any(not step.is_alone for step in self._pending):
            await asyncio.wait((self._pending[-1].future,))

    @contextlib.contextmanager
    def unmoved(self) -> Iterator[None]:
        """Build something upon the head. Raises: Conflict, when the head has moved.

        Then another process wrote first, or what was built on has failed: whatever went
        wrong in the block went wrong because of that.
        """
        guard = self.head.guard
        try:
            yield
        except Exception as error:
            if self.head.guard != guard:
                raise Conflict from error
            raise
        if self.head.guard != guard:
            raise Conflict

    async def settled(self) -> None:
        """Wait until all that was submitted is committed. Raises: Conflict."""
        if self._pending:
            last = self._pending[-1].future
            await asyncio.wait((last,))
            if last.cancelled() or last.exception() is not None:
                raise Conflict

    def reload(self, room: Room) -> None:
        """Go on with another copy of the room; what is pending will find conflicts."""
        self.room = room
        self._pending.clear()

    def submit(self, step: Step) -> None:
        """Hand a step to the committer; the next one builds on it."""
        step.is_alone = self.alone > 0
        self._committer.submit(step)
        self._pending.append(step)
        step.future.add_done_callback(lambda _: self._settled(step))

    def _settled(self, step: Step) -> None:
        at = self._pending.index(step) if step in self._pending else None
        if not step.future.cancelled() and step.future.exception() is None:
            if at is not None:
                del self._pending[: at + 1]
            return
        # What was built on it cannot be committed either. Nobody may build on any of it
        # from this moment on, so it is forgotten here and not when its turn comes.
        failed = [step] if at is None else self._pending[at:]
        if at is not None:
            del self._pending[at:]
        for each in failed:
            for event in each.events:
                self._events.discard(event)
            if not each.future.done():
                each.future.set_exception(Conflict())


class Writers:
    """The writers of all rooms that are being written to."""

    def __init__(self, committer: Committer, events: Events) -> None:
        self._committer = committer
        self._events = events
        self._writers: WeakValueDictionary[int, RoomWriter] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def hold(self, room: Room) -> AsyncIterator[RoomWriter]:
        """Be the room's only writer for as long as the block lasts.

        Raises: Overloaded when too many wait for this room already.
        """
        writer = self._writer_of(room)
        if writer.room is not room:  # the view was loaded anew
            writer.reload(room)
        if writer.waiting >= _MAX_WAITING:
            raise Overloaded
        writer.waiting += 1
        try:
            async with writer.lock:
                if writer.alone:
                    await writer.quieten()
                yield writer
        finally:
            writer.waiting -= 1

    def guard_of(self, room: Room) -> int:
        """The guard of the room as this process knows it."""
        return self._writer_of(room).room.head.guard

    @contextlib.contextmanager
    def alone(self, room: Room) -> Iterator[None]:
        """Note that the other processes wait until this one has written to the room."""
        writer = self._writer_of(room)
        writer.alone += 1
        try:
            yield
        finally:
            writer.alone -= 1

    def _writer_of(self, room: Room) -> RoomWriter:
        writer = self._writers.get(room.nid)
        if writer is None:
            writer = RoomWriter(room, self._committer, self._events)
            self._writers[room.nid] = writer
        return writer
