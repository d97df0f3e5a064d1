"""What a client asked for, and how its events are written."""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from federation.canonical_json import JsonObject
from homeserver.clock import Clock
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.events.client_format import (
    Sight,
    Viewer,
    render,
    render_bytes,
)
from homeserver.events.filters import Filter, pick_fields
from homeserver.live.live import Live
from homeserver.push.counts import UnreadCounts, unread_counts
from homeserver.sync.lazy import SentMembers

Rendered = orjson.Fragment | JsonObject


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One call of /sync: who, since when, and in which form.

    `since` is None for an initial sync. `inbox` is how far the device has messages.
    """

    viewer: Viewer
    since: int | None
    filter: Filter
    inbox: int = 0
    full_state: bool = False
    use_state_after: bool = False
    # COMPAT(matrix-js-sdk): it asks by the proposal's names (MSC4222), and reads those.
    says_unstable: bool = False
    with_presence: bool = False

    @property
    def lazy(self) -> bool:
        """Whether members come only where they are needed."""
        return self.filter.room.state.lazy_load_members

    @property
    def is_plain(self) -> bool:
        """Whether events are written whole, in the format of clients."""
        wanted = self.filter
        return wanted.event_format != "federation" and wanted.event_fields is None

    @property
    def state_name(self) -> str:
        """The section that holds state."""
        if not self.use_state_after:
            return "state"
        return "org.matrix.msc4222.state_after" if self.says_unstable else "state_after"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the sections get what they show."""

    db: Database
    live: Live
    clock: Clock
    sent: SentMembers
    counts: UnreadCounts

    @classmethod
    def of(cls, ctx: Context, sent: SentMembers) -> "Sources":
        """The sources of one request."""
        counts = unread_counts(ctx.db, ctx.live)
        return cls(ctx.db, ctx.live, ctx.clock, sent, counts)


def renderer(request: SyncRequest, now_ms: int) -> Callable[[Sight], Rendered]:
    """How events are written for this request; room IDs stand outside of them."""
    viewer, wanted = request.viewer, request.filter

    def as_client(sight: Sight) -> Rendered:
        return render(sight, viewer, now_ms, with_room_id=False)

    def as_fields(sight: Sight) -> Rendered:
        shown = orjson.loads(render_bytes(sight, viewer, now_ms, with_room_id=False))
        return pick_fields(shown, wanted.event_fields or ())

    def as_federation(sight: Sight) -> Rendered:
        pdu = sight.event.shown
        written: JsonObject = {**pdu.json, "event_id": pdu.event_id}
        if wanted.event_fields is None:
            return written
        return pick_fields(written, wanted.event_fields)

    if wanted.event_format == "federation":
        return as_federation
    return as_client if wanted.event_fields is None else as_fields
