"""How much of a room is unread: notifications and highlights, by thread.

Laws. A count is a function of the room's events, of the user's receipts, of the rules
that were in force when each event came and of whom the user ignores now: whoever
computes it, whenever, gets the same. What is remembered of it, here or in the database,
only shortens the way.

Spec: client-server-api#receiving-notifications
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final
from weakref import WeakKeyDictionary

from federation.ids import UserId
from homeserver.bounded import MEMORY, MIB, LruCache, Worth
from homeserver.db.pool import Database
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.live.room import Member, Room, RoomDelta
from homeserver.push.digests import Digest, Digests, levels_at, mentions_room
from homeserver.push.evaluation import SILENT, Evaluator, Occasion, Outcome
from homeserver.push.known_rules import History, KnownRules
from homeserver.push.marks import (
    Counts,
    Kept,
    Marks,
    joined_since,
    keep_tally,
    read_marks,
    read_tallies,
)
from homeserver.push.pages import Pages
from homeserver.push.rules import NO_EXTRAS, Extras, ruleset_of
from homeserver.receipts.threads import MAIN, is_thread_id, root_of

_TALLIES: Final = 48 * MIB
_TALLY_COST: Final = 500  # bytes, roughly; and of each thread
_THREAD_COST: Final = 200
_REDACTED_ROOMS: Final = 20_000
_REDACTED_COST: Final = 150  # bytes, roughly
_FORGOTTEN: Final = 24 * MIB
_LONG_WAY: Final = 2_000  # events after which a tally is kept
_NOTHING: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Unread:
    """What a user has not read of a room, as of a position."""

    marks: Marks
    upto: int
    counts: Counts
    ignored: frozenset[UserId] = frozenset()
    followed: frozenset[str] = frozenset()  # threads of the room (MSC4306)

    @property
    def key(self) -> str:
        """What it was counted from, as text."""
        text = self.marks.text()
        if self.ignored:
            names = " ".join(sorted(self.ignored)).encode("utf-8", "surrogatepass")
            text += blake2b(names, digest_size=16).hexdigest()
        if self.followed:
            names = " ".join(sorted(self.followed)).encode("utf-8", "surrogatepass")
            text += "t" + blake2b(names, digest_size=16).hexdigest()
        return text

    def total(self) -> tuple[int, int]:
        """Notifications and highlights of all threads together."""
        values = self.counts.values()
        return sum(n for n, _ in values), sum(h for _, h in values)

    def main(self) -> tuple[int, int]:
        """Those of the main timeline."""
        return self.counts.get(MAIN, _NOTHING)

    def threads(self) -> dict[str, tuple[int, int]]:
        """Those of the other threads that have any."""
        return {
            thread: count
            for thread, count in self.counts.items()
            if thread != MAIN and count != _NOTHING
        }


class UnreadCounts:
    """Counts what is unread, and remembers it for those who come back."""

    def __init__(self, db: Database, live: Live, extras: Extras = NO_EXTRAS) -> None:
        self._db = db
        self._live = live
        self.extras = extras
        self.rules = KnownRules(db, live, extras)
        self.digests = Digests(live, extras)
        self.pages = Pages(db, live, self.digests)
        self._tallies: LruCache[tuple[int, str], Unread] = LruCache(
            "unread counts",
            _TALLIES,
            lambda unread: _TALLY_COST + _THREAD_COST * len(unread.marks.threads),
        )
        # Rooms with the last position at which something of them was redacted: what
        # was counted before that does not hold.
        self._redacted: dict[int, int] = {}
        # Counts what is forgotten, and notes when what was, so that what is being read
        # meanwhile is not remembered.
        self._changes = 0
        self._forgotten: LruCache[tuple[int, str], int] = LruCache(
            "unread counts forgotten", _FORGOTTEN, 90, Worth.NEEDED
        )
        self._forgotten_all = 0
        live.on_change(Kind.RECEIPT, self._on_receipt)
        live.on_change(Kind.REDACTED, self._on_redacted)
        live.on_events(self._on_events)
        live.on_reset(self._forget_all)
        MEMORY.add_queue(
            "rooms with redactions",
            self,
            lambda it: it.redacted_rooms * _REDACTED_COST,
            _REDACTED_ROOMS * _REDACTED_COST,
        )

    @property
    def redacted_rooms(self) -> int:
        """Of how many rooms it is noted when something was redacted last."""
        return len(self._redacted)

    def _on_receipt(self, _position: int, change: Change) -> None:
        self._forget(change.room_nid or 0, change.user_id or "")

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        for user_id in delta.members:
            self._forget(delta.room_nid, user_id)

    def _on_redacted(self, position: int, change: Change) -> None:
        if len(self._redacted) >= _REDACTED_ROOMS:
            self._forget_all()
        self._redacted[change.room_nid or 0] = position

    def _forget(self, room_nid: int, user_id: str) -> None:
        self._changes += 1
        self._forgotten.put((room_nid, user_id), self._changes)
        self._tallies.pop((room_nid, user_id))

    def _forget_all(self) -> None:
        self._changes += 1
        self._forgotten_all = self._changes
        self._tallies.clear()
        self._redacted.clear()

    # ── Counting ─────────────────────────────────────────────────────────────────

    async def of_rooms(
        self,
        user_id: UserId,
        members: Mapping[Room, Member],
        upto: int,
        *,
        keep: bool = False,
    ) -> dict[int, Unread]:
        """What the joined user has not read of those rooms, by room number.

        `keep`: in the database as well, however short the way was.
        """
        changes = self._changes
        history = await self.rules.of(user_id)
        known: dict[int, Unread] = {}
        for room in members:
            tally = self._tallies.get((room.nid, user_id))
            if (
                tally is not None
                and tally.upto >= self._redacted.get(room.nid, 0)
                and tally.ignored == history.ignored
                and tally.followed == history.follows_in(room.nid)
            ):
                known[room.nid] = tally
        missing = {r: m for r, m in members.items() if r.nid not in known}
        if missing:
            known.update(await self._begin(user_id, missing, history))
        found = {}
        for room in members:
            tally = known[room.nid]
            if tally.upto < upto:
                tally = await self._count(user_id, room, tally, upto)
            found[room.nid] = tally
            if keep:
                await self._keep(user_id, room, tally, upto)
            self._remember((room.nid, user_id), tally, changes)
        return found

    def _remember(self, key: tuple[int, str], tally: Unread, changes: int) -> None:
        """Remember a tally, unless what it began with was forgotten after `changes`."""
        last = max(self._forgotten_all, self._forgotten.peek(key) or 0)
        if last > changes or self._changes - changes >= _FORGOTTEN:
            return
        old = self._tallies.peek(key)
        if old is None or old.upto < tally.upto:
            self._tallies.put(key, tally)

    async def _begin(
        self,
        user_id: UserId,
        members: Mapping[Room, Member],
        history: History,
    ) -> dict[int, Unread]:
        """Where to begin to count: at what was read, or at a tally that was kept."""
        nids = [room.nid for room in members]
        async with self._db.read() as tx:
            marks = await read_marks(tx, user_id, nids)
        begun = {}
        for room, member in members.items():
            mark = marks[room.nid]
            start = await joined_since(self._live, member, user_id, mark.start)
            mark = Marks(start, mark.threads, mark.moved)
            followed = history.follows_in(room.nid)
            begun[room.nid] = Unread(mark, start, {}, history.ignored, followed)
        far = [room.nid for room in members if begun[room.nid].upto < room.recent_from]
        if far:
            async with self._db.read() as tx:
                kept = await read_tallies(tx, user_id, far)
            for nid, tally in kept.items():
                begin = begun[nid]
                if tally.marks == begin.key:
                    begun[nid] = replace(begin, upto=tally.upto, counts=tally.counts)
        return begun

    async def _count(
        self, user_id: UserId, room: Room, tally: Unread, upto: int
    ) -> Unread:
        """Go on counting from a tally up to a position."""
        history = await self.rules.of(user_id)
        sums = _Sums(user_id, tally)
        seen = self._live.position
        if history.is_default_in(room.room_id, tally.upto, upto):
            async for digests in self.pages.digests(room, tally.upto, upto):
                for digest in digests:
                    sums.add(digest, *digest.means(user_id, tally.followed))
                await self._keep_sums(room, sums, seen)
        else:
            judge = Judge(self._live, room, history)
            async for page in self.pages.events(room, tally.upto, upto):
                for event, digest in page:
                    outcome = SILENT
                    if event.pdu.sender != user_id:
                        outcome = await judge.outcome(event)
                    sums.add(digest, outcome.notifies, outcome.highlights)
                await self._keep_sums(room, sums, seen)
        return replace(tally, upto=upto, counts=sums.counts)

    async def _keep_sums(self, room: Room, sums: "_Sums", seen: int) -> None:
        """Keep a tally in the database when the way was long."""
        if sums.since_kept >= _LONG_WAY:
            sums.since_kept = 0
            tally = replace(sums.begin, upto=sums.upto, counts=sums.counts)
            await self._keep(sums.user_id, room, tally, seen)

    async def _keep(
        self, user_id: UserId, room: Room, tally: Unread, seen: int
    ) -> None:
        kept = Kept(room.nid, tally.key, tally.upto, tally.counts)
        async with self._db.transaction() as tx:
            await keep_tally(tx, user_id, kept, seen)


class _Sums:
    """What is added up for one user on the way."""

    def __init__(self, user_id: UserId, begin: Unread) -> None:
        self.user_id = user_id
        self.begin = begin
        self.marks = begin.marks
        self.ignored = begin.ignored
        self.upto = begin.upto
        self.counts = dict(begin.counts)
        self.since_kept = 0

    def add(self, digest: Digest, notifies: bool, highlights: bool) -> None:  # noqa: FBT001 - what `Digest.means` gives
        """Count one event. What users send says that they have read what is above."""
        self.upto = digest.position
        self.since_kept += 1
        thread = digest.thread
        if digest.sender == self.user_id:
            if digest.reads:
                self.counts.pop(thread, None)
        elif digest.sender in self.ignored:
            return
        elif notifies and digest.position > self.marks.threads.get(thread, 0):
            n, h = self.counts.get(thread, _NOTHING)
            self.counts[thread] = (n + 1, h + highlights)


class Judge:
    """Judges events of one room by a user's rules of their time."""

    def __init__(self, live: Live, room: Room, history: History) -> None:
        self._live = live
        self._room = room
        self._history = history
        self._default: Evaluator | None = None
        self._name: str | None = None
        self._has_name = False

    async def outcome(self, event: StoredEvent, position: int | None = None) -> Outcome:
        """What the rules say of an event that another user sent.

        `position` is for events that have none of their own.
        """
        if event.redaction is not None or event.pdu.sender in self._history.ignored:
            return SILENT
        evaluator = self._history.at(position or event.position or 0)
        if evaluator is None:
            if self._default is None:
                history = self._history
                ruleset = ruleset_of(history.user_id, extras=history.extras)
                self._default = Evaluator(ruleset)
            evaluator = self._default
        levels = None
        if evaluator.asks_levels or mentions_room(event.pdu):
            levels = await levels_at(self._live, event)
        name = await self._display_name()
        follows = await self._follows(event)
        return evaluator.evaluate(
            Occasion(event.pdu, self._room.size, name, levels, follows)
        )

    async def _follows(self, event: StoredEvent) -> bool | None:
        """Whether the user follows the event's thread; None: it is in none."""
        if not self._history.extras.thread_subscriptions:
            return None
        thread = await root_of(self._live.events, event)
        if thread is None or not is_thread_id(thread):
            return None
        return thread in self._history.follows_in(self._room.nid)

    async def _display_name(self) -> str | None:
        if not self._has_name:
            self._has_name = True
            nid = self._room.state.get(("m.room.member", self._history.user_id))
            event = None if nid is None else await self._live.events.by_nid(nid)
            name = None if event is None else event.shown.content.get("displayname")
            self._name = name if isinstance(name, str) else None
        return self._name


_counts: "WeakKeyDictionary[Live, UnreadCounts]" = WeakKeyDictionary()


def unread_counts(db: Database, live: Live, extras: Extras = NO_EXTRAS) -> UnreadCounts:
    """The counts of this process; who asks first says which predefined rules hold."""
    found = _counts.get(live)
    if found is None:
        found = _counts[live] = UnreadCounts(db, live, extras)
    return found
