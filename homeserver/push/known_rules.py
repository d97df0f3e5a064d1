"""The rules of users, compiled, with the positions since which they hold."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.ids import UserId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.push import store
from homeserver.push.evaluation import Evaluator
from homeserver.push.rules import NO_EXTRAS, Extras, Ruleset, ruleset_of
from homeserver.relations import subscriptions

_BYTES: Final = 32 * MIB
_EACH: Final = 400  # bytes, roughly; and of each rule and each who is ignored
_RULE: Final = 1000
_IGNORED: Final = 150


@dataclass(frozen=True, slots=True)
class History:
    """A user's rulesets; each is in force from the position after its own."""

    user_id: UserId
    since: Sequence[int] = ()
    rulesets: Sequence[Ruleset] = ()
    evaluators: Sequence[Evaluator] = ()
    # What the predefined rules are on this server.
    extras: Extras = NO_EXTRAS
    # Of what they send nothing counts; unlike rules, as it is now.
    ignored: frozenset[UserId] = frozenset()
    # The threads that they follow, by room number; also as it is now.
    followed: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def at(self, position: int) -> Evaluator | None:
        """The rules in force at a position; None: the predefined ones."""
        index = bisect_right(self.since, position) - 1
        return None if index < 0 else self.evaluators[index]

    def follows_in(self, room_nid: int) -> frozenset[str]:
        """The threads of a room that they follow."""
        return self.followed.get(room_nid, frozenset())

    def is_default_in(self, room_id: str, after: int, upto: int) -> bool:
        """Whether the predefined rules alone judge the room's events in between."""
        first = max(bisect_right(self.since, after) - 1, 0)
        last = bisect_right(self.since, upto)
        return all(r.is_default_in(room_id) for r in self.rulesets[first:last])


def _cost_of(history: History) -> int:
    rules = sum(len(of) for each in history.rulesets for of in each.rules.values())
    threads = sum(map(len, history.followed.values()))
    return _EACH + _RULE * rules + _IGNORED * (len(history.ignored) + threads)


class KnownRules:
    """Histories by user, as long as nothing of the user's account data changes."""

    def __init__(self, db: Database, live: Live, extras: Extras) -> None:
        self._db = db
        self._extras = extras
        self._live = live
        self._histories: LruCache[UserId, History] = LruCache(
            "push rules", _BYTES, _cost_of
        )
        # Counts what was forgotten, so that what is being read does not outlive it.
        self._changes = 0
        live.on_change(Kind.ACCOUNT_DATA, self._on_change)
        live.on_change(Kind.THREADS, self._on_threads)
        live.on_reset(self._on_reset)

    def _on_change(self, _position: int, change: Change) -> None:
        if change.room_nid is None and change.user_id is not None:
            self._changes += 1
            self._histories.pop(UserId(change.user_id))

    def _on_threads(self, _position: int, change: Change) -> None:
        self._changes += 1
        self._histories.pop(UserId(change.user_id or ""))

    def _on_reset(self) -> None:
        self._changes += 1
        self._histories.clear()

    async def of(self, user_id: UserId) -> History:
        """All that judged, or judges, events for this user."""
        known = self._histories.get(user_id)
        if known is not None:
            return known
        changes = self._changes
        ignored = await self._live.ignored.by(user_id)
        async with self._db.read() as tx:
            read = await store.read_history(tx, user_id)
            followed: Mapping[int, frozenset[str]] = {}
            if self._extras.thread_subscriptions:
                followed = await subscriptions.followed(tx, user_id)
        rulesets = [ruleset_of(user_id, each, self._extras) for _, each in read]
        history = History(
            user_id,
            [position for position, _ in read],
            rulesets,
            [Evaluator(ruleset) for ruleset in rulesets],
            self._extras,
            ignored,
            followed,
        )
        if changes == self._changes:
            self._histories.put(user_id, history)
        return history
