"""Users of ours who want what they said to be erased: all of them, at hand.

Spec: client-server-api#post_matrixclientv3accountdeactivate
"""

from federation.ids import UserId
from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.view import View


class Erased:
    """Whose events are not for those who come later."""

    def __init__(self, db: Database, view: View) -> None:
        self._db = db
        self._users: frozenset[UserId] | None = None
        self._changes = 0
        view.on_change(Kind.DEACTIVATED, self._on_change)
        view.on_reset(self._forget)

    def _on_change(self, _position: int, _change: Change) -> None:
        self._forget()

    def _forget(self) -> None:
        self._changes += 1
        self._users = None

    async def users(self) -> frozenset[UserId]:
        """All of them."""
        if self._users is not None:
            return self._users
        changes = self._changes
        async with self._db.read() as tx:
            rows = await tx.fetch("SELECT user_id FROM users WHERE erased")
        users = frozenset(UserId(row["user_id"]) for row in rows)
        if changes == self._changes:
            self._users = users
        return users
