"""What a process keeps of one server that it sends to."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.bodies import MAX_EDUS, MAX_PDUS, Transaction
from federation.edu import (
    Edu,
    Presence,
    Receipt,
    presence_to_edu,
    receipts_to_edus,
)
from federation.ids import ServerName

MAX_QUEUE: Final = 500
# Typing and presence are dropped first.
MAX_TYPING: Final = 50
MAX_PRESENCE: Final = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to send, in its place: an event by number, a receipt, or an EDU."""

    position: int
    event_nid: int | None = None
    receipt: Receipt | None = None
    edu: Edu | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one transaction; the cursor moves to `last` with it."""

    items: Sequence[Item]
    last: int
    typing: Sequence[Edu] = ()
    presence: Sequence[Presence] = ()

    @property
    def event_nids(self) -> list[int]:
        """The numbers of its events, in order."""
        return [i.event_nid for i in self.items if i.event_nid is not None]

    def edus(self) -> list[Edu]:
        """Its EDUs: those that must not be lost first."""
        found = [item.edu for item in self.items if item.edu is not None]
        receipts = [item.receipt for item in self.items if item.receipt is not None]
        found += receipts_to_edus(receipts)
        if self.presence and len(found) < MAX_EDUS:
            found.append(presence_to_edu(self.presence))
        return [*found, *self.typing[: MAX_EDUS - len(found)]]


def cut(items: Sequence[Item], upto: int) -> Batch:
    """The first of the items, as many as one transaction holds; all are up to `upto`.

    Each receipt counts as an EDU, which it may become.
    """
    events = edus = 0
    for count, item in enumerate(items):
        events += item.event_nid is not None
        edus += item.event_nid is None
        if events > MAX_PDUS or edus > MAX_EDUS:
            return Batch(items[:count], items[count - 1].position)
    return Batch(items, upto)


@dataclass(slots=True, eq=False)
class Destination:
    """A server that is ours to send to.

    `cursor`: everything up to it was sent. `seen`: everything after the cursor and up
    to it is in the queue. `is_behind`: the queue is not all there is; the database is.
    """

    name: ServerName
    cursor: int
    seen: int = 0
    is_behind: bool = True
    is_failing: bool = False
    # It failed since it had everything last, so the backlog may be long.
    was_away: bool = False
    retry_seconds: float = 0.0
    queue: deque[Item] = field(default_factory=deque)
    typing: dict[tuple[int, str], Edu] = field(default_factory=dict)
    presence: dict[str, Presence] = field(default_factory=dict)
    # The transaction that failed, to be repeated as it was: (ID, transaction, batch).
    unanswered: tuple[str, Transaction, Batch] | None = None
    task: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = None
    # Whether the server did not answer, so that any sign of life ends the pause.
    is_silent: bool = False
    active_at: float = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether it failed and waits to be tried again."""
        return self.timer is not None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do for it."""
        return (
            self.task is None
            and not self.is_paused
            and not self.queue
            and not self.is_behind
        )

    def end(self) -> None:
        """Stop whatever is under way for it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.task is not None:
            self.task.cancel()

    def offer(self, item: Item) -> None:
        """Queue something fresh; too much falls back on the database."""
        if self.is_behind or item.position <= self.seen:
            return
        if len(self.queue) >= MAX_QUEUE:
            self.fall_behind()
        else:
            self.queue.append(item)

    def fall_behind(self) -> None:
        """Forget the queue: everything is read from the database again."""
        self.queue.clear()
        self.is_behind = True

    def offer_typing(self, key: tuple[int, str], edu: Edu) -> None:
        """Queue typing of a user in a room; only the last counts."""
        if key in self.typing or len(self.typing) < MAX_TYPING:
            self.typing[key] = edu

    def offer_presence(self, update: Presence) -> None:
        """Queue how a user is; only the last counts."""
        if update.user_id in self.presence or len(self.presence) < MAX_PRESENCE:
            self.presence[update.user_id] = update

    def take(self) -> Batch | None:
        """The next batch from the queue; None when there is nothing."""
        if not self.queue and not self.typing and not self.presence:
            return None
        items = in_order(self.queue)
        batch = cut(items, items[-1].position if items else self.cursor)
        self.queue = deque(items[len(batch.items) :])
        typing = list(self.typing.values())
        presence = list(self.presence.values())
        self.drop_fleeting()
        return Batch(batch.items, batch.last, typing, presence)

    def drop_fleeting(self) -> None:
        """Forget typing and presence: there is no point in telling them later."""
        self.typing.clear()
        self.presence.clear()


def in_order(*items: Iterable[Item]) -> list[Item]:
    """All the items by position."""
    return sorted((i for some in items for i in some), key=lambda i: i.position)
