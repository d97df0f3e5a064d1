"""Whom users ignore: at hand until their account data moves.

Spec: client-server-api#ignoring-users
"""

from typing import Final

import orjson

from federation.ids import UserId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.view import View

TYPE: Final = "m.ignored_user_list"
_BYTES: Final = 24 * MIB
_USER_COST: Final = 150  # bytes, roughly; and of each who is ignored
_IGNORED_COST: Final = 150


class Ignored:
    """Whom each local user ignores now."""

    def __init__(self, db: Database, view: View) -> None:
        self._db = db
        self._by: LruCache[str, frozenset[UserId]] = LruCache(
            "ignored users",
            _BYTES,
            lambda ignored: _USER_COST + _IGNORED_COST * len(ignored),
        )
        # Counts what was forgotten, so that what is being read does not outlive it.
        self._changes = 0
        view.on_change(Kind.ACCOUNT_DATA, self._on_change)
        view.on_reset(self._on_reset)

    def _on_change(self, _position: int, change: Change) -> None:
        if change.room_nid is None and change.user_id is not None:
            self._changes += 1
            self._by.pop(change.user_id)

    def _on_reset(self) -> None:
        self._changes += 1
        self._by.clear()

    async def by(self, user_id: UserId) -> frozenset[UserId]:
        """Whom the user ignores; nobody ignores themselves."""
        known = self._by.get(user_id)
        if known is not None:
            return known
        changes = self._changes
        async with self._db.read() as tx:
            text = await tx.fetchval(
                """
                SELECT content FROM account_data
                 WHERE user_id = $1 AND room_nid = 0 AND type = $2
                """,
                user_id,
                TYPE,
            )
        ignored = frozenset[UserId]() if text is None else _ignored_in(text, user_id)
        if changes == self._changes:
            self._by.put(user_id, ignored)
        return ignored


def _ignored_in(text: str, user_id: UserId) -> frozenset[UserId]:
    """The users that the content names, whatever a client has put there."""
    users = orjson.loads(text).get("ignored_users")
    if not isinstance(users, dict):
        return frozenset()
    return frozenset(map(UserId, users.keys() - {user_id}))
