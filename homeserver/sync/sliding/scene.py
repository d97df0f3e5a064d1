"""What all parts of one answer share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from federation.ids import EventId
from homeserver.events.client_format import Sight, Viewer, render
from homeserver.live.room import Member
from homeserver.sync.request import Sources
from homeserver.sync.sliding.connection import Draft, Phase, Sent
from homeserver.sync.sliding.facts import Facts
from homeserver.sync.sliding.lists import Moves, Shown
from homeserver.sync.unwritten import Unwritten


@dataclass(frozen=True, slots=True)
class Scene:
    """One answer in the making, as of `upto`.

    `draft.position` is where the client's token stands; of a new connection, `upto`.
    """

    sources: Sources
    facts: Facts
    viewer: Viewer
    draft: Draft
    upto: int
    now_ms: int
    is_newer: bool  # the names of the proposal's last text
    unwritten: Unwritten = field(default_factory=Unwritten)

    def write(self, sight: Sight) -> orjson.Fragment:
        """The event as the client gets it."""
        return render(sight, self.viewer, self.now_ms, with_room_id=False)


@dataclass(frozen=True, slots=True)
class Place:
    """One room before its user and this connection."""

    nid: int
    member: Member
    phase: Phase
    moves: Moves
    shown: Shown
    is_dm: bool
    sent: Sent | None
    marks: tuple[bytes, ...]  # the parts of required state that the client has
    since: int  # up to where the client has its events; 0 when it has nothing

    @property
    def is_fresh(self) -> bool:
        """Whether all of it is to be sent."""
        return self.sent is None or self.sent.phase is not self.phase

    @property
    def is_expanded(self) -> bool:
        """Whether more of the newest events are wanted than the client has."""
        if self.sent is None or self.is_fresh:
            return False
        return self.shown.config.timeline_limit > self.sent.shown


@dataclass(frozen=True, slots=True)
class Section:
    """One room's section: it costs as much as it has events and entries of state.

    `sent` is what the client has with it; `event_ids` are those of the timeline.
    """

    json: Mapping[str, object]
    size: int
    sent: Sent
    event_ids: Sequence[EventId] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """An extension's section; what is no news is told beside other things only.

    Unless `is_all`, who asks again gets something at once.
    """

    json: Mapping[str, object]
    is_news: bool = True
    is_all: bool = True
