"""How long the messages of rooms are kept, and which are over. MSC1763.

What is over is shown to no client, whether it has been deleted yet or not. The deleting
is homeserver/retention.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import MAX_INTEGER, JsonObject
from homeserver.events.events import Events
from homeserver.events.stored import StoredEvent
from homeserver.live.room import Room
from homeserver.live.view import View

RETENTION: Final = ("m.room.retention", "")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What the configuration says, in milliseconds; None: nothing.

    `default` is for rooms that say nothing; `least` and `most` are limits for the
    others.
    """

    default: int | None = None
    least: int | None = None
    most: int | None = None

    def of(self, content: JsonObject | None) -> int | None:
        """How long a room's messages are kept at most; None: for ever.

        Spec: MSC1763, "Defining the effective retention policy of a room"
        """
        if content is None:
            return self.default
        given = content.get("max_lifetime")
        if type(given) is not int or not 0 <= given <= MAX_INTEGER:
            return self.least
        if self.least is not None:
            given = max(given, self.least)
        return given if self.most is None else min(given, self.most)


@dataclass(frozen=True, slots=True)
class Horizon:
    """What of a room is over: messages from before a time, but for its newest."""

    before_ms: int
    spared: frozenset[int]

    def hides(self, event: StoredEvent) -> bool:
        """Whether the event is over."""
        pdu = event.pdu
        return (
            pdu.key is None
            and pdu.origin_server_ts < self.before_ms
            and event.nid not in self.spared
        )


class Retention:
    """The horizons of rooms."""

    def __init__(
        self, view: View, events: Events, now_ms: Callable[[], int], lives: Lifetimes
    ) -> None:
        self._view = view
        self._events = events
        self._now_ms = now_ms
        self.lifetimes = lives
        self.holder = secrets.token_hex(8)

    async def horizon(self, room_nid: int) -> Horizon | None:
        """The room's; None when its messages are kept for ever."""
        room = await self._view.room(room_nid)
        lifetime = None if room is None else self.lifetimes.of(await self._said(room))
        if room is None or lifetime is None:
            return None
        return Horizon(self._now_ms() - lifetime, frozenset(room.head.extremities))

    async def _said(self, room: Room) -> JsonObject | None:
        nid = room.state.get(RETENTION)
        event = None if nid is None else await self._events.by_nid(nid)
        return None if event is None else event.shown.content
