"""Who waits for news, in this process."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from federation.ids import UserId
from homeserver.live.room import Room, User

Waiters = set[asyncio.Future[None]]


@dataclass(frozen=True, slots=True)
class _OfUser:
    user: User
    all: Waiters = field(default_factory=set)
    with_people: Waiters = field(default_factory=set)  # also for presence, profiles

    @property
    def is_empty(self) -> bool:
        return not self.all and not self.with_people


class Waiting:
    """The long polls of each user. Only who waits takes any memory here."""

    def __init__(self) -> None:
        self._of: dict[UserId, _OfUser] = {}

    async def wait(self, user: User, timeout_s: float, *, people: bool) -> None:
        """Return when the user is woken, or after a while."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found = self._of.get(user.user_id)
        if found is None or found.user is not user:
            # Those who wait for a user as they were before were woken by that.
            found = self._of[user.user_id] = _OfUser(user)
        waiters = found.with_people if people else found.all
        waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
                # COMPAT(matrix-js-sdk): who sends an event in a thread has to hear its
                # ID before /sync tells it. Their turn is next.
                await asyncio.sleep(0)
        except TimeoutError:
            pass
        finally:
            waiters.discard(waiter)
            if found.is_empty and self._of.get(user.user_id) is found:
                del self._of[user.user_id]

    def of(self, user_id: str) -> int:
        """How many wait for this user."""
        found = self._of.get(UserId(user_id))
        return 0 if found is None else len(found.all) + len(found.with_people)

    def wake(self, user_id: str) -> None:
        """Let everybody go on who waits for this user."""
        found = self._of.get(UserId(user_id))
        if found is not None:
            _wake(found.all)
            _wake(found.with_people)

    def wake_for_people(self, user_id: str) -> None:
        """Let those go on who want to know of presence and profiles."""
        found = self._of.get(UserId(user_id))
        if found is not None:
            _wake(found.with_people)

    def wake_all(self) -> None:
        """Let everybody go on."""
        for user_id in list(self._of):
            self.wake(user_id)

    def among(self, room_nid: int, room: Room | None) -> Collection[UserId]:
        """Those who wait of the room's members."""
        if not self._of:
            return ()
        if room is None:  # not at hand: ask each who waits
            return [u for u, each in self._of.items() if room_nid in each.user.rooms]
        return room.joined_local & self._of.keys()


def _wake(waiters: Waiters) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
