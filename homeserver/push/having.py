"""Who has a pusher, as one process knows it: nearly nobody else need be asked about.

Where more have one than a process may hold, anybody of ours counts as having one, and
whoever has none is found out when they are asked about.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from federation.ids import ServerName, UserId, server_of
from homeserver.bounded import MEMORY

MOST: Final = 200_000
_EACH: Final = 150  # bytes, roughly


class Having:
    """The users with pushers. `is_full`: there are more than are kept."""

    def __init__(self, our_name: ServerName, most: int = MOST) -> None:
        self._our_name = our_name
        self._most = most
        self._users: set[UserId] = set()
        self.is_full = False
        MEMORY.add_queue("people with pushers", self, Having.bytes, most * _EACH)

    def bytes(self) -> int:
        """What they take, roughly."""
        return _EACH * len(self._users)

    def __bool__(self) -> bool:
        return self.is_full or bool(self._users)

    def __contains__(self, user_id: object) -> bool:
        if self.is_full and isinstance(user_id, str):
            return server_of(UserId(user_id)) == self._our_name
        return user_id in self._users

    def __iter__(self) -> Iterator[UserId]:
        """Those that are known, which may be none when there are too many."""
        return iter(self._users)

    def among(self, users: Collection[UserId]) -> set[UserId]:
        """Those of the users who may have one."""
        if self.is_full:
            return {user_id for user_id in users if user_id in self}
        return self._users.intersection(users)

    def update(self, users: Iterable[UserId]) -> None:
        """These have one."""
        if self.is_full:
            return
        self._users.update(users)
        if len(self._users) > self._most:
            self.is_full = True
            self._users.clear()

    def discard(self, user_id: UserId) -> None:
        """Somebody has none after all."""
        self._users.discard(user_id)
